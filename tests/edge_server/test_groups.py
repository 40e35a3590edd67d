"""Images that travel together, against the same images one by one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from edge_server.devices import DeviceTable
from edge_server.engine import Engine, EngineRequest
from edge_server.inference import Inference, outcome
from edge_server.jobs import MERGED_S, Call, Group, Job
from edge_server.lanes import LocalLane
from edge_server.metrics import Metrics
from edge_server.repository import load_repository
from edge_server.scheduler import Limits, Scheduler, form_batch
from semantic_codec.bundle import Bundle
from tests.edge_server.conftest import LEVELS
from weaklink.v1 import edge_pb2


class Rig:
    """An inference with its scheduler, which has not begun: what is submitted waits."""

    def __init__(self, root: Path, executor: ThreadPoolExecutor, limits: Limits, most_in_flight: int):
        self.engine = Engine()
        self.repository = load_repository([root], self.engine.add)
        self.served = self.repository.get("toy")
        self.devices = DeviceTable(100, 16, time.monotonic, 30.0)
        self.metrics = Metrics(CollectorRegistry())
        self.observed: list[Job] = []
        self.inference = Inference(
            self.repository, self.devices, self.metrics, time.monotonic, 30.0, most_in_flight, [self.observed.append]
        )
        self.batches: list[int] = []
        self.scheduler = Scheduler(
            [LocalLane(self.engine.infer, executor)], self.inference.finish, limits, time.monotonic, self.batches.append
        )
        self.inference.connect(self.scheduler)
        self.ended: list[Group | Job] = []
        self.done = self.ended.append

    def group(self, bitstreams: np.ndarray, level: int = 2, devices: list[str] | None = None, **changes) -> Group:
        count, size = len(bitstreams), LEVELS[level] // 8
        given = {
            "bers": [0.01 * (row % 5) for row in range(count)],
            "ber_source": edge_pb2.BER_SOURCE_ESTIMATED,
            "devices": devices or [f"d{row}" for row in range(count)],
            "sequences": list(range(count)),
            "payloads": [bits[:size].tobytes() for bits in bitstreams],
            "items": list(range(count)),
        }
        return Group("test", self.done, self.served, level, **(given | changes))

    async def finish(self, images: int) -> None:
        self.scheduler.start()
        async with asyncio.timeout(30):
            while sum(job.images for job in self.ended) < images:
                await asyncio.sleep(0.002)

    def outcomes(self) -> dict[str, int]:
        return self.metrics.totals(self.metrics.requests)


@contextlib.asynccontextmanager
async def rig(root: Path, limits: Limits = Limits(1024, 64), most_in_flight: int = 512) -> AsyncIterator[Rig]:
    with ThreadPoolExecutor(1) as executor:
        made = Rig(root, executor, limits, most_in_flight)
        yield made
        await made.scheduler.drain(30)


@pytest.mark.parametrize("level", range(3))
def test_the_engine_answers_several_images_as_it_does_each(bundle: Bundle, bitstreams: np.ndarray, level: int):
    engine, size = Engine([bundle]), LEVELS[level] // 8
    payloads, bers = [bits[:size].tobytes() for bits in bitstreams], [0.002 * row for row in range(len(bitstreams))]
    alone = engine.infer([EngineRequest("toy", 2, level, payload, ber) for payload, ber in zip(payloads, bers)])
    first = EngineRequest("toy", 2, 0, b"ab", 0.1, ((0, 3),), top_k=4)  # others in the batch ask for more
    _, several, _ = engine.infer([first, EngineRequest("toy", 2, level, b"".join(payloads), 0.0, bers=tuple(bers)), first])
    for task in ("shape", "colour"):
        indices, confidences = zip(*several.tasks[task])
        assert list(indices) == [answer.tasks[task][0][0] for answer in alone]
        np.testing.assert_allclose(confidences, [answer.tasks[task][0][1] for answer in alone], atol=1e-5)


async def test_a_group_ends_as_its_images_would_have_alone(bundle_root: Path, bitstreams: np.ndarray):
    async with rig(bundle_root) as it:
        group = it.group(bitstreams[:40], level=1)
        it.inference.submit_group(group)
        await it.finish(40)
        together = {job.call.device: job for job in it.observed}
        for row, (ber, payload) in enumerate(zip(group.bers, bitstreams[:40, :4])):
            call = Call("test", payload.tobytes(), "toy", level=1, ber=ber, device=f"alone{row}", sequence=row)
            it.inference.submit(call, it.ended.append)
        await it.finish(80)
        alone = {job.call.device: job for job in it.observed[40:]}
        for row in range(40):
            one, other = together[f"d{row}"], alone[f"alone{row}"]
            assert one.call.bitstream == other.call.bitstream and one.request.ber == other.request.ber
            assert outcome(one) == outcome(other) == "ok" and one.call.sequence == row
            for task, ((index, confidence),) in one.answer.tasks.items():
                assert index == other.answer.tasks[task][0][0]
                assert confidence == pytest.approx(other.answer.tasks[task][0][1], abs=1e-5)
                assert it.devices.remembered(f"d{row}", row).given.classes[task] == index
        assert it.outcomes() == {"ok": 80}
        assert it.metrics.registry.get_sample_value("weaklink_confidence_count", {"codec": "toy", "task": "shape"}) == 80
        assert it.metrics.registry.get_sample_value("weaklink_latency_seconds_count", {"stage": "total"}) == 80
        assert it.metrics.registry.get_sample_value("weaklink_estimated_ber_count", {"codec": "toy"}) == 40
        assert it.served.in_flight == 0


async def test_what_an_observer_fails_over_ends_all_the_same(
    bundle_root: Path, bitstreams: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    def fail(job: Job) -> None:
        raise RuntimeError("no room for another span")

    async with rig(bundle_root) as it:
        monkeypatch.setattr(it.inference, "_observers", (fail,))
        it.inference.submit_group(it.group(bitstreams[:3]))
        it.inference.submit(Call("test", bitstreams[0].tobytes(), "toy"), it.ended.append)
        await it.finish(4)
        assert it.outcomes() == {"ok": 4} and it.served.in_flight == 0


async def test_batches_are_bounded_and_what_finds_no_room_is_refused(bundle_root: Path, bitstreams: np.ndarray):
    async with rig(bundle_root, Limits(queue=70, batch=32)) as it:
        it.inference.submit_group(it.group(bitstreams))
        assert it.scheduler.depth == 70
        assert [image for job in it.ended for image in job.items] == list(range(70, 100))
        assert {outcome(job) for job in it.ended} == {"queue_full"}
        await it.finish(100)
        assert it.batches == [32, 32, 6] and it.scheduler.depth == 0
        assert sorted(image for job in it.ended for image in job.items) == list(range(100))
        assert it.outcomes() == {"ok": 70, "queue_full": 30}


async def test_a_device_has_no_more_under_way_than_it_may(bundle_root: Path, bitstreams: np.ndarray):
    async with rig(bundle_root, most_in_flight=3) as it:
        devices = ["greedy"] * 8 + ["other", ""]
        it.inference.submit_group(it.group(bitstreams[:10], devices=devices))
        refused = [(device, outcome(job)) for job in it.ended for device in job.devices]
        assert refused == [("greedy", "limit_reached")] * 5
        await it.finish(10)
        assert Counter(device for job in it.ended if job.error is None for device in job.devices) == {
            "greedy": 3,
            "other": 1,
            "": 1,
        }
        it.inference.submit_group(it.group(bitstreams[:3], devices=["greedy"] * 3))
        await it.finish(13)
        assert it.outcomes() == {"ok": 8, "limit_reached": 5}


async def test_a_group_that_came_too_late_or_found_nobody_ends_by_name(bundle_root: Path, bitstreams: np.ndarray):
    async with rig(bundle_root) as it:
        it.inference.submit_group(it.group(bitstreams[:5], deadline=time.monotonic() - 1))
        await it.finish(5)
        await it.scheduler.drain(30)
        it.inference.submit_group(it.group(bitstreams[:4]))
        assert it.outcomes() == {"deadline_exceeded": 5, "unavailable": 4}
        assert it.served.in_flight == 0


async def test_a_group_takes_its_place_in_a_batch_among_single_images(bundle_root: Path, bitstreams: np.ndarray):
    async with rig(bundle_root) as it:
        single, five, seven = Job(Call("test", b""), it.ended.append, 0.0, 1.0), it.group(bitstreams[:5]), it.group(bitstreams[:7])
        five.deadline = seven.deadline = 1.0
        queue = [single, five, seven, single]
        assert form_batch(queue, 0.0, Limits(100, 14)) == (queue, [])
        assert form_batch(queue, 0.0, Limits(100, 13)) == (queue[:3], [])
        assert form_batch(queue, 0.0, Limits(100, 12)) == (queue[:2], [])
        assert form_batch(queue, 2.0, Limits(100, 12)) == ([], queue)


async def test_groups_that_trickle_in_become_one(bundle_root: Path, bitstreams: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge_server.jobs.MERGED_S", 30.0)
    async with rig(bundle_root, Limits(queue=100, batch=16)) as it:
        for first in range(0, 12, 3):
            it.inference.submit_group(it.group(bitstreams[first : first + 3], items=list(range(first, first + 3))))
        it.inference.submit_group(it.group(bitstreams[12:15], level=1, items=[12, 13, 14]))
        it.inference.submit_group(it.group(bitstreams[15:17], level=1, items=[15, 16], erased=((0, 4),)))
        it.inference.submit_group(it.group(bitstreams[17:18], level=1, items=[17], erased=((0, 4),)))
        assert it.scheduler.depth == 18 and it.served.in_flight == 3
        await it.finish(18)
        assert [job.items for job in it.ended] == [list(range(12)), [12, 13, 14], [15, 16, 17]]
        assert it.batches == [15, 3] and it.outcomes() == {"ok": 18} and it.served.in_flight == 0
        size = [LEVELS[2] // 8] * 12 + [LEVELS[1] // 8] * 6
        for row, job in enumerate(it.observed):
            payload, erased = bitstreams[row, : size[row]].tobytes(), ((0, 4),) if row > 14 else ()
            alone = it.engine.infer([EngineRequest("toy", 2, job.call.level, payload, job.request.ber, erased, revision=it.served.revision)])[0]
            assert job.answer.tasks["shape"][0][0] == alone.tasks["shape"][0][0] and job.call.erased == erased


async def test_groups_that_came_at_different_times_stay_apart(bundle_root: Path, bitstreams: np.ndarray):
    async with rig(bundle_root) as it:
        early, late = it.group(bitstreams[:2]), it.group(bitstreams[:2])
        early.received, late.received = 1.0, 1.0 + 2 * MERGED_S
        assert not early.takes_in(late, 64) and early.images == 2
        late.received = 1.0
        assert not early.takes_in(late, 3)
        assert early.takes_in(late, 4) and early.images == 4
