"""The bounded queue in front of the engine, and the one function that forms batches."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain

from edge_server.engine import EngineAnswer
from edge_server.jobs import Group, Job
from edge_server.lanes import Lane
from semantic_codec.errors import DeadlineExceeded, QueueFull, Unavailable, WeaklinkError

LONG_BATCH_S = 0.003
AHEAD = 32
"""So many that wait are given to a lane that still computes a short batch: it need not wait for the event loop then."""
LATE_S = 0.1
"""How much later than its deadline a request may end while no engine moves."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """``queue``: images that may wait. ``batch``: images in one batch, and ``batch_s`` the seconds that it may take."""

    queue: int
    batch: int
    batch_s: float = math.inf


def form_batch(
    queue: Sequence[Job | Group], now: float, limits: Limits, takes_s: float = 0.0
) -> tuple[list[Job | Group], list[Job | Group]]:
    """What to run now and what to give up, both from the head of ``queue`` and in its order; ``queue`` is left alone.

    Takes whatever waits, up to ``limits.batch``, and never waits for more. A job that was cancelled or whose deadline
    has passed takes no place in the batch, nor does one that would be late after the ``takes_s`` seconds that a batch is
    expected to take, as long as there is another one for it. Codecs, levels, BERs and erasures mix freely. A group that has no room in
    full waits for the next batch, and whatever is behind it, too.
    """
    batch: list[Job | Group] = []
    given_up: list[Job | Group] = []
    room = limits.batch
    for job in queue:
        if job.cancelled or job.deadline <= now + takes_s:
            given_up.append(job)
            continue
        room -= job.images
        if room < 0:
            break
        batch.append(job)
        if not room:
            break
    if takes_s and not batch:  # the expectation may be wrong: who knows unless a batch is computed
        return form_batch(queue, now, limits)
    return batch, given_up


class Scheduler:
    """Runs batches on ``lanes``, and hands every job to ``finish`` exactly once.

    While a lane computes a batch, the event loop finishes the one before it. What is late ends, also where a lane hangs
    over it, which is given up in the end. Belongs to the loop's thread.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        finish: Callable[[Job | Group], None],
        limits: Limits,
        clock: Callable[[], float],
        observe_batch: Callable[[int], None],
    ):
        self._finish, self._limits = finish, limits
        self._clock, self._observe_batch = clock, observe_batch
        self._queue: deque[Job | Group] = deque()
        self._depth = 0  # images
        self._computing: dict[Lane, deque[list[Job | Group]]] = {lane: deque() for lane in lanes}
        self._began: dict[Lane, float] = {}  # with the first of its batches
        self._feeding = True  # soon; before the start, nothing is
        self._draining = False
        self._drained = asyncio.Event()
        self._batch_s, self._expected_s = LONG_BATCH_S, 0.0  # what the last batch took, and the shorter one of the last two
        self._looking: asyncio.Task | None = None
        self._patience: asyncio.TimerHandle | None = None  # while idle lanes leave what waits to others

    @property
    def depth(self) -> int:
        return self._depth

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def room(self) -> int:
        """Images that the queue still takes; while draining, what it could take if it took any: to say no is no work."""
        return self._limits.queue - (0 if self._draining else self._depth)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._looking = self._loop.create_task(self._look_for_late())
        self._feed()

    def put(self, job: Job | Group) -> None:
        """QueueFull beyond the bound; Unavailable while draining."""
        if self._draining:
            raise shutting_down()
        if self._depth + job.images > self._limits.queue:
            raise QueueFull(
                f"{self._depth} requests are waiting",
                allowed=f"{self._limits.queue}",
                fix="back off and retry, or raise --queue-limit",
            )
        self._depth += job.images
        self._queue.append(job)
        self.wake()

    def put_group(self, group: Group) -> bool:
        """As :meth:`put`, of at most ``limits.batch`` images. Whether they were merged into the last group that waits."""
        last = self._queue[-1] if self._queue else None
        fits = self._depth + group.images <= self._limits.queue and not self._draining
        if fits and isinstance(last, Group) and last.takes_in(group, self._limits.batch):
            self._depth += group.images
            self.wake()
            return True
        self.put(group)
        return False

    async def drain(self, timeout: float) -> None:
        """Take nothing new and finish what is queued; what is left after ``timeout`` seconds ends as Unavailable."""
        self._draining = True
        self._feed()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), timeout)
        if self._looking is not None:
            self._looking.cancel()
        for job in [*self._under_way(), *self._queue]:
            job.error = shutting_down()
            self._finish(job)
        self._queue.clear()
        self._depth = 0

    def wake(self) -> None:
        """Look again, soon: what comes in one turn of the event loop shares a batch."""
        if not self._feeding:
            self._feeding = True
            self._loop.call_soon(self._feed)

    def _feed(self) -> None:
        """Give lanes what is worth giving."""
        self._feeding = False
        for lane, batches in self._computing.items():
            while self._queue and lane.alive and self._is_worth_it(lane):
                batch = self._take()
                if not batch:
                    break
                if not batches:
                    self._began[lane] = batch[0].started
                batches.append(batch)
                for job in batch:  # late ones end before their batch does, which fails where a network of it is gone
                    job.served.in_flight += 1
                self._observe_batch(sum(job.images for job in batch))
                lane.submit([job.request for job in batch]).add_done_callback(partial(self._computed, lane))
        if self._draining and not self._queue and not any(self._computing.values()):
            self._drained.set()

    def _is_worth_it(self, lane: Lane) -> bool:
        """Whether the lane should have another batch. While others compute, short batches leave the processor to the doors,
        and what waits for them shares the next one. A lane that computes for longer, or hangs, is neither waited for nor
        given a second one."""
        is_short = self._batch_s < LONG_BATCH_S
        if self._computing[lane]:
            return len(self._computing[lane]) == 1 and is_short and self._depth >= AHEAD and self._is_soon_done(lane)
        if not is_short or self._depth >= self._limits.batch:
            return True
        if not any(self._is_soon_done(other) for other, batches in self._computing.items() if batches):
            return True
        if self._patience is None:
            self._patience = self._loop.call_later(LONG_BATCH_S, self._lose_patience)
        return False

    def _is_soon_done(self, lane: Lane) -> bool:
        """Of the only lane that there is, always: nobody else would take what waits."""
        return len(self._computing) == 1 or self._clock() < self._began[lane] + LONG_BATCH_S

    def _lose_patience(self) -> None:
        self._patience = None
        self.wake()

    def _computed(self, lane: Lane, running: asyncio.Future) -> None:
        batch = self._computing[lane].popleft()
        self._began[lane] = self._clock()
        answers = self._outcome(batch, running)
        self._feed()  # first: the lane waits
        self._deliver(batch, answers)
        for job in batch:
            job.served.leave()

    def _take(self) -> list[Job | Group]:
        now = self._clock()
        batch, given_up = form_batch(self._queue, now, self._limits, self._expected_s)
        for _ in range(len(batch) + len(given_up)):
            self._depth -= self._queue.popleft().images
        self._end_late(given_up)
        for job in batch:
            job.started = now
        return batch

    async def _look_for_late(self) -> None:
        """Nobody else does while lanes hang or are gone."""
        while True:
            await asyncio.sleep(LATE_S)
            now = self._clock()
            for lane, batches in self._computing.items():
                if batches and self._began[lane] + self._limits.batch_s <= now:
                    lane.give_up()
            computed = [job for job in self._under_way() if job.deadline <= now]
            queued = [job for job in self._queue if job.deadline <= now]
            if queued:
                self._queue = deque(job for job in self._queue if job.deadline > now)
                self._depth -= sum(job.images for job in queued)
                self.wake()  # they may have been the last ones
            self._end_late(computed + queued)

    def _under_way(self) -> list[Job | Group]:
        """What lanes compute and has not ended."""
        batches = chain.from_iterable(self._computing.values())
        return [job for job in chain.from_iterable(batches) if job.error is None]

    def _end_late(self, jobs: Iterable[Job | Group]) -> None:
        for job in jobs:
            job.error, job.finished = deadline_passed(), self._clock()
            self._finish(job)

    def _outcome(self, batch: list[Job | Group], running: asyncio.Future) -> list[EngineAnswer] | WeaklinkError:
        try:
            answers = running.result()
        except Unavailable as error:
            return error
        except Exception as error:  # whatever a network may raise: these requests fail, the server goes on
            images = sum(job.images for job in batch)
            known = [one.call.request_id for job in batch for one in job.jobs() if one.call.request_id]
            log.exception("the engine failed on a batch of %d", images, extra={"request_ids": known})
            return WeaklinkError(
                f"the engine failed on a batch of {images}: {error!r}",
                allowed="an answer",
                fix="see the server's log; try another runtime",
            )
        took_s = answers[0].decode_s + answers[0].tail_s
        self._expected_s = min(self._batch_s, took_s)
        self._batch_s = took_s
        return answers

    def _deliver(self, batch: list[Job | Group], answers: list[EngineAnswer] | WeaklinkError) -> None:
        now = self._clock()
        failed = isinstance(answers, WeaklinkError)
        for index, job in enumerate(batch):
            if job.error is not None:  # late, and told so
                continue
            job.finished = now
            if failed:
                job.error = answers
            elif job.deadline <= now:
                job.error = deadline_passed()
            else:
                job.answer = answers[index]
            self._finish(job)


def deadline_passed() -> DeadlineExceeded:
    return DeadlineExceeded(
        "the deadline passed before the answer was ready",
        allowed="the time that the caller gave",
        fix="allow more time, or send less at once",
    )


def shutting_down() -> Unavailable:
    return Unavailable(
        "the server is shutting down", allowed="requests while it serves", fix="try another node, or later"
    )
