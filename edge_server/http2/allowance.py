"""What a peer may ask for that brings none of its requests forward."""

from __future__ import annotations

from collections.abc import Callable

from edge_server.http2.frames import Code, ConnectionFailed

MOST = 2000
PER_SECOND = 100.0
FOR_AN_ANSWER = 4


class Allowance:
    """Each frame that only costs (a cancelled or refused call, a ping, settings, an empty or unknown frame, a window
    a few bytes wider, a header block that must be decoded) is paid for from here. Answers earn, and so does time: a
    peer that works is never out of it, one that floods is (CVE-2019-9511 to 9518, CVE-2023-44487).
    """

    __slots__ = ("_clock", "_left", "_since")

    def __init__(self, clock: Callable[[], float]):
        self._clock, self._left, self._since = clock, MOST, clock()

    def spend(self, count: int = 1) -> None:
        """ConnectionFailed: it is used up."""
        self._left -= count
        if self._left < 0:
            now = self._clock()
            self._left = min(MOST, self._left + int((now - self._since) * PER_SECOND))
            self._since = now
            if self._left < 0:
                raise ConnectionFailed(Code.ENHANCE_YOUR_CALM)

    def earn(self, size: int, answers: int = 1) -> None:
        """Answers of so many bytes were sent; a large one is acknowledged with many frames."""
        self._left = min(MOST, self._left + FOR_AN_ANSWER * answers + (size >> 12))
