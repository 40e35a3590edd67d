"""The bounded queue in front of the engine, and the one function that forms batches."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from edge_server.engine import EngineAnswer
from edge_server.jobs import Group, Job
from edge_server.lanes import Lane
from semantic_codec.errors import DeadlineExceeded, QueueFull, Unavailable, WeaklinkError

LONG_BATCH_S = 0.003
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
    """Runs batches on ``lanes``, one at a time on each, and hands every job to ``finish`` exactly once.

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
        self._lanes, self._finish, self._limits = lanes, finish, limits
        self._clock, self._observe_batch = clock, observe_batch
        self._queue: deque[Job | Group] = deque()
        self._depth = 0  # images
        self._work = asyncio.Event()
        self._draining = False
        self._batch_s = self._expected_s = 0.0  # what the last batch took, and the shorter one of the last two
        self._computing: dict[Lane, list[Job | Group]] = {}
        self._tasks: list[asyncio.Task] = []
        self._looking: asyncio.Task | None = None

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
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(lane)) for lane in self._lanes]
        self._looking = loop.create_task(self._look_for_late())

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
        self._work.set()

    def put_group(self, group: Group) -> bool:
        """As :meth:`put`, of at most ``limits.batch`` images. Whether they were merged into the last group that waits."""
        last = self._queue[-1] if self._queue else None
        fits = self._depth + group.images <= self._limits.queue and not self._draining
        if fits and isinstance(last, Group) and last.takes_in(group, self._limits.batch):
            self._depth += group.images
            return True
        self.put(group)
        return False

    async def drain(self, timeout: float) -> None:
        """Take nothing new and finish what is queued; what is left after ``timeout`` seconds ends as Unavailable."""
        self._draining = True
        self._work.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        for task in self._tasks:
            task.cancel()
        if self._looking is not None:
            self._looking.cancel()
        for job in [*self._under_way(), *self._queue]:
            job.error = shutting_down()
            self._finish(job)
        self._queue.clear()
        self._depth = 0

    def wake(self) -> None:
        """Look again: a lane came back."""
        self._work.set()

    async def _run(self, lane: Lane) -> None:
        computed: tuple[list[Job | Group], list[EngineAnswer] | WeaklinkError] | None = None
        while True:
            batch = self._take() if lane.alive and self._worth_a_lane() else []
            running = lane.submit([job.request for job in batch]) if batch else None
            if running:
                self._computing[lane] = batch
            if computed:
                self._deliver(*computed)
                computed = None
            if running:
                computed = batch, await self._outcome(batch, running)
                del self._computing[lane]
                self._work.set()  # for a lane that left the queue to this one
            elif self._draining and not self._queue:
                return
            else:
                self._work.clear()
                await self._work.wait()

    def _worth_a_lane(self) -> bool:
        """Whether to take less than a full batch while another lane computes: short batches leave the processor to the
        doors, and what waits for them shares the next one."""
        return not self._computing or self._batch_s >= LONG_BATCH_S or self._depth >= self._limits.batch

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
            for lane, batch in self._computing.items():
                if batch[0].started + self._limits.batch_s <= now:
                    lane.give_up()
            computed = [job for job in self._under_way() if job.deadline <= now]
            queued = [job for job in self._queue if job.deadline <= now]
            if queued:
                self._queue = deque(job for job in self._queue if job.deadline > now)
                self._depth -= sum(job.images for job in queued)
                self._work.set()  # for lanes that wait for the last of them to stop
            self._end_late(computed + queued)

    def _under_way(self) -> list[Job | Group]:
        """What lanes compute and has not ended."""
        return [job for job in chain.from_iterable(self._computing.values()) if job.error is None]

    def _end_late(self, jobs: Iterable[Job | Group]) -> None:
        for job in jobs:
            job.error = deadline_passed()
            self._finish(job)

    async def _outcome(
        self, batch: list[Job | Group], running: asyncio.Future
    ) -> list[EngineAnswer] | WeaklinkError:
        images = sum(job.images for job in batch)
        self._observe_batch(images)
        try:
            answers = await running
        except Unavailable as error:
            return error
        except Exception as error:  # whatever a network may raise: these requests fail, the server goes on
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
