"""Whose bytes are read next, and how many: doors take turns, and while the queue is full their turns are rare.

A request that finds the queue full is refused, which takes the event loop about as long as to answer one. A flood of them
would leave no time for those that wait in the queue. So while it is full only so many are read as it takes to tell callers
that they should back off. The others stay where they are, in the kernel's buffers, which makes a TCP peer stop sending.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from contextvars import Context

TURN = 64  # frames, messages or requests in one turn of the event loop: engines are not to wait for what a flood brings
TURN_S = 0.002  # seconds, after which nobody else is read in it: the engine's answers wait that long for the loop
SHARE = 32  # of one reader
BUSY_TURN, PAUSE_S, LONGEST_PAUSE_S = 8, 0.005, 0.02
"""While the queue is full: so many in all, then a pause of so many seconds or more."""
REFUSING = 0.05  # of the time, as far as the longest pause allows
log = logging.getLogger(__name__)


class Turns:
    """Belongs to the event loop's thread. ``room``: jobs that the queue still takes. ``clock``: seconds."""

    def __init__(self, room: Callable[[], int] = lambda: TURN, clock: Callable[[], float] = time.perf_counter):
        self._room, self._clock = room, clock
        self._pause_s = PAUSE_S
        self._waiting: dict[Hashable, tuple[Callable[[int], int], int]] = {}  # in the order of their turns
        self._scheduled = self._resting = False

    @property
    def full(self) -> bool:
        """Whether to wait for a turn before reading anything: there is no room, or others came while there was none."""
        return self._resting or self._room() <= 0

    @property
    def room(self) -> int:
        return self._room()

    def wait(self, who: Hashable, read: Callable[[int], int], share: int = SHARE) -> None:
        """Have ``read(most)`` called soon, to take up to ``most`` and return how many it took; it may wait again.
        share: the most of a turn, as long as there is room. Where it raises, that is logged."""
        self._waiting.setdefault(who, (read, share))
        self._schedule()

    def leave(self, who: Hashable) -> None:
        """It need not be called any more."""
        self._waiting.pop(who, None)

    def _schedule(self) -> None:
        if self._scheduled or not self._waiting:
            return
        self._scheduled, self._resting = True, self._room() <= 0
        loop = asyncio.get_running_loop()
        if self._resting:
            loop.call_later(self._pause_s, self._turn)
        else:
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        had_room, began = self._room() > 0, self._clock()
        # Requests may take their room only later; more than there is now would be refused then.
        left = min(TURN, max(self._room(), BUSY_TURN)) if had_room else BUSY_TURN
        while self._waiting and left > 0 and ((room := self._room()) > 0) == had_room:
            if self._clock() - began > TURN_S:
                break
            read, share = self._waiting.pop(next(iter(self._waiting)))
            try:
                # In a context of its own: whose request had the turns scheduled, or was read before, is not whose this is.
                left -= max(1, Context().run(read, min(share, max(room, BUSY_TURN)) if had_room else left))
            except Exception:  # one that fails must not cost all others their turns
                log.exception("what was received could not be read")
                left -= 1
        self._pause_s = min(max(PAUSE_S, (self._clock() - began) * (1 / REFUSING - 1)), LONGEST_PAUSE_S)
        self._scheduled = self._resting = False
        self._schedule()
