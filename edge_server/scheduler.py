"""The bounded queue in front of the engine, and the one function that forms batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice

from edge_server.engine import EngineAnswer, EngineRequest
from edge_server.jobs import Job
from semantic_codec.errors import DeadlineExceeded, QueueFull, Unavailable, WeaklinkError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """``queue``: jobs that may wait. ``batch``: images in one batch."""

    queue: int
    batch: int


def form_batch(queue: Sequence[Job], now: float, limits: Limits) -> tuple[list[Job], list[Job]]:
    """What to run now and what to give up, both from the head of ``queue`` and in its order; ``queue`` is left alone.

    Takes whatever waits, up to ``limits.batch``, and never waits for more. A job that was cancelled or whose deadline
    has passed takes no place in the batch. Codecs, levels, BERs and erasures mix freely.
    """
    batch: list[Job] = []
    given_up: list[Job] = []
    for job in islice(queue, limits.queue):
        if len(batch) == limits.batch:
            break
        (given_up if job.cancelled or job.deadline <= now else batch).append(job)
    return batch, given_up


class Scheduler:
    """Runs batches one after another on ``executor`` and hands every job to ``finish`` exactly once.

    While the engine computes a batch, the event loop finishes the one before it. All methods belong to the loop's
    thread; only ``infer`` runs on the executor.
    """

    def __init__(
        self,
        infer: Callable[[Sequence[EngineRequest]], list[EngineAnswer]],
        executor: Executor,
        finish: Callable[[Job], None],
        limits: Limits,
        clock: Callable[[], float],
        observe_batch: Callable[[int], None],
    ):
        self._infer, self._executor, self._finish, self._limits = infer, executor, finish, limits
        self._clock, self._observe_batch = clock, observe_batch
        self._queue: deque[Job] = deque()
        self._work = asyncio.Event()
        self._draining = False
        self._task: asyncio.Task | None = None

    @property
    def depth(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def put(self, job: Job) -> None:
        """QueueFull at the bound; Unavailable while draining."""
        if self._draining:
            raise shutting_down()
        if len(self._queue) >= self._limits.queue:
            raise QueueFull(
                f"{len(self._queue)} requests are waiting",
                allowed=f"{self._limits.queue}",
                fix="back off and retry, or raise --queue-limit",
            )
        self._queue.append(job)
        self._work.set()

    async def drain(self, timeout: float) -> None:
        """Take nothing new and finish what is queued; what is left after ``timeout`` seconds ends as Unavailable."""
        self._draining = True
        self._work.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._task), timeout)
        for job in self._queue:
            job.error = shutting_down()
            self._finish(job)
        self._queue.clear()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        computed: tuple[list[Job], list[EngineAnswer] | WeaklinkError] | None = None
        while True:
            batch = self._take()
            running = loop.run_in_executor(self._executor, self._compute, batch) if batch else None
            if computed:
                self._deliver(*computed)
                computed = None
            if running:
                computed = batch, await running
            elif not self._queue:
                if self._draining:
                    return
                self._work.clear()
                await self._work.wait()

    def _take(self) -> list[Job]:
        now = self._clock()
        batch, given_up = form_batch(self._queue, now, self._limits)
        for _ in range(len(batch) + len(given_up)):
            self._queue.popleft()
        for job in given_up:
            job.error = deadline_passed()
            self._finish(job)
        for job in batch:
            job.started = now
        return batch

    def _compute(self, batch: list[Job]) -> list[EngineAnswer] | WeaklinkError:
        self._observe_batch(len(batch))
        try:
            return self._infer([job.request for job in batch])
        except Exception as error:  # whatever a network may raise: these requests fail, the server goes on
            log.exception("the engine failed on a batch of %d", len(batch))
            return WeaklinkError(
                f"the engine failed on a batch of {len(batch)}: {error!r}",
                allowed="an answer",
                fix="see the server's log; try another runtime",
            )

    def _deliver(self, batch: list[Job], answers: list[EngineAnswer] | WeaklinkError) -> None:
        now = self._clock()
        failed = isinstance(answers, WeaklinkError)
        for index, job in enumerate(batch):
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
