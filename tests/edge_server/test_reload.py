"""Bundles change while they serve: on disk first, then by SIGHUP or a call, under load on every door."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import httpx
import pytest

from edge_server.repository import load_repository, scan
from edge_server.server import EdgeServer
from edge_server.settings import Settings
from semantic_codec.bundle import load_bundle
from semantic_codec.errors import BundleError, ConfigError, NotFound
from semantic_codec.reply import Refusal, ReplyStatus, read_reply
from tests.edge_server.conftest import grpc_stub, make_bundle, running, sample, until
from tests.edge_server.test_gateway import PAYLOAD, frame, radio
from tests.edge_server.test_life import process
from tests.edge_server.test_repository import accept, break_hash, change, sealed
from weaklink.v1 import edge_pb2

REQUEST = edge_pb2.InferRequest(bitstream=PAYLOAD, codec="toy")


def versions(catalogue) -> list[tuple[str, int]]:
    return sorted((codec.name, codec.version) for codec in catalogue.codecs)


def test_a_scan_keeps_what_did_not_change_and_what_cannot_be_replaced(tmp_path: Path):
    for version in (1, 2, 3):
        make_bundle(tmp_path, version=version)
    make_bundle(tmp_path, "other", codec_id=9)
    first = load_repository([tmp_path], accept).catalogue()
    change(blind_ber=0.03)(tmp_path / "toy" / "1")
    break_hash(tmp_path / "toy" / "2")
    shutil.rmtree(tmp_path / "toy" / "3")
    make_bundle(tmp_path, version=4)
    loaded = []
    second = scan([tmp_path], lambda bundle, revision: loaded.append(bundle.manifest.version), first)
    before, after = ({(codec.name, codec.version): codec for codec in each.codecs} for each in (first, second))
    assert sorted(loaded) == [1, 4] and versions(second) == [("other", 1), ("toy", 1), ("toy", 2), ("toy", 4)]
    assert after["other", 1] is before["other", 1] and after["toy", 2] is before["toy", 2]
    assert after["toy", 1].blind_ber == 0.03 and after["toy", 1].revision != before["toy", 1].revision
    assert [refusal.path for refusal in second.refused] == ["toy/2"]
    shutil.rmtree(tmp_path / "toy")
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(ConfigError, match="no bundle can serve"):
        scan([tmp_path], accept, second)


@pytest.mark.parametrize("place", ["worse", "."])
def test_what_is_in_a_folder_that_became_unreadable_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str):
    """With its default version, and its codec_id; what else changed is loaded."""
    there, here = tmp_path / "there", tmp_path / "here"
    for version in (1, 2):
        make_bundle(there, "worse", version, codec_id=9)
    (there / "worse" / "default").write_text("1")
    make_bundle(here)
    first = load_repository([there, here], accept).catalogue()
    make_bundle(here, version=2)
    make_bundle(here, "thief", codec_id=9)
    sealed(monkeypatch, there / place)
    second = scan([there, here], accept, first)
    assert versions(second) == [("toy", 1), ("toy", 2), ("worse", 1), ("worse", 2)] and second.defaults["worse"] == 1
    refusals = {refusal.path: refusal.reason for refusal in second.refused}
    named = "worse" if place == "worse" else str(there)
    assert refusals.keys() == {named, "thief/1"} and refusals[named] == "cannot be read (Permission denied)"


async def test_a_codec_whose_folder_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_bundle(tmp_path)
    make_bundle(tmp_path, "worse", codec_id=9)
    async with running(tmp_path) as (server, at), httpx.AsyncClient(base_url=f"http://{at['http']}") as client:
        sealed(monkeypatch, tmp_path / "worse")
        for loading in (server.bundles.reload(), server.bundles.load("worse")):
            with pytest.raises(BundleError, match="worse was refused: cannot be read"):
                await loading
        (refused,) = (await client.get("/readyz")).json()["refused"]
        assert refused == {"path": "worse", "reason": "cannot be read (Permission denied)"}
        (state,) = [state for state in await server.bundles.states() if state.name == "worse"]
        assert state.serves and "cannot be read" in state.reason


def test_who_comes_with_the_codec_id_of_one_that_serves_is_refused(tmp_path: Path):
    make_bundle(tmp_path)
    first = load_repository([tmp_path], accept).catalogue()
    make_bundle(tmp_path, "apple")
    second = scan([tmp_path], accept, first)
    assert versions(second) == [("toy", 1)]
    assert [(one.path, "codec_id 5 belongs to toy" in one.reason) for one in second.refused] == [("apple/1", True)]
    shutil.rmtree(tmp_path / "toy")
    assert versions(scan([tmp_path], accept, second)) == [("apple", 1)]


def test_a_scan_of_one_codec_leaves_the_others(tmp_path: Path):
    make_bundle(tmp_path)
    make_bundle(tmp_path, "other", codec_id=9)
    first = load_repository([tmp_path], accept).catalogue()
    for name, codec_id in (("toy", 5), ("other", 9)):
        make_bundle(tmp_path, name, 2, codec_id=codec_id)
    make_bundle(tmp_path, "thief", codec_id=5)
    assert versions(scan([tmp_path], accept, first, "toy")) == [("other", 1), ("toy", 1), ("toy", 2)]
    thief = scan([tmp_path], accept, first, "thief")
    assert versions(thief) == versions(first) and "codec_id 5 belongs to toy" in thief.refused[0].reason


@pytest.mark.parametrize("content", ["7", "one", ""])
def test_the_default_version_is_what_its_file_says(tmp_path: Path, content: str):
    for version in (1, 2):
        make_bundle(tmp_path, version=version)
    path = tmp_path / "toy" / "default"
    path.write_text("1\n")
    repository = load_repository([tmp_path], accept)
    assert repository.get("toy").version == 1 and repository.get("toy", 2).version == 2
    path.write_text(content)
    kept = scan([tmp_path], accept, repository.catalogue())
    assert kept.defaults == {"toy": 1} and f"default version is '{content}'" in kept.refused[0].reason
    path.unlink()
    repository.replace(scan([tmp_path], accept, kept))
    assert repository.get("").version == 2


@pytest.mark.parametrize("file", ["2\n", None])
def test_a_damaged_default_file_leaves_the_default_where_it_was_also_at_the_newest(tmp_path: Path, file: str | None):
    for version in (1, 2):
        make_bundle(tmp_path, version=version)
    path = tmp_path / "toy" / "default"
    if file is not None:
        path.write_text(file)
    repository = load_repository([tmp_path], accept)
    make_bundle(tmp_path, version=3)
    path.write_text("2x\n")
    repository.replace(scan([tmp_path], accept, repository.catalogue()))
    assert repository.get("toy").version == 2
    path.unlink()
    repository.replace(scan([tmp_path], accept, repository.catalogue()))
    assert repository.get("toy").version == 3


class Load:
    """Callers that ask one request after another until :meth:`stop`; each answer counted by caller."""

    def __init__(self):
        self.answers: Counter[str] = Counter()
        self._stopped, self._tasks = False, []

    def start(self, name: str, ask: Callable[[int], Awaitable[None]]) -> None:
        async def run() -> None:
            for number in itertools.count():
                if self._stopped:
                    return
                await ask(number)
                self.answers[name] += 1

        self._tasks.append(asyncio.create_task(run()))

    async def more(self) -> None:
        """Until every caller got two more answers: the second was asked for after this began."""
        goal = {name: count + 2 for name, count in self.answers.items()}
        async with asyncio.timeout(60):
            while any(self.answers[name] < count for name, count in goal.items()):
                await asyncio.sleep(0.002)
                self._raise()

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    def _raise(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


async def test_no_request_fails_while_bundles_are_reloaded_under_load(tmp_path: Path):
    make_bundle(tmp_path, version=1)
    bundle = load_bundle(make_bundle(tmp_path, version=2))
    settings = {"deadline_s": 60, "drain_s": 60}
    async with (
        running(tmp_path, **settings) as (server, at),
        grpc_stub(at["grpc"]) as stub,
        radio(at["udp"]) as device,
        httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False, timeout=60) as http,
    ):
        stream, load, seen = stub.InferStream(), Load(), set()

        async def call(_: int) -> None:
            seen.add((await stub.Infer(REQUEST)).version)

        async def name_a_version(number: int) -> None:
            assert (await stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD, codec="toy", version=1))).version == 1

        async def stream_one(_: int) -> None:
            await stream.write(REQUEST)
            answer = await stream.read()
            assert answer.results and not answer.HasField("error")

        async def post(_: int) -> None:
            answer = await http.post("/v1/infer", json={"bitstream": "AAECAwQFBgc=", "codec": "toy"})
            assert answer.status_code == 200

        async def post_tensor(_: int) -> None:
            tensor = {"name": "bitstream", "datatype": "UINT8", "shape": [1, 8], "data": list(PAYLOAD)}
            assert (await http.post("/v2/models/toy/infer", json={"inputs": [tensor]})).status_code == 200

        async def send_frame(number: int) -> None:
            device.send(frame(bundle, sequence=number % 4096))
            async with asyncio.timeout(60):
                reply = read_reply(await asyncio.get_running_loop().sock_recv(device._socket, 1024), device=7)
            assert reply.status == ReplyStatus.ANSWERED

        for ask in (call, name_a_version, stream_one, post, post_tensor, send_frame):
            load.start(ask.__name__, ask)
            load.start(ask.__name__ + " too", ask) if ask in (call, post) else None
        while len(load.answers) < 8:
            await asyncio.sleep(0.01)
            load._raise()
        for step in range(6):
            change(blind_ber=0.02 + 0.01 * step)(tmp_path / "toy" / "2")  # the same version, another content
            if step == 2:
                make_bundle(tmp_path, version=3)
            if step == 4:
                broken = make_bundle(tmp_path, version=4)
                break_hash(broken)
                with pytest.raises(BundleError, match="toy/4 was refused"):
                    await server.bundles.reload()
            else:
                await server.bundles.load("toy") if step % 2 else await server.bundles.reload()
            shutil.rmtree(tmp_path / "toy" / "4", ignore_errors=True)
            await load.more()
        await load.stop()
        await stream.done_writing()
        assert seen == {2, 3}
        assert sample(server, "weaklink_reloads_total", file="bundles", outcome="ok") == 5
        assert sample(server, "weaklink_reloads_total", file="bundles", outcome="failed") == 1
        print(f"answered during 6 reloads: {dict(load.answers)}")


async def test_what_was_unloaded_is_not_found_on_any_door(tmp_path: Path):
    bundle = load_bundle(make_bundle(tmp_path))
    make_bundle(tmp_path, "other", codec_id=9)
    async with (
        running(tmp_path) as (server, at),
        grpc_stub(at["grpc"]) as stub,
        radio(at["udp"]) as device,
        httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as http,
    ):
        await stub.Infer(REQUEST)
        await server.bundles.unload("toy")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Infer(REQUEST)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert (await http.post("/v1/infer", json={"bitstream": "AAAAAAAAAAA=", "codec": "toy"})).status_code == 404
        device.send(frame(bundle))
        reply = read_reply(await device.reply(), device=7)
        assert (reply.status, reply.class_index) == (ReplyStatus.REFUSED, Refusal.UNKNOWN_CODEC)
        refused = (await http.get("/readyz")).json()["refused"]
        assert refused == [{"path": "toy/1", "reason": "unloaded on request"}]
        with pytest.raises(NotFound):
            await server.bundles.unload("toy")
        await server.bundles.unload("other")
        assert (await http.get("/v1/codecs")).json()["codecs"] == []
        await server.bundles.reload()
        assert (await stub.Infer(REQUEST)).version == 1
        device.send(frame(bundle, sequence=2))
        assert read_reply(await device.reply(), device=7).status == ReplyStatus.ANSWERED


async def test_an_unload_fails_no_request_of_others_in_a_batch_with_late_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("edge_server.scheduler.AHEAD", 2)
    for version in (1, 2):
        make_bundle(tmp_path, version=version)
    async with running(tmp_path, engines=1, deadline_s=60) as (server, at), grpc_stub(at["grpc"]) as stub:
        (lane,) = server._engines.lanes
        computing = server._scheduler._computing[lane]
        os.kill(lane.pid, signal.SIGSTOP)
        first = stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD, version=1))
        await until(lambda: computing)
        server._scheduler._batch_s = 0.0  # so the next ones are given ahead
        requests = [edge_pb2.InferRequest(bitstream=PAYLOAD, version=version) for version in (1, 2)]
        living, late = [stub.Infer(request, timeout=limit) for request, limit in zip(requests, (60, 0.5))]
        await until(lambda: len(computing) == 2)
        with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
            await late
        await server.bundles.unload("toy", 2)
        os.kill(lane.pid, signal.SIGCONT)
        assert (await first).version == (await living).version == 1


async def test_a_name_that_is_not_there_is_no_failed_reload(bundle_root: Path):
    async with running(bundle_root) as (server, at), httpx.AsyncClient(base_url=f"http://{at['http']}") as client:
        assert (await client.post("/v2/repository/models/nobody/load", json={})).status_code == 404
        assert sample(server, "weaklink_reloads_total", file="bundles", outcome="failed") in (None, 0)


async def test_a_twin_is_not_loaded_and_says_why(tmp_path: Path):
    """Also while another codec is; and what the folders hold is reloaded without a failure."""
    make_bundle(tmp_path)
    change(twin_of="toy")(make_bundle(tmp_path, "toy-blind"))
    async with running(tmp_path) as (server, at), httpx.AsyncClient(base_url=f"http://{at['http']}") as client:
        await server.bundles.reload()
        await server.bundles.load("toy")
        answer = await client.post("/v2/repository/models/toy-blind/load", json={})
        assert answer.status_code >= 400 and "toy-blind/1: it is a twin of toy" in answer.json()["error"]
        index = {one["name"]: one for one in (await client.post("/v2/repository/index")).json()}
        assert index["toy-blind"]["state"] == "UNAVAILABLE" and "a twin of toy" in index["toy-blind"]["reason"]
        assert index["toy"]["state"] == "READY" and not index["toy"]["reason"]
        change(twin_of="toy-blind")(make_bundle(tmp_path, "toy", 99))
        assert (await client.post("/v2/repository/models/toy/load", json={})).status_code == 200, "another version serves"


async def test_a_reload_that_fails_for_no_foreseen_reason_is_counted(bundle_root: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_) -> None:
        raise RuntimeError("no more threads")

    async with running(bundle_root) as (server, _):
        monkeypatch.setattr("edge_server.bundle_control.scan", fail)
        with pytest.raises(RuntimeError):
            await server.bundles.reload()
        assert sample(server, "weaklink_reloads_total", file="bundles", outcome="failed") == 1


async def test_feedback_for_what_was_unloaded_is_harmless(tmp_path: Path):
    make_bundle(tmp_path)
    make_bundle(tmp_path, "other", codec_id=9)
    async with running(tmp_path) as (server, at), grpc_stub(at["grpc"]) as stub:
        await stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD, codec="toy", device="7", sequence=1))
        await server.bundles.unload("toy")
        assert not (await stub.Feedback(edge_pb2.FeedbackRequest(device="7", sequence=1))).matched


async def test_a_reload_asked_for_during_the_start_comes_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_bundle(tmp_path)

    def load(*arguments):
        loaded = load_repository(*arguments)
        make_bundle(tmp_path, version=2)
        os.kill(os.getpid(), signal.SIGHUP)
        return loaded

    monkeypatch.setattr("edge_server.server.load_repository", load)
    server = EdgeServer(Settings(bundles=(tmp_path,), grpc_port=0, udp_port=0, http_port=0, engines=0, threads=1))
    ready = asyncio.Event()
    serving = asyncio.create_task(server.run(lambda addresses: ready.set()))
    await ready.wait()
    await until(lambda: sample(server, "weaklink_reloads_total", file="bundles", outcome="ok"))
    assert [state.version for state in await server.bundles.states() if state.serves] == [1, 2]
    os.kill(os.getpid(), signal.SIGTERM)
    await serving


async def test_sighup_reloads_and_a_failed_reload_keeps_what_served(tmp_path: Path):
    make_bundle(tmp_path)
    async with process(tmp_path) as (child, at), grpc_stub(at["grpc"]) as stub:

        async def until(ready: Callable[[edge_pb2.ListCodecsResponse], bool]) -> None:
            async with asyncio.timeout(60):
                while not ready(await stub.ListCodecs(edge_pb2.ListCodecsRequest())):
                    await asyncio.sleep(0.02)

        make_bundle(tmp_path, version=2)
        child.send_signal(signal.SIGHUP)
        await until(lambda listed: [codec.version for codec in listed.codecs] == [1, 2])
        assert (await stub.Infer(REQUEST)).version == 2
        make_bundle(tmp_path, version=3)
        os.killpg(child.pid, signal.SIGHUP)  # which is not for the engine process
        await until(lambda listed: [codec.version for codec in listed.codecs] == [1, 2, 3])
        shutil.rmtree(tmp_path / "toy" / "3")
        manifest = tmp_path / "toy" / "2" / "bundle.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"codec_id": 64}))
        child.send_signal(signal.SIGHUP)
        await until(lambda listed: [one.path for one in listed.refused] == ["toy/2"])
        assert (await stub.Infer(REQUEST)).version == 2
        child.terminate()
        assert await child.wait() == 0
        told = (await child.stderr.read()).decode()
        assert "codec_id is 64" in told and "Traceback" not in told and "is gone" not in told
