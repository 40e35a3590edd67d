"""HTTP connections that are read in their turn, do not wait for ever (uvicorn's own time limits begin only behind the first
answer) nor hold whatever comes, and tell who computes an answer that nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from edge_server.connection_limit import ConnectionLimit
from edge_server.http_body import ON_GONE, Headers, refusal
from edge_server.http_infer import HotCall, Respond, Scope
from edge_server.turns import Turns
from semantic_codec.errors import TooLarge

_NOT_WORK = b"GET "
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n"
)
_SMALL = 4096  # bytes
LONGEST_HEAD = 32_768
"""Bytes of a request line and its headers, or of trailers; the parser holds them until they are whole."""
_PIECE = 16_384  # bytes that the parser is given at once, and by which a head may be longer unnoticed
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class TimedHttp(HttpToolsProtocol):
    """Closes a connection whose next request, head and body, is not whole ``timeout_s`` seconds after the connection was
    made or the request began. Between two requests uvicorn's keep-alive limit holds.

    ``limit``: how many connections there may be.

    What is received waits for its turn; but whoever looks at health or metrics is answered at once. ``hot``: what serves a
    method and path without the ASGI application, and so without a task: what is asked is queued by the time that the next
    connection's turn comes, and there is no more room than there is.
    """

    def __init__(
        self,
        timeout_s: float,
        turns: Turns,
        limit: ConnectionLimit,
        hot: Mapping[tuple[str, str], Callable[[Scope, Respond], HotCall]],
        **arguments,
    ):
        super().__init__(**arguments)
        self._timeout_s, self._turns, self._limit, self._hot = timeout_s, turns, limit, hot
        self._unread = b""
        self._reading = False
        self._held = 0  # bytes that the parser was given since a request began or its body grew
        self._call: tuple[HotCall, RequestResponseCycle] | None = None  # that is not answered yet
        self._unsent: RequestResponseCycle | None = None  # its answer has to wait for a peer that reads none
        self._timer: asyncio.TimerHandle | None = None
        self._on_gone: set[Callable[[], object]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._start()
        self._limit.enter(self, transport)

    def data_received(self, data: bytes) -> None:
        if not self._unread and data.startswith(_NOT_WORK):
            self._read(data)
            return
        self._unset_keepalive_if_required()  # the next request is there, although not yet read
        if self._unread or len(data) > _SMALL:
            self.flow.pause_reading()  # most requests are whole, and nothing follows until they are answered
        self._unread += data
        self._turns.wait(self, self._go_on)

    def _go_on(self, most: int) -> int:
        if self.transport.is_closing():
            return 1
        data = b""
        if not self.pipeline:  # else it would only be longer
            data, self._unread = self._unread, b""
            self.flow.resume_reading()
        try:
            self._read(data)
        except Exception:
            self.transport.abort()  # as asyncio does where it calls
            raise
        return 1

    def _read(self, data: bytes) -> None:
        self._reading = True
        for place in range(0, len(data), _PIECE):
            piece = data[place : place + _PIECE]
            self._held += len(piece)
            self._feed(piece)
            if self._held > LONGEST_HEAD:
                self._refuse_head()
            if self.transport.is_closing():
                break
        self._reading = False
        # Behind the parser: where answers came while it reads on, thousands of requests could be taken in one turn.
        if self._call is not None:
            call, cycle = self._call
            if cycle.more_body and cycle.waiting_for_100_continue:
                cycle.waiting_for_100_continue = False
                self.transport.write(_CONTINUE)
            call.look(cycle.body, not cycle.more_body)
            if self._call is not None and cycle is self.cycle and cycle.more_body:
                self.flow.resume_reading()
        self._wait_for_the_next()

    def _wait_for_the_next(self) -> None:
        """What came may have been no request: an empty line, or the rest of one that is refused. uvicorn's limit was lifted by
        it, and only an answer sets it again."""
        answered = self.cycle is not None and self.cycle.response_complete
        if answered and self._timer is None and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _feed(self, data: bytes) -> None:
        """As uvicorn's, but that who offers another protocol is answered in this one (RFC 9110, 7.8)."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as offer:
            if self._should_upgrade():
                # The parser takes a body for the other protocol's: it reads the request anew, without the offer.
                self._feed(self._without_upgrade() + data[offer.args[0] :])

    def _should_upgrade(self) -> bool:
        """Of a request that is read anew, nothing is to be served the first time."""
        return any(name == b"upgrade" for name, _ in self.headers)

    def _without_upgrade(self) -> bytes:
        version = self.scope["http_version"].encode()
        lines = [b"%b %b HTTP/%b" % (self.scope["method"].encode(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        serve = self._hot.get((cycle.scope["method"], cycle.scope["path"]))
        if serve is None:
            super()._start_asgi_task(cycle, app)
            return
        self._call = serve(cycle.scope, partial(self._respond, cycle)), cycle
        if not self._reading:  # it was received with an earlier one
            self._turns.wait(self, self._go_on)

    def _respond(self, cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> None:
        self._call = None
        if self.transport.is_closing():
            return
        parts = [STATUS_LINE[status], b"content-length: %d\r\n" % len(body)]
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += [b"%b: %b\r\n" % header for header in (*self.server_state.default_headers, *headers)]
        self.transport.write(b"".join((*parts, b"\r\n", body)))
        cycle.response_started = True
        if self.flow.write_paused:
            self._unsent = cycle
        else:
            self._end(cycle)

    def _end(self, cycle: RequestResponseCycle) -> None:
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unread and not self.transport.is_closing():
            self.flow.pause_reading()
            self._turns.wait(self, self._go_on)

    def resume_writing(self) -> None:
        super().resume_writing()
        cycle, self._unsent = self._unsent, None
        if cycle is not None:
            self._end(cycle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._turns.leave(self)
        self._limit.leave(self)
        self._stop()
        super().connection_lost(exc)
        if self._call is not None:
            self._call[0].gone()
            self._call = None
        for tell in list(self._on_gone):
            tell()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._held = 0
        self.scope[ON_GONE] = self._on_gone
        self._start()

    def on_body(self, body: bytes) -> None:
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._held = 0
        self._stop()
        super().on_message_complete()

    def _start(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._timeout_s, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        self._close_with(_TOO_SLOW)

    def _refuse_head(self) -> None:
        error = TooLarge(
            f"the head of the request has more than {LONGEST_HEAD} bytes",
            allowed=f"up to {LONGEST_HEAD}",
            fix="send fewer and shorter headers",
        )
        _, body = refusal("", error)
        self._close_with(_TOO_LONG % len(body) + body)

    def _close_with(self, answer: bytes) -> None:
        # Only where nothing else is being written, as to an earlier, pipelined request, nor was to this one.
        if self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body):
            self.transport.write(answer)
        self.transport.close()
