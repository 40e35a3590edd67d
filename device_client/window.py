"""Many requests under way at once: one loop that sends, listens, repeats and gives up, for every transport.

       requests --(window, rate)--> line.send ........ line.receive --> deliveries
                                        ^                   |
                                        +--- repeat <-------+  silence or a passing error
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from device_client.messages import Answer, Delivery, Request
from semantic_codec.errors import Unavailable, WeaklinkError

MOST_BEHIND_S = 1.0


class Line(ABC):
    """One connection to the edge that answers by sequence number."""

    repeats_after_silence: bool

    @abstractmethod
    def send(self, request: Request) -> int:
        """Put a request on the wire; returns its bytes. Failures show up in :meth:`receive` or as silence."""

    @abstractmethod
    def receive(self, wait_s: float) -> list[tuple[int, Answer | WeaklinkError]]:
        """All that has arrived, by sequence; waits at most `wait_s` seconds for the first."""

    @abstractmethod
    def silence(self, request: Request, attempts: int) -> WeaklinkError:
        """The error of a request that was never answered."""

    def forget(self, request: Request) -> None:
        """Nobody waits for its answer any more."""


@dataclass
class Flight:
    """A request under way. due: when to act next; repeat: whether that act is a repeat after a passing error."""

    request: Request
    started: float
    due: float
    attempts: int = 1
    on_air_bytes: int = 0
    repeat: bool = False


def exchange(
    requests: Iterable[Request],
    line: Line,
    *,
    window: int,
    timeout_s: float,
    retries: int,
    rate: float | None = None,
    backoff_s: float = 0.1,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Delivery]:
    """Carry requests over `line`; yields each one's :class:`Delivery` as it ends.

    window: most requests under way. timeout_s: wait for an answer, per transmission. retries: repeats of one request
    after silence (where the line loses messages) or after :class:`Unavailable`, the latter with doubling backoff.
    A request is taken when it can be sent, and no earlier: a camera's is of then. While `requests` waits, nobody listens.
    """
    source = iter(requests)
    exhausted = False
    flights: dict[int, Flight] = {}
    next_send = clock()
    try:
        while not exhausted or flights:
            if not exhausted and len(flights) < window and clock() >= next_send:
                request = next(source, None)
                exhausted, now = request is None, clock()
                if request is not None:
                    flights[request.sequence] = Flight(request, now, now + timeout_s, on_air_bytes=line.send(request))
                    # A sender that fell behind must not make up for it in one burst.
                    next_send = max(next_send + 1 / rate, now - MOST_BEHIND_S) if rate else now
            may_send = not exhausted and len(flights) < window
            for sequence, heard in line.receive(_pause(flights, next_send if may_send else None, clock())):
                flight = flights.get(sequence)
                if flight is None:
                    continue  # an answer to a request that was given up, or a second answer to a repeated one
                if isinstance(heard, Unavailable) and flight.attempts <= retries:
                    flight.due, flight.repeat = clock() + backoff_s * 2 ** (flight.attempts - 1), True
                    continue
                yield _end(flights.pop(sequence), heard, clock())
            now = clock()
            for flight in [flight for flight in flights.values() if flight.due <= now]:
                if flight.repeat or (line.repeats_after_silence and flight.attempts <= retries):
                    flight.attempts, flight.repeat, flight.due = flight.attempts + 1, False, now + timeout_s
                    flight.on_air_bytes += line.send(flight.request)
                else:
                    del flights[flight.request.sequence]
                    yield _end(flight, line.silence(flight.request, flight.attempts), now)
    finally:
        for flight in flights.values():  # where the caller broke off
            line.forget(flight.request)


def _pause(flights: dict[int, Flight], next_send: float | None, now: float) -> float:
    """Seconds until there is something to do other than listening."""
    moments = [flight.due for flight in flights.values()]
    if next_send is not None:
        moments.append(next_send)
    return max(0.0, min(moments) - now) if moments else 0.0


def _end(flight: Flight, heard: Answer | WeaklinkError, now: float) -> Delivery:
    answer, error = (None, heard) if isinstance(heard, WeaklinkError) else (heard, None)
    if answer is not None:
        answer = replace(answer, latency_s=now - flight.started)
    return Delivery(flight.request, answer, error, flight.attempts, flight.on_air_bytes)
