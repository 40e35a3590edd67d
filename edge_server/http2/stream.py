"""One request and its response on an HTTP/2 connection."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from edge_server.http2.frames import DEFAULT_WINDOW, END_STREAM, RST_STREAM, Code, frame

if TYPE_CHECKING:
    from edge_server.http2.connection import Http2Connection

MOST_BACKLOG = 65_536  # bytes that wait for the peer; above, there is no room for more


class Receiver(Protocol):
    """What a stream's data goes to."""

    def data_received(self, data: bytes) -> None: ...

    def ended(self) -> None:
        """The peer sent everything."""

    def cancelled(self) -> None:
        """The peer gave the stream up, or is gone. Nothing can be sent any more."""

    def drained(self) -> None:
        """There is room again, or there may be."""


class _Nobody:
    """Takes the place of who answered: a call and its stream that hold each other are left to the garbage collector."""

    def data_received(self, data: bytes) -> None:
        pass

    def ended(self) -> None:
        pass

    cancelled = drained = ended


NOBODY: Receiver = _Nobody()


class Stream:
    """``window``: bytes that the peer takes; ``receivable``: bytes that it may send; ``backlog``: what waits for its
    window. ``uncredited`` bytes were dealt with and not yet told; of ``receivable``, so many are ``borrowed`` from the
    connection, or ``wanted`` and not yet to be had."""

    __slots__ = (
        "connection", "number", "receiver", "window", "receivable", "uncredited", "borrowed", "wanted", "backlog",
        "trailers", "open_in", "closed",
    )  # fmt: skip

    def __init__(self, connection: Http2Connection, number: int, window: int):
        self.connection, self.number, self.window = connection, number, window
        self.receiver: Receiver = NOBODY
        self.receivable = DEFAULT_WINDOW
        self.uncredited = self.borrowed = self.wanted = 0
        self.backlog = bytearray()
        self.trailers: bytes | None = None
        self.open_in = True  # the peer may still send
        self.closed = False

    @property
    def has_room(self) -> bool:
        """Whether the peer keeps up with what it is sent."""
        return len(self.backlog) <= MOST_BACKLOG and not self.connection.paused

    def send(self, headers: bytes | None, data: bytes, trailers: bytes | None, answers: int = 1) -> None:
        """Header block, data and closing header block, whichever are there; data beyond the peer's window waits.
        answers: how many there are in the data."""
        if self.closed:
            return
        connection, out = self.connection, list[bytes]()
        connection.allowance.earn(len(data), answers)
        if headers is not None:
            out.append(connection.outgoing.header_frames(self, headers))
        if trailers is not None:
            self.trailers = trailers
        self.backlog += data
        connection.outgoing.send(self, out)
        connection.write(b"".join(out))

    def send_only_trailers(self, block: bytes, stop: bool = False) -> None:
        """A response that is one header block. stop: have the peer send no more of its request (RFC 9113, 8.1), which gRPC's
        own client takes for an error."""
        if not self.closed:
            self.connection.allowance.earn(len(block))
            self.connection.write(self.connection.outgoing.header_frames(self, block, END_STREAM))
            if stop and self.open_in:
                self.reset(Code.NO_ERROR)
            else:
                self.connection.forget(self)

    def expect(self, count: int) -> None:
        """So many more bytes are needed before any can be dealt with: the peer may send them once there is room."""
        self.connection.windows.lend(self, count)

    def consumed(self, count: int) -> None:
        """So many bytes of data were dealt with: the peer may send as many again."""
        self.connection.windows.credit(self, count)

    def reset(self, code: Code) -> None:
        if not self.closed:
            self.connection.write(frame(RST_STREAM, 0, self.number, struct.pack(">I", code)))
            self.connection.forget(self)
