"""A connection without a network, and the peer's side of it, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge_server.http2.connection import Http2Connection
from edge_server.http2.frames import GOAWAY, HEAD, PREFACE, SETTINGS, Code, frame
from edge_server.http2.grpc_call import CallHead
from edge_server.http2.receive_windows import LOAN
from edge_server.http2.stream import Stream
from edge_server.turns import Turns


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.written = bytearray()
        self.closing = self.aborted = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Peer:
    """A client that says whatever it is told to. Within a running event loop."""

    def __init__(
        self,
        open_stream: Callable[[Stream, CallHead], None],
        clock=lambda: 0.0,
        patience_s: float = 60.0,
        turns: Turns | None = None,
    ):
        self.transport = MemoryTransport()
        self.connection = Http2Connection(open_stream, CallHead.of, set(), patience_s, turns or Turns(), clock)
        self.connection.connection_made(self.transport)

    def begin(self) -> Peer:
        self.connection.data_received(PREFACE + frame(SETTINGS, 0, 0, b""))
        return self

    def send(self, *frames: bytes) -> None:
        """In pieces of what a read returns at most, until the server has closed."""
        data = b"".join(frames)
        for start in range(0, len(data), 65_536):
            if not self.transport.closing:
                self.connection.data_received(data[start : start + 65_536])

    async def received(self) -> list[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of every frame so far, once the server has had its turn."""
        while self.connection._postponed and not self.transport.closing:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        frames, place, data = [], 0, bytes(self.transport.written)
        while place < len(data):
            high, low, kind, flags, stream = HEAD.unpack_from(data, place)
            place += HEAD.size + (high << 8 | low)
            frames.append((kind, flags, stream, data[place - (high << 8 | low) : place]))
        assert place == len(data), "whole frames only"
        return frames

    async def told(self) -> Code | None:
        """Why the server ended the connection; None: it has not."""
        last = (await self.received())[-1]
        return Code(int.from_bytes(last[3][4:8])) if last[0] == GOAWAY else None

    def lose(self) -> None:
        """The connection is gone; and nothing is left of it."""
        self.connection.connection_lost(None)
        left = self.connection
        assert not left._streams and not left.outgoing._waiting
        assert not left.windows._borrowers and left.windows.loan == LOAN
