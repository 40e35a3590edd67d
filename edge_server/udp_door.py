"""The way in for datagrams, any bit of which may be wrong."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from edge_server.admission import Admission, Source
from edge_server.blocks import FIRST_S, Blocks
from edge_server.gateway import Gateway, Readers
from edge_server.kernel_filter import KernelFilter
from edge_server.sockets import join

READ_BATCH = 256  # frames per pass of the reader
LOOK_S = 1.0  # how often the kernel's drops are counted and blocks end
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

    def __init__(self, gateway: Gateway, readers: Readers, executor: Executor, admission: Admission, clock: Callable[[], float]):
        self._gateway, self._readers, self._executor, self._admission = gateway, readers, executor, admission
        self._blocks = Blocks(clock)
        admission.on_flood = self._block
        self._reading: asyncio.Task | None = None
        self._socket: asyncio.DatagramTransport | None = None
        self._filter: KernelFilter | None = None
        self._looking: asyncio.TimerHandle | None = None

    async def open(self, sock: socket.socket) -> None:
        """Listen on a bound socket."""
        self._filter = KernelFilter(sock)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=sock)
        self._look()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._socket = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        if self._gateway.draining:
            self._gateway.count("draining")
            return
        refusal = self._admission.offer(data, address)
        if refusal is not None:
            self._gateway.count(refusal)
        elif self._reading is None:
            self._gateway.begin()
            self._reading = asyncio.get_running_loop().create_task(self._read_waiting())

    def error_received(self, error: OSError) -> None:
        """A device that went away answers our reply with an ICMP error: its loss, nobody else's."""
        log.debug("UDP: %s", error)

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._count_dropped()
        if self._socket is not None:
            self._socket.close()

    def _block(self, source: Source) -> None:
        if self._blocks.add(source) == FIRST_S:  # not again while it goes on
            host, port = source
            who = "strangers of many addresses" if host is None else host if port is None else join(host, port)
            log.warning("a flood of frames that cannot be read, from %s: dropped by the kernel for a while", who)
        self._filter.follow(self._blocks.rules(self._admission.known()))

    def _look(self) -> None:
        self._count_dropped()
        self._blocks.forget()
        self._filter.follow(self._blocks.rules(self._admission.known()))
        self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _count_dropped(self) -> None:
        dropped = self._filter.dropped()
        if dropped:
            self._gateway.count("dropped_by_kernel", dropped)

    async def _read_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while chunk := self._admission.take(READ_BATCH):
                frames = [data for data, _ in chunk]
                try:
                    results = await loop.run_in_executor(self._executor, self._readers.read, frames)
                except Exception:  # no frame, however damaged, may stop the gateway
                    log.exception("the frame reader failed on %d frames", len(frames))
                    self._gateway.count("internal", len(frames))
                    continue
                for (_, address), result in zip(chunk, results, strict=True):
                    if self._gateway.handle(result, Sender(self._socket, address)):
                        self._admission.welcome(address)
        finally:
            self._reading = None
            self._gateway.end()
