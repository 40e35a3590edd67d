"""The server as a process of its own: the ready line, a busy port, and a drain under load."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge_server.__main__ import main
from semantic_codec.bundle import Bundle
from semantic_codec.reply import ReplyStatus, read_reply
from tests.edge_server.conftest import grpc_stub
from tests.edge_server.test_gateway import PAYLOAD, Radio, frame, radio
from weaklink.v1 import edge_pb2

ROOT = Path(__file__).parents[2]
FREE_PORTS = ("--grpc-port", "0", "--udp-port", "0", "--http-port", "0")
PATIENT = ("--threads", "1", "--deadline-s", "60", "--drain-s", "60")  # the machine that tests run on may be busy
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextlib.asynccontextmanager
async def process(bundle_root: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, str]]]:
    command = (sys.executable, "-m", "edge_server", "--bundles", str(bundle_root), *FREE_PORTS, *PATIENT)
    child = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        async with asyncio.timeout(60):
            ready = json.loads(await child.stdout.readline())
        yield child, ready
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def stream_load(stub, started: asyncio.Event) -> tuple[set[int], grpc.StatusCode]:
    """Ids answered on one stream until the server ends it, and how it ended."""
    call, answered = stub.InferStream(), set()

    async def write() -> None:
        number = 0
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await call.write(edge_pb2.InferRequest(bitstream=PAYLOAD, request_id=str(number)))
                number += 1
                await asyncio.sleep(0.001)

    writing = asyncio.create_task(write())
    try:
        async for answer in call:
            assert int(answer.request_id) not in answered
            assert answer.results or answer.error.status == "UNAVAILABLE"
            answered.add(int(answer.request_id))
            started.set()
    except grpc.aio.AioRpcError as error:
        return answered, error.code()
    finally:
        writing.cancel()
    return answered, grpc.StatusCode.OK


async def unary_load(stub) -> int:
    """Calls answered until the server refuses one, or gRPC does because its connection closes."""
    answered = 0
    while True:
        try:
            await stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD))
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            return answered
        answered += 1


async def http_load(address: str) -> int:
    """Posts answered until the server refuses one or closes the connection."""
    answered = 0
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
        with contextlib.suppress(httpx.TransportError):
            while True:
                got = await client.post("/v1/infer", json={"bitstream": base64.b64encode(PAYLOAD).decode()})
                if got.status_code != 200:
                    assert got.status_code == 503
                    break
                answered += 1
    return answered


async def frame_load(device: Radio, bundle: Bundle, stop: asyncio.Event) -> int:
    """Frames one by one, each answered before the next, until ``stop``."""
    sequence = 0
    while not stop.is_set():
        device.send(frame(bundle, sequence=sequence))
        reply = read_reply(await device.reply(), device=7)
        assert (reply.sequence, reply.status) == (sequence, ReplyStatus.ANSWERED)
        sequence += 1
    return sequence


async def watch_health(channel: grpc.aio.Channel) -> list[int]:
    seen = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for update in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
            seen.append(update.status)
    return seen


async def test_sigterm_answers_what_is_in_flight_and_ends_with_0(bundle_root: Path, bundle: Bundle):
    async with process(bundle_root) as (child, at), grpc_stub(at["grpc"]) as stub, radio(at["udp"]) as device:
        assert at["event"] == "listening"
        started, stop = asyncio.Event(), asyncio.Event()
        async with grpc.aio.insecure_channel(at["grpc"]) as channel, asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch_health(channel))
            streaming = tasks.create_task(stream_load(stub, started))
            calling = tasks.create_task(unary_load(stub))
            posting = tasks.create_task(http_load(at["http"]))
            framing = tasks.create_task(frame_load(device, bundle, stop))
            await started.wait()
            await asyncio.sleep(0.5)
            stop.set()
            await framing
            child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
        answered, ended = streaming.result()
        assert answered == set(range(len(answered))) and len(answered) > 10, "nothing that was read went missing"
        # INTERNAL is grpcio's client, where the end of the stream reaches it in the middle of a write.
        assert ended in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
        assert calling.result() > 0 and posting.result() > 0 and framing.result() > 0
        assert watching.result()[-1] == NOT_SERVING
        assert b"Traceback" not in await child.stderr.read()


async def test_frames_under_way_at_sigterm_are_answered(bundle_root: Path, bundle: Bundle):
    async with process(bundle_root) as (child, at), radio(at["udp"]) as device:
        device.send(frame(bundle, sequence=0))
        await device.reply()
        for sequence in range(1, 40):
            device.send(frame(bundle, sequence=sequence))
        await device.reply()
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
        replies = 1
        while not device.has_heard_nothing():
            replies += 1
        log = (await child.stderr.read()).decode()
        assert "unanswered" not in log and "Traceback" not in log
        assert replies >= 1


@pytest.mark.parametrize("port", ["--grpc-port", "--udp-port", "--http-port"])
def test_a_busy_port_is_named_with_the_fix(bundle_root: Path, capfd: pytest.CaptureFixture, port: str):
    kind = socket.SOCK_DGRAM if port == "--udp-port" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        number = str(taken.getsockname()[1])
        argv = [*FREE_PORTS, "--bundles", str(bundle_root), "--threads", "1", "--log-level", "error"]
        argv[argv.index(port) + 1] = number
        assert main(argv) == 2
    told = capfd.readouterr().err
    assert f"cannot listen on 127.0.0.1:{number}" in told and f"choose another {port}" in told


def test_a_host_or_a_temporary_folder_that_cannot_work_ends_with_2(
    bundle_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    argv = [*FREE_PORTS, "--bundles", str(bundle_root), "--threads", "1", "--engines", "0", "--log-level", "error"]
    assert main([*argv, "--host", "127.0..1"]) == 2
    assert "cannot listen on 127.0..1:0" in capfd.readouterr().err
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert main(argv) == 2
    assert "set TMPDIR to such a folder" in capfd.readouterr().err


async def test_a_signal_to_the_group_while_it_starts_ends_with_0(bundle_root: Path):
    """As Ctrl-C does: to the engine process, too, before it can say that it ignores it."""
    command = (sys.executable, "-m", "edge_server", "--bundles", str(bundle_root), *FREE_PORTS, *PATIENT)
    child = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    async with asyncio.timeout(60):
        while not Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text():
            await asyncio.sleep(0.005)
        os.killpg(child.pid, signal.SIGINT)
        _, told = await child.communicate()
    assert child.returncode == 0 and b"no bundle can serve" not in told and b"KeyboardInterrupt" not in told


async def test_a_start_ends_on_a_signal_also_where_an_engine_hangs_over_a_bundle(bundle_root: Path):
    command = (sys.executable, "-m", "edge_server", "--bundles", str(bundle_root), *FREE_PORTS, *PATIENT)
    child = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            while not (engines := Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text()):
                await asyncio.sleep(0.005)
            os.kill(int(engines), signal.SIGSTOP)
            child.terminate()
            ready, told = await child.communicate()
        assert child.returncode == 0 and not ready and b"stopped before it served" in told and b"Traceback" not in told
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


@pytest.mark.parametrize("door", [("weaklink", "serve"), ("edge_server",)])
async def test_a_reload_asked_for_during_the_imports_does_not_end_it(bundle_root: Path, door: tuple[str, ...]):
    command = (sys.executable, "-m", *door, "--bundles", str(bundle_root), *FREE_PORTS, *PATIENT, "--engines", "0")
    child = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        while "uvloop" not in Path(f"/proc/{child.pid}/maps").read_text():
            await asyncio.sleep(0.005)
        child.send_signal(signal.SIGHUP)
        assert json.loads(await child.stdout.readline())["event"] == "listening"
        child.terminate()
        assert await child.wait() == 0


def test_a_setting_or_a_folder_that_cannot_work_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["--max-batch", "0"]) == 2
    assert "error: max_batch is '0'" in capsys.readouterr().err
    assert main([*FREE_PORTS, "--bundles", str(tmp_path)]) == 2
    assert "no bundle can serve" in capsys.readouterr().err
