from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.engine import EngineAnswer
from edge_server.jobs import Call, Job
from edge_server.lanes import LocalLane
from edge_server.scheduler import AHEAD, LONG_BATCH_S, Limits, Scheduler, form_batch
from semantic_codec.errors import DeadlineExceeded, QueueFull, Unavailable, WeaklinkError

LIMITS = Limits(queue=8, batch=4)


class Network:
    """Counts what needs it, as a served codec does."""

    in_flight = 0

    def leave(self) -> None:
        self.in_flight -= 1


def make_job(deadline: float = 100.0, cancelled: bool = False) -> Job:
    return Job(Call("test", b""), lambda job: None, received=0.0, deadline=deadline, served=Network(), cancelled=cancelled)


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeEngine:
    """Answers when told to; remembers the batches it was given."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None

    def infer(self, requests) -> list[EngineAnswer]:
        self.batches.append(len(requests))
        self.free.wait(10)
        if self.error:
            raise self.error
        return [EngineAnswer({}, 0.0, 0.0) for _ in requests]


class Rig:
    def __init__(self, scheduler: Scheduler, engine: FakeEngine, clock: FakeClock, ended: list[Job]):
        self.scheduler, self.engine, self.clock, self.ended = scheduler, engine, clock, ended

    async def until_ended(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.ended) < count:
                await asyncio.sleep(0.001)

    async def until_batches(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.engine.batches) < count:
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def rig():
    engine, clock, ended = FakeEngine(), FakeClock(), []
    with ThreadPoolExecutor(1) as executor:
        scheduler = Scheduler([LocalLane(engine.infer, executor)], ended.append, LIMITS, clock, lambda size: None)
        scheduler.start()
        yield Rig(scheduler, engine, clock, ended)
        engine.free.set()
        await scheduler.drain(5)


def test_a_lone_request_goes_at_once():
    job = make_job()
    assert form_batch(deque([job]), 0.0, LIMITS) == ([job], [])


def test_late_and_cancelled_jobs_take_no_place():
    late, gone, good = make_job(deadline=5.0), make_job(cancelled=True), [make_job() for _ in range(5)]
    batch, given_up = form_batch([late, good[0], gone, *good[1:]], 5.0, LIMITS)
    assert batch == good[:4]
    assert given_up == [late, gone]


def test_what_would_be_late_leaves_its_place_to_others():
    tight, good = [make_job(deadline=5.5) for _ in range(3)], [make_job(deadline=9.0) for _ in range(2)]
    assert form_batch([tight[0], good[0], tight[1], good[1], tight[2]], 5.0, LIMITS, 1.0) == (good, tight)
    assert form_batch([*tight, *good], 5.0, LIMITS, 0.2) == ([*tight, *good][: LIMITS.batch], [])
    late = make_job(deadline=4.0)
    assert form_batch([late, *tight], 5.0, LIMITS, 1.0) == (tight[: LIMITS.batch], [late]), "there is no other"


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=8), st.floats(0, 10), st.integers(1, 8))
def test_a_batch_is_a_prefix_of_the_queue_in_order(shapes, now, size):
    queue = [make_job(deadline, cancelled) for deadline, cancelled in shapes]
    before = list(queue)
    batch, given_up = form_batch(queue, now, Limits(queue=8, batch=size))
    assert queue == before
    assert len(batch) <= size
    seen = queue[: len(batch) + len(given_up)]
    assert batch == [job for job in seen if not job.cancelled and job.deadline > now]
    assert given_up == [job for job in seen if job.cancelled or job.deadline <= now]
    assert len(seen) == len(queue) or len(batch) == size


async def test_what_gathers_while_the_engine_works_shares_the_next_batch():
    async with rig() as it:
        it.engine.free.clear()
        it.scheduler.put(make_job())
        await it.until_batches(1)
        for _ in range(6):
            it.scheduler.put(make_job())
        it.engine.free.set()
        await it.until_ended(7)
        assert it.engine.batches == [1, 4, 2]
        assert all(job.answer and not job.error for job in it.ended)


class SlowLane:
    """Answers its batches one by one, when told to."""

    alive = True

    def __init__(self) -> None:
        self.batches: deque[tuple[int, asyncio.Future]] = deque()

    def submit(self, batch) -> asyncio.Future:
        self.batches.append((len(batch), asyncio.get_running_loop().create_future()))
        return self.batches[-1][1]

    def answer(self, took_s: float) -> None:
        size, running = self.batches.popleft()
        running.set_result([EngineAnswer({}, 0.0, took_s)] * size)

    @property
    def sizes(self) -> list[int]:
        return [size for size, _ in self.batches]


@contextlib.asynccontextmanager
async def slow_rig(took_s: float = 0.0):
    """The lane has computed a batch, which took so long."""
    lane, ended = SlowLane(), []
    scheduler = Scheduler([lane], ended.append, Limits(1000, 2 * AHEAD), FakeClock(), lambda size: None)
    scheduler.start()

    async def put(count: int) -> None:
        for _ in range(count):
            scheduler.put(make_job())
        await asyncio.sleep(0)

    await put(2 * AHEAD)
    assert lane.sizes == [2 * AHEAD]
    lane.answer(took_s)
    await asyncio.sleep(0)
    ended.clear()
    try:
        yield lane, put, ended
    finally:
        await scheduler.drain(0)


async def test_a_lane_has_its_next_batch_before_it_is_done_where_enough_wait():
    async with slow_rig() as (lane, put, ended):
        await put(1)
        await put(AHEAD - 1)
        assert lane.sizes == [1]
        await put(1)
        assert lane.sizes == [1, AHEAD]
        await put(3 * AHEAD)
        assert lane.sizes == [1, AHEAD], "no more than one ahead: what comes now may share the one behind it"
        lane.answer(0.0)
        await asyncio.sleep(0)
        assert lane.sizes == [AHEAD, 2 * AHEAD] and len(ended) == 1
        while lane.batches:
            lane.answer(0.0)
            await asyncio.sleep(0)
        assert len(ended) == 1 + 4 * AHEAD and all(job.answer for job in ended)


async def test_a_long_batch_is_not_followed_by_one_that_may_be_late_then():
    async with slow_rig(LONG_BATCH_S) as (lane, put, ended):
        await put(1)
        await put(2 * AHEAD)
        assert lane.sizes == [1]


async def test_a_lane_that_computes_for_long_is_neither_waited_for_nor_given_more():
    long, other, clock = SlowLane(), SlowLane(), FakeClock()
    scheduler = Scheduler([long, other], [].append, Limits(1000, 4 * AHEAD), clock, lambda size: None)
    scheduler.start()

    async def put(count: int) -> None:
        for _ in range(count):
            scheduler.put(make_job())
        await asyncio.sleep(0)

    await put(1)
    long.answer(0.0)
    await asyncio.sleep(0)
    await put(1)
    await put(1)
    await put(1)
    assert (long.sizes, other.sizes) == ([1], []), "short batches share the processor"
    clock.now += LONG_BATCH_S
    async with asyncio.timeout(10):
        while not other.sizes:
            await asyncio.sleep(0.001)
    assert (long.sizes, other.sizes) == ([1], [2])
    other.answer(0.0)
    await asyncio.sleep(0)
    await put(1)
    assert other.sizes == [1], "at once now"
    await put(AHEAD)
    assert (long.sizes, other.sizes) == ([1], [1, AHEAD])
    await scheduler.drain(0)


async def test_a_lane_that_dies_fails_every_batch_it_has():
    async with slow_rig() as (lane, put, ended):
        await put(1)
        await put(AHEAD)
        lane.alive = False
        for _, running in lane.batches:
            running.set_exception(Unavailable("gone", allowed="alive", fix="wait"))
        lane.batches.clear()
        await put(1)
        await asyncio.sleep(0)
        assert not lane.batches and len(ended) == 1 + AHEAD
        assert all(isinstance(job.error, Unavailable) for job in ended)


async def test_a_full_queue_refuses_and_every_accepted_job_ends_once():
    async with rig() as it:
        it.engine.free.clear()
        it.scheduler.put(make_job())
        await it.until_batches(1)
        waiting = [make_job() for _ in range(LIMITS.queue)]
        for job in waiting:
            it.scheduler.put(job)
        assert it.scheduler.depth == LIMITS.queue
        with pytest.raises(QueueFull, match="8 requests are waiting"):
            it.scheduler.put(make_job())
        it.engine.free.set()
        await it.until_ended(9)
        assert it.ended[1:] == waiting


async def test_deadlines_hold_before_and_behind_the_engine():
    async with rig() as it:
        it.engine.free.clear()
        inside, queued, patient = make_job(deadline=1.0), make_job(deadline=1.0), make_job()
        it.scheduler.put(inside)
        await it.until_batches(1)
        it.scheduler.put(queued)
        it.scheduler.put(patient)
        it.clock.now = 2.0
        it.engine.free.set()
        await it.until_ended(3)
        assert isinstance(inside.error, DeadlineExceeded)
        assert isinstance(queued.error, DeadlineExceeded)
        assert patient.answer is not None
        assert it.engine.batches == [1, 1]


async def test_deadlines_hold_while_the_engine_hangs():
    async with rig() as it:
        it.engine.free.clear()
        inside, queued, patient = make_job(deadline=1.0), make_job(deadline=1.0), make_job()
        it.scheduler.put(inside)
        await it.until_batches(1)
        it.scheduler.put(patient)
        it.scheduler.put(queued)
        it.clock.now = 1.0
        await it.until_ended(2)
        assert it.ended == [inside, queued] and all(isinstance(job.error, DeadlineExceeded) for job in it.ended)
        assert it.scheduler.depth == 1
        it.engine.free.set()
        await it.until_ended(3)
        assert it.ended[2:] == [patient] and patient.answer is not None


async def test_a_network_is_needed_until_its_batch_is_computed():
    """Also by who ended as late: without it, the others of the batch would fail."""
    async with rig() as it:
        it.engine.free.clear()
        late, behind = make_job(deadline=1.0), make_job()
        it.scheduler.put(late)
        await it.until_batches(1)
        it.scheduler.put(behind)
        it.clock.now = 1.0
        await it.until_ended(1)
        assert late.error and late.served.in_flight == 1 and not behind.served.in_flight
        it.engine.free.set()
        await it.until_ended(2)
        await asyncio.sleep(0)
        assert not late.served.in_flight and not behind.served.in_flight


async def test_drain_ends_once_all_that_a_lost_lane_left_is_late():
    clock, ended = FakeClock(), []
    with ThreadPoolExecutor(1) as executor:
        lane = LocalLane(FakeEngine().infer, executor)
        lane.alive = False
        scheduler = Scheduler([lane], ended.append, LIMITS, clock, lambda size: None)
        scheduler.start()
        scheduler.put(make_job(deadline=1.0))
        clock.now = 1.0
        async with asyncio.timeout(30):
            await scheduler.drain(1000)
        assert [type(job.error) for job in ended] == [DeadlineExceeded]


async def test_a_failing_engine_fails_its_batch_and_nothing_else():
    async with rig() as it:
        it.engine.error = RuntimeError("no such operator")
        failed = make_job()
        it.scheduler.put(failed)
        await it.until_ended(1)
        assert type(failed.error) is WeaklinkError and "no such operator" in str(failed.error)
        it.engine.error = None
        good = make_job()
        it.scheduler.put(good)
        await it.until_ended(2)
        assert good.answer is not None


async def test_drain_finishes_the_queue_and_refuses_what_comes_later():
    async with rig() as it:
        it.engine.free.clear()
        for _ in range(6):
            it.scheduler.put(make_job())
        draining = asyncio.create_task(it.scheduler.drain(5))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            it.scheduler.put(make_job())
        it.engine.free.set()
        await draining
        assert len(it.ended) == 6 and all(job.answer for job in it.ended)


async def test_drain_gives_up_in_time():
    async with rig() as it:
        it.engine.free.clear()
        inside, waiting = make_job(), make_job()
        it.scheduler.put(inside)
        await it.until_batches(1)
        it.scheduler.put(waiting)
        await it.scheduler.drain(0.01)
        assert it.ended == [inside, waiting] and all(isinstance(job.error, Unavailable) for job in it.ended)
