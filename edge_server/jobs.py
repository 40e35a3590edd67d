"""Images on their way through the edge: what the transport handed in, what was made of it, how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_server.engine import EngineAnswer, EngineRequest
from edge_server.repository import ServedCodec
from semantic_codec.errors import WeaklinkError

DEADLINE_SLACK = 0.02  # seconds; a call cancelled this close to its deadline was cancelled by the deadline


@dataclass(slots=True)
class Call:
    """A request as it came, unchecked. ``ber`` None: not known; ``level`` None: by length; ``deadline`` on the server's
    monotonic clock, None: the server's default; ``erased`` pairs of first bit and bit count; ``traceparent`` only where somebody looks at it."""

    transport: str
    bitstream: bytes
    codec: str = ""
    version: int = 0
    level: int | None = None
    ber: float | None = None
    erased: tuple[tuple[int, int], ...] = ()
    device: str = ""
    sequence: int = 0
    tasks: tuple[str, ...] = ()
    top_k: int = 0
    encoder_hash: bytes = b""
    request_id: str = ""
    deadline: float | None = None
    traceparent: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """A call and its end. ``done(job)`` is called exactly once, with either ``answer`` or ``error`` set.

    Times are seconds on the server's monotonic clock. ``ber_source`` is the proto's BerSource number. ``holder``: whose
    place among those under way it takes.
    """

    call: Call
    done: Callable[[Job], None]
    received: float
    deadline: float
    served: ServedCodec | None = None
    request: EngineRequest | None = None
    ber_source: int = 0
    started: float = 0.0
    finished: float = 0.0
    answer: EngineAnswer | None = None
    error: WeaklinkError | None = None
    cancelled: bool = False
    holder: str = ""

    @property
    def images(self) -> int:
        return 1

    @property
    def holders(self) -> Sequence[str]:
        return (self.holder,) if self.holder else ()

    @property
    def devices(self) -> Sequence[str]:
        return (self.call.device,)

    @property
    def sequences(self) -> Sequence[int]:
        return (self.call.sequence,)

    def jobs(self) -> Iterable[Job]:
        """Each image's; see :meth:`Group.jobs`."""
        return (self,)

    def abandon(self, now: float) -> None:
        """Nobody waits any more: the scheduler drops the job when it meets it, and counts why."""
        if now < self.deadline - DEADLINE_SLACK:
            self.cancelled = True
        else:
            self.deadline = 0.0


@dataclass(slots=True, eq=False)
class Group:
    """Images of one codec and level that are queued, computed and answered together, at a fraction of the cost of as
    many jobs. ``done(group)`` is called once for each group that it was split into, with ``answer`` or ``error`` set.

    ``bitstream``: the images' payloads one after the other, whole ones of the level; ``bers``, ``devices``,
    ``sequences`` and ``items``, what the transport wants to have back, of each image. All tasks are run for their best
    class. ``erased``: of each image. ``caller``: who holds the places of images of no device.
    """

    transport: str
    done: Callable[[Group], None]
    served: ServedCodec
    level: int
    bitstream: bytes
    bers: Sequence[float]
    ber_source: int
    devices: Sequence[str]
    sequences: Sequence[int]
    items: Sequence[Any]
    deadline: float | None = None
    traceparent: str = ""
    caller: str = ""
    erased: tuple[tuple[int, int], ...] = ()
    request: EngineRequest | None = None
    received: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    answer: EngineAnswer | None = None
    error: WeaklinkError | None = None
    cancelled: bool = False

    @property
    def images(self) -> int:
        return len(self.bers)

    @property
    def holders(self) -> Sequence[str]:
        if self.request is None:
            return ()
        return self.devices if all(self.devices) else [device or self.caller for device in self.devices]

    def abandon(self, now: float) -> None:
        """As :meth:`Job.abandon`."""
        if now < self.deadline - DEADLINE_SLACK:
            self.cancelled = True
        else:
            self.deadline = 0.0

    def pick(self, rows: Sequence[int]) -> Group:
        """A group of these images, its end still to come."""
        size = len(self.bitstream) // len(self.bers)
        return replace(
            self,
            bitstream=b"".join(self.bitstream[row * size : row * size + size] for row in rows),
            bers=[self.bers[row] for row in rows],
            devices=[self.devices[row] for row in rows],
            sequences=[self.sequences[row] for row in rows],
            items=[self.items[row] for row in rows],
        )

    def jobs(self) -> Iterable[Job]:
        """Each image as if it had come alone."""
        served, size = self.served, len(self.bitstream) // len(self.bers)
        for row, (ber, device, sequence) in enumerate(zip(self.bers, self.devices, self.sequences)):
            payload = self.bitstream[row * size : row * size + size]
            call = Call(
                self.transport, payload, served.name, served.version, self.level, erased=self.erased, device=device,
                sequence=sequence, deadline=self.deadline, traceparent=self.traceparent,
            )  # fmt: skip
            request = EngineRequest(
                served.name, served.version, self.level, payload, ber, self.erased, served.task_names, 1, served.revision
            )
            yield Job(
                call, lambda job: None, self.received, self.deadline, served, request, self.ber_source, self.started,
                self.finished, self._answer(row), self.error, self.cancelled,
            )  # fmt: skip

    def _answer(self, row: int) -> EngineAnswer | None:
        if self.answer is None:
            return None
        tasks = {task: best[row : row + 1] for task, best in self.answer.tasks.items()}
        return replace(self.answer, tasks=tasks)
