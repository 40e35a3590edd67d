"""The serial proxy on real sockets, in front of an upstream that sends every byte back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest

from channel_emulator import serial_proxy
from channel_emulator.chain import channel_rng
from channel_emulator.channels import create_channel
from channel_emulator.link import bit_errors
from semantic_codec.errors import AlreadyExists, ConfigError
from semantic_codec.serial_framing import SerialReceiver, add_sync
from tests.channel_emulator.test_frame_channels import within_five_sigma

DATA = np.random.default_rng(0).bytes(5000)


class EchoLine:
    """Sends all bytes back; keeps them, too."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                self.received += data
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def upstream() -> AsyncIterator[EchoLine]:
    echo = EchoLine()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    echo.address = "{}:{}".format(*server.sockets[0].getsockname())
    yield echo
    server.close()


async def create(emulator, upstream, up=(), down=(), **more):
    body = {"name": "wire", "kind": "serial", "upstream": upstream.address, "up": list(up), "down": list(down)} | more
    return await emulator.create(body)


async def exchange(link, data: bytes = DATA) -> bytes:
    """What comes back for `data` on a line of its own, until the other end closes it."""
    listen = link.settings.listen
    reader, writer = await asyncio.open_connection(listen.host, listen.port)
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read(-1)
    finally:
        writer.close()


async def test_bytes_pass_both_ways_untouched_without_channels(emulator, upstream):
    link = await create(emulator, upstream)
    assert await exchange(link) == DATA
    for direction in ("up", "down"):
        assert link.tallies[direction].bits == 8 * len(DATA)
        assert set(link.tallies[direction].frames) == {"clean"}
    assert link.in_flight == 0


async def test_bits_flip_both_ways_and_are_counted(emulator, upstream):
    link = await create(emulator, upstream, [{"channel": "bsc", "ber": 0.05}], [{"channel": "bsc", "ber": 0.2}], seed=3)
    back = await exchange(link)
    assert link.tallies["up"].flipped == bit_errors(DATA, bytes(upstream.received)) > 0
    assert link.tallies["down"].flipped == bit_errors(bytes(upstream.received), back) > 0


async def test_the_flips_are_those_of_the_offline_channel(emulator, upstream):
    link = await create(emulator, upstream, [{"channel": "bsc", "ber": 0.1}], seed=5)
    await exchange(link)
    mask = create_channel("bsc", ber=0.1).flip_mask(1, 8 * len(DATA), channel_rng(5))
    expected = np.packbits(mask) ^ np.frombuffer(DATA, dtype=np.uint8)
    assert bytes(upstream.received) == expected.tobytes()


async def test_bytes_get_lost_and_appear_and_flips_are_still_counted_right(emulator, upstream):
    channels = [
        {"channel": "bsc", "ber": 0.01},
        {"channel": "byte_loss", "probability": 0.02},
        {"channel": "byte_insertion", "probability": 0.03},
    ]
    link = await create(emulator, upstream, channels, seed=1)
    await exchange(link)
    up = link.as_json()["stats"]["up"]
    bsc, loss, insertion = up["channels"]
    assert len(upstream.received) == len(DATA) - loss["lost"] + insertion["added"] != len(DATA)
    assert 0 < up["bits_flipped"] <= bsc["flipped"] and 0.005 < up["true_ber"] < 0.02


async def test_a_bit_that_is_flipped_twice_arrives_right(emulator, upstream):
    link = await create(emulator, upstream, 2 * [{"channel": "bsc", "ber": 0.5}], seed=6)
    await exchange(link)
    assert link.tallies["up"].flipped == bit_errors(DATA, bytes(upstream.received)) < 4.5 * len(DATA)


async def test_flips_of_bytes_that_never_arrive_are_not_counted(emulator, upstream):
    channels = [{"channel": "bsc", "ber": 0.1}, {"channel": "byte_loss", "probability": 0.9}]
    link = await create(emulator, upstream, channels, seed=7)
    await exchange(link)
    up = link.as_json()["stats"]["up"]
    assert up["bits"] == 8 * len(upstream.received)
    assert within_five_sigma(up["bits_flipped"], 0.1, up["bits"])


async def test_frames_are_found_behind_a_bad_line(emulator, upstream):
    frames = [bytes([1, number, 255 - number, 255, 1]) for number in range(200)]
    link = await create(emulator, upstream, [{"channel": "byte_loss", "probability": 0.005}], seed=2)
    await exchange(link, b"".join(map(add_sync, frames)))

    def read(candidates):
        return [frame if frame in frames else None for frame in candidates]

    found = SerialReceiver([5], read).feed(bytes(upstream.received))
    lost = link.as_json()["stats"]["up"]["channels"][0]["lost"]
    assert 200 - lost <= len(found) < 200


async def test_a_slow_line_keeps_its_order_and_its_rate(emulator, upstream):
    channels = [{"channel": "rate", "bits_per_s": 400_000.0}, {"channel": "delay", "delay_ms": 5, "jitter_ms": 5}]
    link = await create(emulator, upstream, channels)
    started = asyncio.get_running_loop().time()
    assert await exchange(link, DATA[:3000]) == DATA[:3000]
    assert asyncio.get_running_loop().time() - started >= 3000 * 8 / 400_000


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_slow_line_holds_its_sender_back_and_drops_nothing(emulator, upstream, direction):
    link = await create(emulator, upstream, **{direction: [{"channel": "rate", "bits_per_s": 400_000, "queue_frames": 8}]})
    started = asyncio.get_running_loop().time()
    assert await exchange(link, 2 * DATA) == 2 * DATA
    assert asyncio.get_running_loop().time() - started >= 0.99 * 16 * len(DATA) / 400_000
    assert set(link.tallies[direction].frames) == {"clean"}


async def test_each_connection_is_a_line_and_a_device_of_its_own(emulator, upstream):
    link = await create(emulator, upstream, [{"channel": "bsc", "ber": 0.1}])
    first, second = await exchange(link), await exchange(link)
    assert upstream.connections == 2 and len(link.devices) == 2 and first != second
    link.reset()
    assert await exchange(link) == first


async def test_an_upstream_that_is_away_ends_the_line(emulator, upstream):
    link = await create(emulator, upstream)
    link.settings.upstream = type(link.settings.upstream)("127.0.0.1", 9)
    assert await exchange(link) == b""
    assert link.send_errors == 1


async def test_an_answer_that_is_on_its_way_when_the_device_closes_its_side_arrives(emulator, upstream, monkeypatch):
    monkeypatch.setattr(serial_proxy, "LINGER_S", 0.1)
    link = await create(emulator, upstream, down=[{"channel": "delay", "delay_ms": 500}])
    assert await exchange(link) == DATA


async def test_a_device_that_is_gone_does_not_hold_its_line(emulator, monkeypatch):
    monkeypatch.setattr(serial_proxy, "LINGER_S", 0.1)
    ended = asyncio.Event()

    async def talk(reader, writer):
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(10))
                await writer.drain()
                await asyncio.sleep(0.001)
        ended.set()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        upstream = "{}:{}".format(*server.sockets[0].getsockname())
        link = await emulator.create({"name": "wire", "kind": "serial", "upstream": upstream})
        reader, writer = await asyncio.open_connection(link.settings.listen.host, link.settings.listen.port)
        await reader.readexactly(10)
        writer.close()
        async with asyncio.timeout(10):
            await ended.wait()
    assert link.in_flight == 0


async def test_stop_ends_lines_under_way(emulator, upstream):
    link = await create(emulator, upstream)
    reader, writer = await asyncio.open_connection(link.settings.listen.host, link.settings.listen.port)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    await emulator.delete("wire")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_a_line_that_ends_takes_what_was_on_its_way_with_it(emulator, upstream):
    link = await create(emulator, upstream, [{"channel": "delay", "delay_ms": 60_000}])
    _, writer = await asyncio.open_connection(link.settings.listen.host, link.settings.listen.port)
    writer.write(DATA)
    async with asyncio.timeout(10):
        while sum(link.tallies["up"].frames.values()) < len(DATA) / 64:
            await asyncio.sleep(0.005)
    assert link.in_flight >= len(DATA) / 64
    await emulator.delete("wire")
    assert link.in_flight == 0
    writer.close()


async def test_a_port_that_is_taken_is_refused(emulator, upstream):
    with pytest.raises(AlreadyExists, match="is taken"):
        await create(emulator, upstream, listen=upstream.address)


@pytest.mark.parametrize("name", ["erasure", "truncation", "duplication", "reordering"])
async def test_channels_of_frames_are_refused(emulator, upstream, name):
    settings = {"probability": 0.1} | ({"keep_bytes": 1} if name == "truncation" else {})
    settings |= {"hold_ms": 1} if name == "reordering" else {}
    with pytest.raises(ConfigError, match=rf"down\[0\]: {name} is for frames, and a serial link carries bytes"):
        await create(emulator, upstream, down=[{"channel": name, **settings}])


async def test_channels_of_bytes_are_refused_elsewhere(emulator, upstream):
    with pytest.raises(ConfigError, match=r"up\[0\]: byte_loss is for bytes, and a udp link carries frames"):
        await create(emulator, upstream, up=[{"channel": "byte_loss", "probability": 0.1}], kind="udp")
