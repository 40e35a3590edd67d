"""The way in for serial lines, each a TCP connection as terminal servers make them: a stream to search for frames."""

from __future__ import annotations

import asyncio
import logging
import socket
from concurrent.futures import Executor

from edge_server.gateway import Gateway, Readers
from semantic_codec.serial_framing import SYNC_ERRORS, SerialReceiver, add_sync

MOST_LINES = 256
READ_BYTES = 4096  # of one line at a time: lines take turns on the reader's thread
HELD_BYTES = 65_536  # that a line may have waiting, either way: above, it is read no further, and replies are dropped
log = logging.getLogger(__name__)


class SerialDoor:
    """Makes a :class:`SerialLine` of each connection, at most ``most_lines`` of them."""

    def __init__(
        self,
        gateway: Gateway,
        readers: Readers,
        executor: Executor,
        sync_errors: int = SYNC_ERRORS,
        most_lines: int = MOST_LINES,
        client_timeout_s: float = 30.0,
    ):
        self.gateway, self.readers, self.executor, self.sync_errors = gateway, readers, executor, sync_errors
        self._most_lines, self._client_timeout_s = most_lines, client_timeout_s
        self._lines: set[SerialLine] = set()
        self._server: asyncio.Server | None = None

    async def open(self, sock: socket.socket) -> None:
        """Listen on a bound socket."""
        self._server = await asyncio.get_running_loop().create_server(lambda: SerialLine(self), sock=sock)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for line in list(self._lines):
            line.close()

    def enter(self, line: SerialLine) -> bool:
        """Whether there is room for one more line."""
        if self.gateway.draining or len(self._lines) >= self._most_lines:
            return False
        self._lines.add(line)
        return True

    def watch(self, sock: socket.socket) -> None:
        """A line whose other end lost its power says nothing at all: close it when nothing answers for a while."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        probe_s = max(1, int(self._client_timeout_s / 4))
        for name, value in (
            ("TCP_KEEPIDLE", probe_s),
            ("TCP_KEEPINTVL", probe_s),
            ("TCP_USER_TIMEOUT", int(self._client_timeout_s * 1e3)),  # also for a reply that nobody acknowledges
        ):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def leave(self, line: SerialLine) -> None:
        self._lines.discard(line)


class SerialLine(asyncio.Protocol):
    """One line; the source of every frame on it. Belongs to the event loop's thread; the search runs on the executor.

    More than one device may speak on it: a reply goes out to all of them, and only one can read it.
    """

    transport = "serial"

    def __init__(self, door: SerialDoor):
        self._door, self._gateway = door, door.gateway
        self._sizes = door.readers.sizes
        self._receiver = SerialReceiver(self._sizes, door.readers.find, door.sync_errors)
        self._held = bytearray()
        self._searching: asyncio.Task | None = None
        self._connection: asyncio.Transport | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._connection = transport
        if not self._door.enter(self):
            log.warning("serial line of %s refused: too many, or shutting down", transport.get_extra_info("peername"))
            transport.abort()
            return
        self._door.watch(transport.get_extra_info("socket"))

    def connection_lost(self, error: Exception | None) -> None:
        self._door.leave(self)

    def data_received(self, data: bytes) -> None:
        if self._gateway.draining:
            return
        self._held += data
        if len(self._held) >= HELD_BYTES:
            self._pause(True)
        if self._searching is None:
            self._gateway.begin()
            self._searching = asyncio.get_running_loop().create_task(self._search())

    def send(self, reply: bytes) -> None:
        connection = self._connection
        # A peer that does not read must not fill our memory.
        if not connection.is_closing() and connection.get_write_buffer_size() < HELD_BYTES:
            connection.write(add_sync(reply))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _pause(self, paused: bool) -> None:
        if paused != self._paused and not self._connection.is_closing():
            self._paused = paused
            (self._connection.pause_reading if paused else self._connection.resume_reading)()

    async def _search(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._held:
                data = bytes(self._held[:READ_BYTES])
                del self._held[:READ_BYTES]
                if len(self._held) < HELD_BYTES:
                    self._pause(False)
                if self._sizes is not self._door.readers.sizes:
                    self._sizes = self._door.readers.sizes
                    self._receiver.expect(self._sizes)
                try:
                    found = await loop.run_in_executor(self._door.executor, self._receiver.feed, data)
                except Exception:  # no bytes, however odd, may stop the gateway
                    log.exception("the search for frames failed on %d bytes", len(data))
                    self._gateway.count("internal")
                    continue
                for result in found:  # one by one: a line's replies come in the order of its frames
                    self._gateway.handle([result], [self])
        finally:
            self._searching = None
            self._gateway.end()
