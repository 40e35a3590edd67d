"""The engine in a process of its own: the same answers, and what its death costs."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest

from edge_server.engine import Engine, EngineRequest
from edge_server.lanes import EngineLane
from semantic_codec.bundle import Bundle, load_bundle
from semantic_codec.errors import BundleError, ConfigError, Unavailable
from tests.edge_server.conftest import grpc_stub, make_bundle, running, sample, until
from weaklink.v1 import edge_pb2

PATIENCE_S = 60
PAYLOAD = bytes(range(8))


class Watched:
    """A lane with one bundle, and events of its death and return."""

    def __init__(self, bundle: Bundle):
        self.died, self.returned = asyncio.Event(), asyncio.Event()
        self.lane = EngineLane("eager", 1, self.died.set, self.returned.set)
        self.lane.add(bundle)


@pytest.fixture
async def watched(bundle: Bundle):
    it = Watched(bundle)
    await it.lane.start()
    yield it
    await it.lane.close()


async def test_the_same_answers_as_in_process(watched: Watched, bundle: Bundle):
    requests = [EngineRequest("toy", 2, 2, bytes([n] * 8), 0.01 * n, ((0, n),) if n else ()) for n in range(8)]
    requests.append(EngineRequest("toy", 2, 0, b"ab", 0.1, tasks=("colour",), top_k=3))
    far = await watched.lane.submit(requests)
    near = Engine([bundle]).infer(requests)
    for one, other in zip(far, near, strict=True):
        assert one.tasks.keys() == other.tasks.keys()
        for task, top in one.tasks.items():
            assert [index for index, _ in top] == [index for index, _ in other.tasks[task]]
            assert [score for _, score in top] == pytest.approx([score for _, score in other.tasks[task]], abs=1e-5)


async def test_a_failing_batch_fails_alone(watched: Watched):
    with pytest.raises(RuntimeError, match="nowhere"):
        await watched.lane.submit([EngineRequest("nowhere", 1, 2, PAYLOAD, 0.0)])
    assert await watched.lane.submit([EngineRequest("toy", 2, 2, PAYLOAD, 0.0)])


async def test_a_bundle_is_refused_with_its_reason(watched: Watched, tmp_path: Path):
    bundle = load_bundle(make_bundle(tmp_path, "other", codec_id=9))
    with pytest.raises(BundleError, match="edge.safetensors"):
        watched.lane.add(replace(bundle, edge_data=b"not weights"))
    assert await watched.lane.submit([EngineRequest("toy", 2, 2, PAYLOAD, 0.0)])


async def test_an_unknown_runtime_ends_the_start(bundle: Bundle):
    lane = EngineLane("steam", 1, lambda: None, lambda: None)
    try:
        with pytest.raises(ConfigError, match="steam"):
            lane.add(bundle)
    finally:
        await lane.close()


@pytest.mark.parametrize("first", ["data", "control"])
async def test_it_ends_by_itself_when_either_socket_does(bundle: Bundle, first: str):
    lane = EngineLane("eager", 1, lambda: None, lambda: None)
    try:
        lane.add(bundle)
        {"data": lane._data, "control": lane._control}[first].close()
        assert lane._process.wait(PATIENCE_S) == 0
    finally:
        await lane.close()


async def test_a_killed_process_fails_its_batch_and_comes_back(watched: Watched):
    lane, before = watched.lane, watched.lane.pid
    os.kill(before, signal.SIGSTOP)
    answers = lane.submit([EngineRequest("toy", 2, 2, PAYLOAD, 0.0)])
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(Unavailable, match="died"):
            await answers
        assert not lane.alive
        await watched.returned.wait()
    assert watched.died.is_set() and lane.alive and lane.pid != before
    assert await lane.submit([EngineRequest("toy", 2, 2, PAYLOAD, 0.0)])


async def test_a_death_at_the_start_costs_no_bundle_and_is_counted(bundle: Bundle, tmp_path: Path):
    other = load_bundle(make_bundle(tmp_path, "other", codec_id=9))
    deaths = []
    lane = EngineLane("eager", 1, lambda: deaths.append(1), lambda: None)
    try:
        lane.add(bundle)
        os.kill(lane.pid, signal.SIGKILL)
        lane.add(other)
        assert len(deaths) == 1
        await lane.start()
        assert await lane.submit([EngineRequest("toy", 2, 2, PAYLOAD, 0.0), EngineRequest("other", 1, 2, PAYLOAD, 0.0)])
    finally:
        await lane.close()


async def test_a_bundle_that_kills_processes_at_the_start_leaves_one_for_the_others(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = load_bundle(make_bundle(tmp_path, "other", codec_id=9))
    tell = EngineLane._tell

    def kill_first(lane: EngineLane, message: bytes) -> None:
        if b"/other/" in message:
            os.kill(lane.pid, signal.SIGKILL)
        tell(lane, message)

    monkeypatch.setattr(EngineLane, "_tell", kill_first)
    deaths = []
    lane = EngineLane("eager", 1, lambda: deaths.append(1), lambda: None)
    try:
        lane.add(bundle)
        with pytest.raises(Unavailable, match="two engine processes died"):
            lane.add(other)
        assert len(deaths) == 2
        await lane.start()
        assert await lane.submit([EngineRequest("toy", 2, 2, PAYLOAD, 0.0)])
    finally:
        await lane.close()


async def test_an_engine_that_hangs_over_a_bundle_is_replaced(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as shorter:
        shorter.setattr("edge_server.lanes.LOAD_S", 0.5)
        lane = EngineLane("eager", 1, lambda: None, lambda: None)
    try:
        before = lane.pid
        os.kill(before, signal.SIGSTOP)
        lane.add(bundle)
        assert lane.pid != before
        await lane.start()
        assert await lane.submit([EngineRequest("toy", 2, 2, PAYLOAD, 0.0)])
    finally:
        await lane.close()


async def test_a_reload_waits_for_an_engine_that_starts_again(tmp_path: Path):
    make_bundle(tmp_path)
    async with running(tmp_path, engines=1) as (server, _):
        (lane,) = server._engines.lanes
        make_bundle(tmp_path, version=2)
        os.kill(lane.pid, signal.SIGKILL)
        await server.bundles.reload()
        make_bundle(tmp_path, version=3)
        os.kill(lane.pid, signal.SIGKILL)
        await until(lambda: not lane.alive)
        await server.bundles.reload()
        await until(lambda: lane.alive)
        assert [state.version for state in await server.bundles.states() if state.serves] == [1, 2, 3]
        assert sample(server, "weaklink_engine_deaths_total") == 2


async def test_batches_that_wait_for_room_in_the_socket_keep_their_order(watched: Watched):
    requests = [EngineRequest("toy", 2, level, PAYLOAD[: (2, 4, 8)[level]], 0.0) for level in (2, 0, 1)]
    many = 40_000  # more bytes than a socket holds
    os.kill(watched.lane.pid, signal.SIGSTOP)
    answers = [watched.lane.submit(requests[:1] * many)]
    os.kill(watched.lane.pid, signal.SIGCONT)
    time.sleep(0.5)  # it empties the socket, and the event loop cannot fill it again
    answers += [watched.lane.submit([one] * count) for one, count in zip(requests[1:], (1, 2))]
    async with asyncio.timeout(PATIENCE_S):
        assert [len(await each) for each in answers] == [many, 1, 2]


async def test_a_killed_process_fails_the_batch_behind_it_too(watched: Watched):
    os.kill(watched.lane.pid, signal.SIGSTOP)
    answers = [watched.lane.submit([EngineRequest("toy", 2, 2, PAYLOAD, 0.0)]) for _ in range(2)]
    os.kill(watched.lane.pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        for each in answers:
            with pytest.raises(Unavailable, match="died"):
                await each
        await watched.returned.wait()
    assert await watched.lane.submit([EngineRequest("toy", 2, 2, PAYLOAD, 0.0)])


async def test_what_comes_back_is_what_was_loaded(bundle: Bundle, tmp_path: Path):
    """Its folder is changed meanwhile, then broken, and nobody has asked for a reload."""
    folder = tmp_path / "toy" / "2"
    shutil.copytree(bundle.folder, folder)
    request = edge_pb2.InferRequest(bitstream=PAYLOAD)
    async with running(tmp_path, engines=1, deadline_s=PATIENCE_S) as (server, at), grpc_stub(at["grpc"]) as stub:
        before = (await stub.Infer(request)).results
        (lane,) = server._engines.lanes
        other = make_bundle(tmp_path / "other", version=3)
        for number, change in enumerate((lambda: shutil.copytree(other, folder, dirs_exist_ok=True), lambda: shutil.rmtree(folder))):
            change()
            os.kill(lane.pid, signal.SIGKILL)
            await until(lambda: sample(server, "weaklink_engine_deaths_total") > number and lane.alive)
            assert (await stub.Infer(request)).results == before


async def test_what_a_stopped_engine_computes_is_told_at_shutdown(bundle_root: Path):
    async with running(bundle_root, engines=1, drain_s=0.1, deadline_s=PATIENCE_S) as (server, at):
        (lane,) = server._engines.lanes
        os.kill(lane.pid, signal.SIGSTOP)

        async def post() -> int:
            async with httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False, timeout=PATIENCE_S) as client:
                answer = await client.post("/v1/infer", json={"bitstream": base64.b64encode(PAYLOAD).decode()})
            os.kill(lane.pid, signal.SIGCONT)  # it answers what nobody waits for
            return answer.status_code

        posting = asyncio.create_task(post())
        await until(lambda: any(server._scheduler._computing.values()))
    assert await posting == 503
    assert sample(server, "weaklink_requests_total", transport="http", codec="toy", outcome="unavailable") == 1


async def test_an_engine_that_hangs_is_replaced(bundle_root: Path):
    """Its batch is told UNAVAILABLE, the node is not ready meanwhile, and what comes next is answered."""
    request = edge_pb2.InferRequest(bitstream=PAYLOAD)
    timing = {"deadline_s": PATIENCE_S, "engine_timeout_s": 0.5}
    async with running(bundle_root, engines=1, **timing) as (server, at), grpc_stub(at["grpc"]) as stub:
        (lane,) = server._engines.lanes
        before = lane.pid
        os.kill(before, signal.SIGSTOP)
        with pytest.raises(grpc.aio.AioRpcError, match="died") as refused:
            await stub.Infer(request)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        async with httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as client:
            assert (await client.get("/readyz")).status_code == 503
        await until(lambda: lane.alive)
        assert (await stub.Infer(request)).results and lane.pid != before
        assert sample(server, "weaklink_engine_deaths_total") == 1


async def load(stub, stop: asyncio.Event, ended: dict[str, int]) -> None:
    """Calls one after another until ``stop``, counted by how they end."""
    while not stop.is_set():
        try:
            await stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD))
            name = "OK"
        except grpc.aio.AioRpcError as error:
            name = error.code().name
        ended[name] = ended.get(name, 0) + 1


async def test_killed_under_load(bundle_root: Path, capsys: pytest.CaptureFixture):
    """What was in flight is told UNAVAILABLE, what waited is answered later, and every call is counted once."""
    callers = 16
    async with running(bundle_root, engines=1, deadline_s=PATIENCE_S) as (server, at), grpc_stub(at["grpc"]) as stub:
        (lane,) = server._engines.lanes
        ended, stop = {}, asyncio.Event()
        calls = [asyncio.create_task(load(stub, stop, ended)) for _ in range(callers)]
        async with asyncio.timeout(PATIENCE_S):
            while ended.get("OK", 0) < 100:
                await asyncio.sleep(0.01)
            os.kill(lane.pid, signal.SIGSTOP)
            await asyncio.sleep(0.5)  # what had left the engine by then is delivered, and every caller waits again
            assert any(server._scheduler._computing.values())
            killed = time.monotonic()
            os.kill(lane.pid, signal.SIGKILL)
            while lane.alive:
                await asyncio.sleep(0.001)
            async with httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as client:
                assert (await client.get("/readyz")).status_code == 503
            before = ended["OK"]
            while ended["OK"] < before + 100:
                await asyncio.sleep(0.01)
        back = time.monotonic() - killed
        stop.set()
        await asyncio.gather(*calls)
        assert ended.keys() == {"OK", "UNAVAILABLE"}
        assert 1 <= ended["UNAVAILABLE"] <= callers
        for status, outcome in (("OK", "ok"), ("UNAVAILABLE", "unavailable")):
            counted = sample(server, "weaklink_requests_total", transport="grpc", codec="toy", outcome=outcome)
            assert counted == ended[status]
        assert sample(server, "weaklink_engine_deaths_total") == 1
    with capsys.disabled():
        print(f"\nengine killed under load: {ended}, 100 answers later after {back:.1f} s")
