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
    def entered(self) -> bool:
        """Whether its codec counts it as in flight."""
        return self.request is not None

    @property
    def holders(self) -> Sequence[str]:
        return (self.holder,) if self.holder else ()

    @property
    def devices(self) -> Sequence[str]:
        return (self.call.device,)

    @property
    def sequences(self) -> Sequence[int]:
        return (self.call.sequence,)

    @property
    def bers(self) -> Sequence[float]:
        return (self.request.ber,)

    def jobs(self) -> Iterable[Job]:
        """Each image's; see :meth:`Group.jobs`."""
        return (self,)

    def abandon(self, now: float) -> None:
        """Nobody waits any more: the scheduler drops the job when it meets it, and counts why."""
        if now < self.deadline - DEADLINE_SLACK:
            self.cancelled = True
        else:
            self.deadline = 0.0


MERGED_S = 0.003
"""Groups of one kind that come within this become one: a batch is then formed of few, however they trickle in."""


@dataclass(slots=True, eq=False)
class Group:
    """Images of one codec and level that are queued, computed and answered together, at a fraction of the cost of as
    many jobs. Groups may be split and merged on their way: ``done(group)`` is called for each that comes to its end,
    with ``answer`` or ``error`` set, and each image is in one of them.

    ``payloads``: whole ones of the level; ``items``: what the transport wants to have back of each image; ``erased``:
    of each image; ``caller``: who holds the places of images of no device. All tasks are run for their best class.
    """

    transport: str
    done: Callable[[Group], None]
    served: ServedCodec
    level: int
    ber_source: int
    payloads: Sequence[bytes]
    bers: Sequence[float]
    devices: Sequence[str]
    sequences: Sequence[int]
    items: Sequence[Any]
    erased: tuple[tuple[int, int], ...] = ()
    deadline: float | None = None
    traceparent: str = ""
    caller: str = ""
    entered: bool = False
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
    def request(self) -> EngineRequest:
        served = self.served
        return EngineRequest(
            served.name, served.version, self.level, b"".join(self.payloads), 0.0, self.erased, served.task_names, 1,
            served.revision, tuple(self.bers),
        )  # fmt: skip

    @property
    def holders(self) -> Sequence[str]:
        if not self.entered:
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
        picked = {name: [getattr(self, name)[row] for row in rows] for name in _COLUMNS}
        return replace(self, **picked)

    def takes_in(self, other: Group, most: int) -> bool:
        """Merge ``other`` into this group, at whose end it is: false where they differ in kind, are ``most`` images or
        more together, or did not come at one time."""
        if (
            self.images + other.images > most
            or other.received - self.received > MERGED_S
            or any(getattr(self, name) != getattr(other, name) for name in _KIND)
        ):
            return False
        for name in _COLUMNS:
            setattr(self, name, [*getattr(self, name), *getattr(other, name)])
        return True

    def jobs(self) -> Iterable[Job]:
        """Each image as if it had come alone."""
        served, each = self.served, zip(self.payloads, self.bers, self.devices, self.sequences)
        for row, (payload, ber, device, sequence) in enumerate(each):
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


_COLUMNS = ("payloads", "bers", "devices", "sequences", "items")
_KIND = ("served", "level", "erased", "transport", "done", "ber_source", "traceparent", "caller")
