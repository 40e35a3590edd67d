"""Serial lines over real TCP connections: frames found among noise, replies framed, lines that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge_server import serial_door
from semantic_codec.bundle import Bundle
from semantic_codec.keyed import DeviceKey
from semantic_codec.keyed_reply import KEYED_REPLY_BYTES, read_keyed_reply
from semantic_codec.reply import REPLY_BYTES, ReplyStatus, read_reply
from semantic_codec.serial_framing import SYNC, add_sync
from tests.conftest import ROOT
from tests.edge_server.conftest import running, sample
from tests.edge_server.test_gateway import counted, flipped, frame
from tests.edge_server.test_keyed_frames import keyed
from tests.semantic_codec.test_key_file import ONE, secret


class Line:
    """A device's end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.write, self.writer = reader, writer.write, writer

    async def reply(self, size: int = REPLY_BYTES) -> bytes:
        async with asyncio.timeout(10):
            data = await self.reader.readexactly(len(SYNC) + size)
        assert data.startswith(SYNC)
        return data[len(SYNC) :]


@contextlib.asynccontextmanager
async def line(address: str):
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


async def test_frames_among_noise_are_answered_in_order(bundle_root: Path, bundle: Bundle):
    rng = np.random.default_rng(1)
    async with running(bundle_root, serial_port=0) as (server, at), line(at["serial"]) as device:
        for sequence in range(12):
            device.write(rng.bytes(20) + add_sync(frame(bundle, sequence, level=sequence % 3)))
        replies = [read_reply(await device.reply(), 7) for _ in range(12)]
        assert [reply.sequence for reply in replies] == list(range(12))
        assert {reply.status for reply in replies} == {ReplyStatus.ANSWERED}
        assert sample(server, "weaklink_requests_total", transport="serial", codec="toy", outcome="ok") == 12


async def test_byte_by_byte_and_damaged(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root, serial_port=0) as (_, at), line(at["serial"]) as device:
        for byte in flipped(add_sync(frame(bundle, 5)), 0.03, seed=2):
            device.write(bytes([byte]))
            await asyncio.sleep(0)
        assert read_reply(await device.reply(), 7).sequence == 5


async def test_a_repeated_frame_gets_the_earlier_reply(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root, serial_port=0) as (server, at), line(at["serial"]) as device:
        device.write(add_sync(frame(bundle, 5)))
        first = await device.reply()
        device.write(add_sync(frame(bundle, 5)))
        assert await device.reply() == first
        assert sample(server, "weaklink_frames_total", outcome="duplicate") == 1


async def test_a_lost_byte_costs_one_frame(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root, serial_port=0) as (_, at), line(at["serial"]) as device:
        broken = add_sync(frame(bundle, 1))
        device.write(broken[:12] + broken[13:] + add_sync(frame(bundle, 2)))
        assert read_reply(await device.reply(), 7).sequence == 2


async def test_keyed_frames(bundle_root: Path, bundle: Bundle, tmp_path: Path):
    keys = secret(tmp_path / "keys.toml", f'7 = "{ONE}"\n')
    async with running(bundle_root, serial_port=0, keys=keys) as (server, at), line(at["serial"]) as device:
        device.write(add_sync(frame(bundle, 1)) + add_sync(keyed(bundle, 70_000)))
        reply = read_keyed_reply(await device.reply(KEYED_REPLY_BYTES), 7, DeviceKey.from_hex(ONE))
        assert reply.sequence == 70_000
        device.write(add_sync(keyed(bundle, 70_000)))
        assert await counted(server, "replayed") == 1


async def test_noise_is_no_frame_and_stops_nobody(bundle_root: Path, bundle: Bundle):
    serving = running(bundle_root, serial_port=0)
    async with serving as (server, at), line(at["serial"]) as noisy, line(at["serial"]) as device:
        noisy.write(np.random.default_rng(3).bytes(3 * serial_door.READ_BYTES))
        device.write(add_sync(frame(bundle, 1)))
        assert read_reply(await device.reply(), 7).sequence == 1
        noisy.write(add_sync(frame(bundle, 2, device=8)))
        assert read_reply(await noisy.reply(), 8).sequence == 2
        assert sample(server, "weaklink_frames_total", outcome="ok") == 2


async def test_a_line_that_goes_away_in_the_middle_of_a_frame(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root, serial_port=0) as (_, at):
        async with line(at["serial"]) as gone:
            gone.write(add_sync(frame(bundle, 1))[:10])
        async with line(at["serial"]) as device:
            device.write(add_sync(frame(bundle, 2)))
            assert read_reply(await device.reply(), 7).sequence == 2


async def test_too_many_lines_are_turned_away(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root, serial_port=0) as (server, at), line(at["serial"]) as device:
        server._serial._most_lines = 1
        device.write(add_sync(frame(bundle, 1)))
        await device.reply()
        async with line(at["serial"]) as turned_away, asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await turned_away.reader.read() == b""
        device.write(add_sync(frame(bundle, 2)))
        assert read_reply(await device.reply(), 7).sequence == 2


async def test_without_its_port_nothing_listens(bundle_root: Path):
    async with running(bundle_root) as (server, at):
        assert at["serial"] is None and server._serial._server is None


def test_the_guide_s_line_comes_back_after_a_restart_of_the_edge():
    if shutil.which("socat") is None:
        pytest.skip("needs socat, which is not on PATH")
    command = re.search(r"^    (.*socat /dev/ttyUSB0.*)$", (ROOT / "docs/operating.md").read_text(), re.MULTILINE)[1]
    port, end = pty.openpty()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        command = command.replace("/dev/ttyUSB0", os.ttyname(end)).replace("50053", str(listener.getsockname()[1]))
        joined = subprocess.Popen(["sh", "-c", command], start_new_session=True)
        try:
            for _ in range(2):
                with listener.accept()[0] as connection:
                    connection.settimeout(10)
                    connection.sendall(b"reply")
                    assert os.read(port, 5) == b"reply"
                    os.write(port, b"frame")
                    assert connection.recv(5) == b"frame"
        finally:
            os.killpg(joined.pid, signal.SIGTERM)
            joined.wait(10)
            os.close(port)
            os.close(end)
