"""What the peer may send: the windows of a connection and of its streams, and loans for messages that are longer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edge_server.http2.frames import DEFAULT_WINDOW, window_update
from edge_server.http2.stream import Stream

CONNECTION_WINDOW = 1 << 20  # bytes on their way; what is held is bounded by the streams' windows and the loan
LOAN = 8 << 20
"""Bytes by which the windows of all streams together may be widened for messages that are longer than a window. A
message has its loan from its first bytes on, or waits for it: none waits half received for another's end."""
_CREDIT_AT = DEFAULT_WINDOW // 4


class ReceiveWindows:
    """Of one connection; ``write`` sends its frames."""

    def __init__(self, write: Callable[[bytes], None]):
        self._write = write
        self._borrowers: deque[Stream] = deque()  # streams that want a loan
        self._uncredited = 0
        self.loan = LOAN
        """Bytes that may still be lent."""

    def open(self) -> None:
        self._write(window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    def received(self, size: int) -> None:
        """So many bytes of data came on any stream; what they are held by is the streams' windows."""
        self._uncredited += size
        if self._uncredited >= CONNECTION_WINDOW // 2:
            self._write(window_update(0, self._uncredited))
            self._uncredited = 0

    def lend(self, stream: Stream, count: int) -> None:
        """Let the peer send ``count`` bytes on the stream, now or when others have given back."""
        if stream.receivable >= count or stream.wanted or not stream.open_in:
            return
        if stream.uncredited:
            self._widen(stream, stream.uncredited)
            stream.uncredited = 0
        missing = count - stream.receivable
        if missing > 0:
            stream.wanted = missing
            self._borrowers.append(stream)
            self._lend_on()

    def credit(self, stream: Stream, count: int) -> None:
        """So many bytes of the stream were dealt with."""
        returned = min(stream.borrowed, count)
        self._give_back(stream, returned)
        if stream.closed or not stream.open_in:
            return
        stream.uncredited += count - returned
        if stream.uncredited >= _CREDIT_AT:
            self._widen(stream, stream.uncredited)
            stream.uncredited = 0

    def forget(self, stream: Stream) -> None:
        if stream.wanted:
            self._borrowers.remove(stream)
            stream.wanted = 0
        self._give_back(stream, stream.borrowed)

    def _give_back(self, stream: Stream, count: int) -> None:
        if count:
            stream.borrowed -= count
            self.loan += count
            self._lend_on()

    def _lend_on(self) -> None:
        """In the order in which they came: a large one is not passed by for ever."""
        while self._borrowers and self._borrowers[0].wanted <= self.loan:
            stream = self._borrowers.popleft()
            self.loan -= stream.wanted
            stream.borrowed += stream.wanted
            self._widen(stream, stream.wanted)
            stream.wanted = 0

    def _widen(self, stream: Stream, count: int) -> None:
        stream.receivable += count
        self._write(window_update(stream.number, count))
