"""What is sent to the peer: as much of it as its windows take, and all of one turn of the event loop together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from edge_server.http2.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    Code,
    ConnectionFailed,
    frame,
    header_frames,
)
from edge_server.http2.headers import NO_TABLE
from edge_server.http2.stream import Stream


class Outgoing:
    """Of one connection. ``forget``: told of a stream whose last bytes were written."""

    def __init__(self, transport: asyncio.Transport, forget: Callable[[Stream], None]):
        self._transport, self._forget = transport, forget
        self._loop = asyncio.get_running_loop()
        self._written: list[bytes] = []
        self._waiting: dict[int, Stream] = {}  # streams with a backlog, in the order in which they are served
        self._window = DEFAULT_WINDOW  # of the peer
        self.initial_window = DEFAULT_WINDOW
        self.largest_frame = LARGEST_FRAME
        self._first = NO_TABLE  # of the next header block

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self.flush)
        self._written.append(data)

    def flush(self) -> None:
        """Hand what was written to the transport, now."""
        if self._written and not self._transport.is_closing():
            self._transport.write(b"".join(self._written))
        self._written.clear()

    def header_frames(self, stream: Stream, block: bytes, end_stream: int = 0) -> bytes:
        """As :func:`~edge_server.http2.frames.header_frames`; to be written in the order in which they were made."""
        block, self._first = self._first + block, b""
        return header_frames(stream.number, block, end_stream)

    def send(self, stream: Stream, out: list[bytes]) -> None:
        """Move what the windows allow from the stream's backlog to ``out``, and its trailers behind the last of it."""
        backlog = stream.backlog
        while backlog:
            size = min(len(backlog), self._window, stream.window, self.largest_frame)
            if size <= 0:
                self._waiting[stream.number] = stream
                return
            out.append(frame(DATA, 0, stream.number, bytes(backlog[:size])))
            del backlog[:size]
            self._window -= size
            stream.window -= size
        self._waiting.pop(stream.number, None)
        if stream.trailers is not None:
            # What the peer still sends is dropped: gRPC's own client takes a reset behind the trailers for an error.
            out.append(self.header_frames(stream, stream.trailers, END_STREAM))
            self._forget(stream)

    def forget(self, stream: Stream) -> None:
        self._waiting.pop(stream.number, None)

    def widen(self, more: int) -> None:
        """The peer takes so much more on all streams together. ConnectionFailed: that is not possible."""
        self._window += more
        if not more or self._window > LARGEST_WINDOW:
            raise ConnectionFailed(Code.FLOW_CONTROL_ERROR if more else Code.PROTOCOL_ERROR)
        self.send_waiting()

    def change_initial_window(self, value: int, streams: Iterable[Stream]) -> None:
        """The window of streams that are to come, and by as much that of those that are open."""
        if value > LARGEST_WINDOW:
            raise ConnectionFailed(Code.FLOW_CONTROL_ERROR)
        for stream in streams:
            stream.window += value - self.initial_window
            if stream.window > LARGEST_WINDOW:
                raise ConnectionFailed(Code.FLOW_CONTROL_ERROR)
        self.initial_window = value

    def send_waiting(self) -> None:
        """Windows have changed."""
        for stream in list(self._waiting.values()):
            if self._window <= 0:
                return
            self._send_one(stream)

    def widened(self, stream: Stream) -> None:
        """The stream's window has."""
        if stream.number in self._waiting:
            self._send_one(stream)

    def _send_one(self, stream: Stream) -> None:
        out: list[bytes] = []
        self.send(stream, out)
        if out:
            self.write(b"".join(out))
        if stream.has_room and not stream.closed:
            stream.receiver.drained()
