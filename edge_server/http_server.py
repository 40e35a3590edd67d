"""uvicorn's server, with an end that does not wait for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket

import uvicorn

log = logging.getLogger(__name__)


class HttpServer(uvicorn.Server):
    """Leaves the signals to :meth:`EdgeServer.run`. ``patience_s``: how long its end waits for answers, and for peers that
    take theirs."""

    def __init__(self, config: uvicorn.Config, patience_s: float):
        super().__init__(config)
        self._patience_s = patience_s
        # Then uvicorn gives up: there may be work that goes on although its connection is gone.
        config.timeout_graceful_shutdown = math.ceil(patience_s) + 1

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cutting = asyncio.get_running_loop().call_later(self._patience_s, self._cut)
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    def _cut(self) -> None:
        connections = list(self.server_state.connections)
        if connections:
            log.warning("HTTP connections still open after %g s: %d", self._patience_s, len(connections))
        for connection in connections:
            connection.transport.abort()
