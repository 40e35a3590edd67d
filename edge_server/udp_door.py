"""The way in for datagrams, any bit of which may be wrong."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from edge_server.gateway import Gateway, Readers

READ_BATCH = 256  # frames per pass of the reader
BACKLOG = 4096  # frames that may wait for the reader; above, they are dropped and counted
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sender:
    """A datagram's source address."""

    socket: asyncio.DatagramTransport
    address: Any
    transport = "udp"

    def send(self, reply: bytes) -> None:
        self.socket.sendto(reply, self.address)


class UdpDoor(asyncio.DatagramProtocol):
    """Belongs to the event loop's thread; only ``readers.read`` runs on ``executor``."""

    def __init__(self, gateway: Gateway, readers: Readers, executor: Executor):
        self._gateway, self._readers, self._executor = gateway, readers, executor
        self._backlog: list[tuple[bytes, Any]] = []
        self._reading: asyncio.Task | None = None
        self._socket: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._socket = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        if self._gateway.draining:
            self._gateway.count("draining")
        elif len(self._backlog) >= BACKLOG:
            self._gateway.count("overflow")
        else:
            self._backlog.append((data, address))
            if self._reading is None:
                self._gateway.begin()
                self._reading = asyncio.get_running_loop().create_task(self._read_backlog())

    def error_received(self, error: OSError) -> None:
        """A device that went away answers our reply with an ICMP error: its loss, nobody else's."""
        log.debug("UDP: %s", error)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    async def _read_backlog(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._backlog:
                chunk, self._backlog = self._backlog[:READ_BATCH], self._backlog[READ_BATCH:]
                frames = [data for data, _ in chunk]
                try:
                    results = await loop.run_in_executor(self._executor, self._readers.read, frames)
                except Exception:  # no frame, however damaged, may stop the gateway
                    log.exception("the frame reader failed on %d frames", len(frames))
                    self._gateway.count("internal", len(frames))
                    continue
                for (_, address), result in zip(chunk, results, strict=True):
                    self._gateway.handle(result, Sender(self._socket, address))
        finally:
            self._reading = None
            self._gateway.end()
