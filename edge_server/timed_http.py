"""HTTP connections that do not wait for ever, uvicorn's own time limits begin only behind the first answer, that tell who
computes an answer that nobody waits for it any more, and that are read in their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edge_server.http_body import ON_GONE
from edge_server.turns import Turns

_NOT_WORK = b"GET "
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class TimedHttp(HttpToolsProtocol):
    """Closes a connection whose next request, head and body, is not whole ``timeout_s`` seconds after the connection was
    made or the request began. Between two requests uvicorn's keep-alive limit holds.

    While the queue is full, what is received waits for its turn; but whoever looks at health or metrics then is answered."""

    def __init__(self, timeout_s: float, turns: Turns, **arguments):
        super().__init__(**arguments)
        self._timeout_s, self._turns = timeout_s, turns
        self._unread = b""
        self._timer: asyncio.TimerHandle | None = None
        self._on_gone: set[Callable[[], object]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        if not self._unread and (not self._turns.full or data.startswith(_NOT_WORK)):
            super().data_received(data)
            return
        self._unset_keepalive_if_required()  # the next request is there, although not yet read
        self._unread += data
        self.flow.pause_reading()
        self._turns.wait(self, self._go_on)

    def _go_on(self, most: int) -> int:
        data, self._unread = self._unread, b""
        self.flow.resume_reading()
        super().data_received(data)
        return 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._turns.leave(self)
        self._stop()
        super().connection_lost(exc)
        for tell in list(self._on_gone):
            tell()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[ON_GONE] = self._on_gone
        self._start()

    def on_message_complete(self) -> None:
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
        # Only where nothing else is being written: an answer to an earlier, pipelined request may be under way.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_TOO_SLOW)
        self.transport.close()
