"""HTTP connections that do not wait for ever, uvicorn's own time limits begin only behind the first answer, and that tell
who computes an answer that nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edge_server.http_body import ON_GONE

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class TimedHttp(HttpToolsProtocol):
    """Closes a connection whose next request, head and body, is not whole ``timeout_s`` seconds after the connection was
    made or the request began. Between two requests uvicorn's keep-alive limit holds."""

    def __init__(self, timeout_s: float, **arguments):
        super().__init__(**arguments)
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._on_gone: set[Callable[[], object]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
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
