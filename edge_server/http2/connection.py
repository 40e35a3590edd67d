"""One HTTP/2 connection, server side: frames, flow control and the limits that keep a peer from costing more than its
requests are worth."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from typing import Any

import hpack

from edge_server.connection_limit import ConnectionLimit
from edge_server.http2.allowance import Allowance
from edge_server.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEAD,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Code,
    ConnectionFailed,
    frame,
    unpadded,
)
from edge_server.http2.headers import LARGEST_BLOCK, READ_BLOCK, HeaderReader
from edge_server.http2.outgoing import Outgoing
from edge_server.http2.receive_windows import ReceiveWindows
from edge_server.http2.stream import NOBODY, Receiver, Stream
from edge_server.turns import SHARE, Turns

MOST_STREAMS = 512
MOST_SETTINGS = 32  # in one frame
_WINDOW = struct.Struct(">I")


class Http2Connection(asyncio.Protocol):
    """``open_stream(stream, parse(headers))`` is called for each request and sets ``stream.receiver``.

    A peer that completes no frame for ``patience_s`` seconds is asked for a sign of life, and is gone if it gives none
    for as long again. ``connections``: those that are open; ``limit``: how many there may be. ``turns``: in which what is
    received is read.
    """

    def __init__(
        self,
        open_stream: Callable[[Stream, Any], None],
        parse: Callable[[list[tuple[str, str]]], Any],
        connections: set[Http2Connection],
        patience_s: float,
        turns: Turns,
        clock: Callable[[], float] = time.monotonic,
        limit: ConnectionLimit | None = None,
    ):
        self._open_stream, self._connections, self._patience_s = open_stream, connections, patience_s
        self._turns, self._limit = turns, limit or ConnectionLimit()
        self.allowance = Allowance(clock)
        self._reader = HeaderReader(parse, self.allowance.spend)
        self._streams: dict[int, Stream] = {}
        self.windows = ReceiveWindows(self.write)
        self._last = 0
        self._buffer = b""
        self._began = False
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and bytes of headers to be continued
        self._progress = self._asked = self._closing = False
        self._block_seen: object = None
        self._postponed = False  # the rest of what was received is for the next turn
        self.paused = False
        """The peer does not read what it is sent."""
        self.peer = ""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport, self._loop = transport, asyncio.get_running_loop()
        self.outgoing = Outgoing(transport, self.forget)
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        self._closing = not self._limit.enter(self, transport)
        self._connections.add(self)
        self._timer = self._loop.call_later(self._patience_s, self._look)
        settings = ((MAX_CONCURRENT_STREAMS, MOST_STREAMS), (MAX_HEADER_LIST_SIZE, LARGEST_BLOCK))
        self.write(frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *setting) for setting in settings)))
        self.windows.open()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._timer.cancel()
        self._connections.discard(self)
        self._limit.leave(self)
        self._turns.leave(self)
        for stream in list(self._streams.values()):
            self.forget(stream).cancelled()

    def pause_writing(self) -> None:
        # A peer that does not read its answers gets to ask no more.
        self.paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.paused = False
        if not self._postponed:
            self._go_on(SHARE)
        for stream in list(self._streams.values()):
            if not stream.closed:
                stream.receiver.drained()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._postponed:
            # Calls that would be refused wait; that one is given up, or has more room for its answers, is known at once.
            self._read(SHARE, new_calls=not self._turns.full)

    def _postpone(self) -> None:
        if not self._postponed:
            self._postponed = True
            self._transport.pause_reading()
            self._turns.wait(self, self._go_on)

    def _go_on(self, most: int) -> int:
        """Read up to so many frames of what was received, and return how many they were."""
        self._postponed = False
        if self.paused or self._transport.is_closing():
            return 0
        try:
            read = self._read(most)
        except Exception:
            self._transport.abort()  # as asyncio does where it calls
            raise
        if not (self._postponed or self.paused or self._transport.is_closing()):
            self._transport.resume_reading()
        return read

    def _read(self, most: int, new_calls: bool = True) -> int:
        try:
            return self._read_frames(self._buffer, most, new_calls)
        except ConnectionFailed as failure:
            self._end(failure.code)
        except hpack.HPACKError:
            self._end(Code.COMPRESSION_ERROR)
        return most

    @property
    def streams(self) -> list[Stream]:
        """Those that are open."""
        return list(self._streams.values())

    def close(self) -> None:
        """Say goodbye and close once everything written has gone out, or was not taken until patience ends."""
        self._end(Code.NO_ERROR)

    def write(self, data: bytes) -> None:
        """Everything of one turn of the event loop leaves together."""
        if not self._closing:
            self.outgoing.write(data)

    def forget(self, stream: Stream) -> Receiver:
        """Nothing can be sent on it any more; returns who is not told of it from now on."""
        stream.closed = True
        receiver, stream.receiver = stream.receiver, NOBODY
        self._streams.pop(stream.number, None)
        self.outgoing.forget(stream)
        self.windows.forget(stream)
        return receiver

    def _read_frames(self, data: bytes, most: int, new_calls: bool) -> int:
        place, end = 0, len(data)
        if not self._began:
            if not data.startswith(PREFACE[:end]):
                raise ConnectionFailed(Code.PROTOCOL_ERROR)
            if end < len(PREFACE):
                return 0
            self._began, place = True, len(PREFACE)
        frames = 0
        while end - place >= HEAD.size and not self._closing:
            high, low, kind, flags, number = HEAD.unpack_from(data, place)
            if frames == most or (kind == HEADERS and not new_calls):
                self._postpone()
                break
            frames += 1
            length = high << 8 | low
            if length > LARGEST_FRAME:
                raise ConnectionFailed(Code.FRAME_SIZE_ERROR)
            begin = place + HEAD.size
            if end - begin < length:
                break
            place = begin + length
            self._progress = True
            if self._block is not None and kind != CONTINUATION:
                raise ConnectionFailed(Code.PROTOCOL_ERROR)
            handle = self._HANDLERS.get(kind)
            if handle is None:  # to be ignored
                self.allowance.spend()
            else:
                handle(self, flags, number & 0x7FFF_FFFF, data[begin:place])
        self._buffer = data[place:]
        return frames

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self.windows.received(size)
        if flags & PADDED:
            payload = unpadded(payload)
        stream = self._streams.get(number)
        if stream is None:
            if not number & 1 or number > self._last:
                raise ConnectionFailed(Code.PROTOCOL_ERROR)
            self.allowance.spend()  # it ended meanwhile
            return
        stream.receivable -= size
        if stream.receivable < 0 or not stream.open_in:
            self._break(stream, Code.FLOW_CONTROL_ERROR if stream.open_in else Code.STREAM_CLOSED)
            return
        if not payload and not flags & END_STREAM:
            self.allowance.spend()
        if size > len(payload):
            self.windows.credit(stream, size - len(payload))
        if flags & END_STREAM:
            stream.open_in = False
        if payload:
            stream.receiver.data_received(payload)
        if flags & END_STREAM and not stream.closed:
            stream.receiver.ended()

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise ConnectionFailed(Code.PROTOCOL_ERROR)
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFailed(Code.FRAME_SIZE_ERROR)
            payload = payload[5:]
        if flags & END_HEADERS:
            self._begin(flags, number, payload)
        else:
            self._block = number, flags, bytearray(payload)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        self.allowance.spend()
        if self._block is None or self._block[0] != number:
            raise ConnectionFailed(Code.PROTOCOL_ERROR)
        _, first_flags, block = self._block
        block += payload
        if len(block) > READ_BLOCK:
            raise ConnectionFailed(Code.ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            self._block = None
            self._begin(first_flags, number, bytes(block))

    def _begin(self, flags: int, number: int, block: bytes) -> None:
        parsed = self._reader.read(block)  # of every block, or the table would no longer be the peer's
        ended = bool(flags & END_STREAM)
        if number <= self._last:
            self.allowance.spend()
            stream = self._streams.get(number)
            if stream is not None:
                if not stream.open_in or not ended:
                    raise ConnectionFailed(Code.PROTOCOL_ERROR)
                stream.open_in = False
                stream.receiver.ended()
            return
        self._last = number
        if len(self._streams) >= MOST_STREAMS:
            self.allowance.spend()
            self.write(frame(RST_STREAM, 0, number, _WINDOW.pack(Code.REFUSED_STREAM)))
            return
        stream = self._streams[number] = Stream(self, number, self.outgoing.initial_window)
        stream.open_in = not ended
        self._open_stream(stream, parsed)
        if ended and not stream.closed:
            stream.receiver.ended()

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        if not number or len(payload) != 5:
            raise ConnectionFailed(Code.PROTOCOL_ERROR if not number else Code.FRAME_SIZE_ERROR)
        self.allowance.spend()

    def _on_reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFailed(Code.FRAME_SIZE_ERROR)
        if not number & 1 or number > self._last:
            raise ConnectionFailed(Code.PROTOCOL_ERROR)
        self.allowance.spend()
        stream = self._streams.get(number)
        if stream is not None:
            self.forget(stream).cancelled()

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFailed(Code.PROTOCOL_ERROR)
        if len(payload) % 6 or (flags & ACK and payload):
            raise ConnectionFailed(Code.FRAME_SIZE_ERROR)
        self.allowance.spend()
        if flags & ACK:
            return
        if len(payload) > 6 * MOST_SETTINGS:
            raise ConnectionFailed(Code.ENHANCE_YOUR_CALM)
        for name, value in struct.iter_unpack(">HI", payload):
            if name == INITIAL_WINDOW_SIZE:
                self.allowance.spend(len(self._streams) >> 6)
                self.outgoing.change_initial_window(value, self._streams.values())
            elif name == MAX_FRAME_SIZE:
                if not LARGEST_FRAME <= value < 1 << 24:
                    raise ConnectionFailed(Code.PROTOCOL_ERROR)
                self.outgoing.largest_frame = value
        self.write(frame(SETTINGS, ACK, 0, b""))
        self.outgoing.send_waiting()

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFailed(Code.PROTOCOL_ERROR)
        if len(payload) != 8:
            raise ConnectionFailed(Code.FRAME_SIZE_ERROR)
        self.allowance.spend()
        if not flags & ACK:
            self.write(frame(PING, ACK, 0, payload))

    def _on_window(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFailed(Code.FRAME_SIZE_ERROR)
        self.allowance.spend()
        more = _WINDOW.unpack(payload)[0] & LARGEST_WINDOW
        if number == 0:
            self.outgoing.widen(more)
        elif stream := self._streams.get(number):
            stream.window += more
            if not more or stream.window > LARGEST_WINDOW:
                self._break(stream, Code.FLOW_CONTROL_ERROR if more else Code.PROTOCOL_ERROR)
            else:
                self.outgoing.widened(stream)
        elif not number & 1 or number > self._last:
            raise ConnectionFailed(Code.PROTOCOL_ERROR)

    def _on_goaway(self, flags: int, number: int, payload: bytes) -> None:
        """It opens no more streams, and closes the connection when it has its answers."""
        self.allowance.spend()

    def _on_push(self, flags: int, number: int, payload: bytes) -> None:
        raise ConnectionFailed(Code.PROTOCOL_ERROR)

    def _break(self, stream: Stream, code: Code) -> None:
        self.allowance.spend()
        receiver = stream.receiver
        stream.reset(code)
        receiver.cancelled()

    def _look(self) -> None:
        stuck = self._block is not None and self._block is self._block_seen
        if self._closing or not self._began or stuck or (self._asked and not self._progress and not self._postponed):
            self._transport.abort()
            return
        self._asked = not self._progress and not self._postponed
        if self._asked:
            self.write(frame(PING, 0, 0, b"weaklink"))
        self._progress, self._block_seen = False, self._block
        self._timer = self._loop.call_later(self._patience_s, self._look)

    def _end(self, code: Code) -> None:
        if not self._closing:
            self.write(frame(GOAWAY, 0, 0, struct.pack(">II", self._last, code)))
            self.outgoing.flush()
            self._closing = True
            self._transport.close()

    _HANDLERS = {
        DATA: _on_data,
        HEADERS: _on_headers,
        PRIORITY: _on_priority,
        RST_STREAM: _on_reset,
        SETTINGS: _on_settings,
        PUSH_PROMISE: _on_push,
        PING: _on_ping,
        GOAWAY: _on_goaway,
        WINDOW_UPDATE: _on_window,
        CONTINUATION: _on_continuation,
    }
