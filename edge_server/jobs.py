"""One image on its way through the edge: what the transport handed in, what was made of it, how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

    def abandon(self, now: float) -> None:
        """Nobody waits any more: the scheduler drops the job when it meets it, and counts why."""
        if now < self.deadline - DEADLINE_SLACK:
            self.cancelled = True
        else:
            self.deadline = 0.0
