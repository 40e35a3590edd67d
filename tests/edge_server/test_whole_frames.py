"""The whole frames of a turn taken together, against the same frames one by one."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from edge_server.devices import DeviceTable
from edge_server.engine import EngineAnswer
from edge_server.gateway import MOST_WAITING, Gateway, Readers, wire_codecs
from edge_server.inference import Inference
from edge_server.metrics import Metrics
from edge_server.replay import ReplayWindows
from edge_server.repository import load_repository
from edge_server.scheduler import Limits, Scheduler
from semantic_codec.bundle import load_bundle
from semantic_codec.frame import encode_frame
from semantic_codec.header import Header
from semantic_codec.reply import CLASSES, Refusal, ReplyStatus, read_reply
from tests.edge_server.conftest import LEVELS
from tests.semantic_codec.test_frame import flipped

NUMBERS = (0, 1, 2, 70)
FRAMES = st.tuples(
    st.integers(1, 2),  # version
    st.integers(0, 2),  # level
    st.integers(1, 3),  # device
    st.sampled_from(NUMBERS),  # sequence
    st.sampled_from([0.0, 0.02]),
    st.integers(0, 2),  # source
)
TURNS = st.lists(st.tuples(st.lists(FRAMES, max_size=12), st.booleans(), st.sampled_from([0.0, 0.1, 40.0])), max_size=8)


class Source:
    transport = "udp"

    def __init__(self, number: int, sent: list[tuple[int, bytes]]):
        self._number, self._sent = number, sent

    def send(self, reply: bytes) -> None:
        self._sent.append((self._number, reply))


class Rig:
    """A gateway whose engine answers when told to, each image by its payload."""

    def __init__(self, root: Path, limits: Limits, keys: dict[int, Any]):
        self.now = 100.0
        repository = load_repository([root], lambda *_: None)
        self.devices = DeviceTable(2, 3, lambda: self.now, 30.0)
        self.metrics = Metrics(CollectorRegistry())
        inference = Inference(repository, self.devices, self.metrics, lambda: self.now, 5.0, 4)
        self.scheduler = Scheduler([], inference.finish, limits, lambda: self.now, self.metrics.batch_size.observe)
        inference.connect(self.scheduler)
        self.gateway = Gateway(self.devices, inference, self.metrics, keys, ReplayWindows(None))
        self.gateway.serve(wire_codecs(repository))
        self.readers = Readers(wire_codecs(repository))
        self.sent: list[tuple[int, bytes]] = []
        self.sources = [Source(number, self.sent) for number in range(3)]

    def answer(self) -> None:
        while batch := self.scheduler._take():
            answers = []
            for group in batch:
                best = [(payload[0] % 10, payload[0] / 255) for payload in group.payloads]
                answers.append(EngineAnswer({task: best for task in group.served.task_names}, 0.001, 0.002))
            self.scheduler._deliver(batch, answers)

    def state(self) -> list:
        """What tells two rigs apart."""
        devices = [
            (
                name, age, state.answered, self.devices.estimated_ber(name), [state.answers.find(number) for number in NUMBERS],
                [(number, frame.received, frame.reply, len(frame.waiting)) for number, frame in state.frames.items()],
            )
            for name, state, age in self.devices.recent()
        ]  # fmt: skip
        speakers = [(source._number, device) for source, device in self.devices._sources.items()]
        metrics = [line for line in generate_latest(self.metrics.registry).splitlines() if b"_created" not in line]
        return [devices, speakers, Counter(self.sent), self.scheduler.depth, metrics]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TURNS, st.sampled_from([Limits(1000, 64), Limits(6, 4)]), st.booleans())
def test_frames_taken_together_end_as_they_do_one_by_one(bundle_root: Path, turns: list, limits: Limits, keyed: bool):
    """The same replies, outcomes, metrics and memory: repetitions before and after the answer, restarts, forgotten
    devices, full queues, devices that have a key."""
    encoders = {version: load_bundle(bundle_root / "toy" / str(version)).encoder_hash for version in (1, 2)}

    async def compare() -> None:
        together, singly = (Rig(bundle_root, limits, {2: None} if keyed else {}) for _ in range(2))
        for turn, (frames, is_answered, later) in enumerate(turns):
            sent = [
                flipped(encode_frame(Header(5, level, device, sequence), bytes([turn + place] * (LEVELS[level] // 8)), encoders[version]), ber, place)
                for place, (version, level, device, sequence, ber, _) in enumerate(frames)
            ]
            found = [(frame, place[-1]) for frame, place in zip(together.readers.read_whole(sent), frames) if frame]
            welcome = together.gateway.handle_whole(
                [frame for frame, _ in found], [together.sources[number] for _, number in found]
            )
            results = [frame.result for frame, _ in found]
            assert singly.gateway.handle(results, [singly.sources[number] for _, number in found]) == welcome
            for rig in (together, singly):
                rig.now += later
                if is_answered:
                    rig.answer()
            assert together.state() == singly.state()

    asyncio.run(compare())


async def test_repetitions_of_a_frame_under_way_are_answered_once_for_each_source_and_bounded(bundle_root: Path):
    encoder_hash = load_bundle(bundle_root / "toy" / "2").encoder_hash
    rig = Rig(bundle_root, Limits(1000, 64), {})
    sources = [Source(number, rig.sent) for number in range(MOST_WAITING + 2)]
    frames = rig.readers.read_whole([encode_frame(Header(5, 0, 7, 1), bytes(LEVELS[0] // 8), encoder_hash)])
    for source in [*sources, *sources]:
        rig.gateway.handle_whole(frames, [source])
    assert not rig.sent
    rig.answer()
    assert [number for number, _ in rig.sent] == [0, *range(1, MOST_WAITING + 1)]


async def test_a_class_that_a_reply_has_no_room_for_costs_no_other_frame_its_reply(bundle_root: Path):
    encoder_hash = load_bundle(bundle_root / "toy" / "2").encoder_hash
    rig = Rig(bundle_root, Limits(1000, 64), {})
    frames = [encode_frame(Header(5, 0, device, 1), bytes(LEVELS[0] // 8), encoder_hash) for device in range(3)]
    rig.gateway.handle_whole(rig.readers.read_whole(frames), rig.sources)
    batch = rig.scheduler._take()
    best = [(3, 0.9), (CLASSES, 0.9), (CLASSES - 1, 0.9)]
    rig.scheduler._deliver(batch, [EngineAnswer({task: best for task in batch[0].served.task_names}, 0.001, 0.002)])
    replies = [read_reply(data, device) for device, data in rig.sent]
    assert [(reply.status, reply.class_index) for reply in replies] == [
        (ReplyStatus.ANSWERED, 3), (ReplyStatus.REFUSED, Refusal.OTHER), (ReplyStatus.ANSWERED, CLASSES - 1),
    ]  # fmt: skip
