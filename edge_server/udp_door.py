"""The way in for datagrams, any bit of which may be wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

from edge_server.admission import BACKLOG, Admission, Frame, Source
from edge_server.blocks import FIRST_S, Blocks
from edge_server.datagrams import BATCH, Address, Datagrams
from edge_server.gateway import Gateway, Readers
from edge_server.kernel_filter import KernelFilter
from edge_server.sockets import join
from edge_server.turns import Turns

BUSY_BACKLOG = 256  # frames that may wait where the queue is full: more would be old when it comes to them
BUSY_READ = 64  # that are admitted in one turn then, or not
BUFFER, BUSY_BUFFER = 4 << 20, 64 << 10
"""Bytes that the kernel may hold: the default drops frames within milliseconds while Python is busy. Where the queue is
full, more would be old when it comes to them, and what finds no room there costs nothing."""
READ_BATCH = 256  # frames of a turn of the event loop, and of a pass of the search
MOST_REPLIES = 4096  # that may wait for room in the socket
MOST_SENDERS = 8192  # at hand; any other is made anew
GATHER_S = 0.05  # for how long damaged frames of strangers wait for company: a search costs as much for one as for ten
LOOK_S = 1.0  # how often the kernel's drops are counted and blocks end
log = logging.getLogger(__name__)


class Sender(NamedTuple):
    """A datagram's source address."""

    door: UdpDoor
    address: Address
    transport = "udp"

    def send(self, reply: bytes) -> None:
        self.door.send(reply, self.address)


class UdpDoor:
    """Belongs to the event loop's thread; only ``readers.search`` runs on ``executor``.

    A turn takes what waits on the socket, reads what it can without a search, and hands it to the gateway; what is
    damaged more goes through the search, a batch at a time. Meanwhile frames wait in ``admission``, which is fair.
    """

    def __init__(
        self,
        gateway: Gateway,
        readers: Readers,
        executor: Executor,
        admission: Admission,
        turns: Turns,
        clock: Callable[[], float],
    ):
        self._gateway, self._readers, self._executor, self._admission = gateway, readers, executor, admission
        self._turns = turns
        self._blocks = Blocks(clock)
        admission.on_flood = self._block
        self._socket: socket.socket | None = None
        self._datagrams: Datagrams | None = None
        self._filter: KernelFilter | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._turning = self._resting = False
        self._rested = False  # lately
        self._damaged: list[Frame] = []
        self._searching: asyncio.Task | None = None
        self._pressing = asyncio.Event()  # a known sender's frame is damaged
        self._senders: dict[Address, Sender] = {}
        self._replies: list[tuple[bytes, Address]] = []
        self._waits_for_room = False

    async def open(self, sock: socket.socket) -> None:
        """Listen on a bound socket."""
        self._socket, self._filter, self._datagrams = sock, KernelFilter(sock), Datagrams(sock)
        self._loop = asyncio.get_running_loop()
        self._set_buffer(BUFFER)
        self._loop.add_reader(sock, self._readable)
        self._look()

    def send(self, reply: bytes, address: Address) -> None:
        """Soon, with others."""
        replies = self._replies
        if not replies:
            self._loop.call_soon(self._flush)
        if len(replies) < MOST_REPLIES:
            replies.append((reply, address))

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._count_dropped()
        if self._socket is not None:
            self._turns.leave(self)
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._datagrams.send(self._replies)
            self._replies.clear()
            self._socket.close()

    def _readable(self) -> None:
        if self._replies and not self._waits_for_room:
            self._flush()  # before more is taken on: somebody waits for them
        if self._turns.full:
            self._rest()
            return
        waits = self._turning or len(self._damaged) >= READ_BATCH
        frames = self._receive(0 if waits else min(READ_BATCH, self._turns.room))
        if frames:
            self._read(frames)
        if not self._turning:
            self._turn_again()

    def _receive(self, most: int) -> list[Frame]:
        """Admit what waits on the socket, as much as one call takes, and take up to ``most`` of it."""
        received = self._datagrams.receive(self._readers.longest + 1, BUSY_READ if self._resting else BATCH)
        if self._gateway.draining:
            self._gateway.count("draining", len(received))
            return []
        frames, refused = self._admission.admit(received, most, BUSY_BACKLOG if self._rested else BACKLOG)
        for outcome, count in refused.items():
            self._gateway.count(outcome, count)
        return frames

    def _rest(self) -> None:
        """The queue is full: leave most of what comes to the kernel, which drops it."""
        self._resting = True
        self._loop.remove_reader(self._socket)
        if not self._rested:
            self._rested = True
            self._set_buffer(BUSY_BUFFER)
        self._turn_again()

    def _turn(self, most: int) -> int:
        """Read up to ``most`` of what waits, unless as much waits for the search."""
        try:
            if self._resting:
                self._receive(0)
            frames = self._admission.take(most) if len(self._damaged) < READ_BATCH else []
            if frames:
                self._read(frames)
            if self._resting and self._turns.room > 0:
                self._resting = False
                self._loop.add_reader(self._socket, self._readable)
        finally:
            self._turn_again()
        return len(frames)

    def _turn_again(self) -> None:
        """Soon, where more waits."""
        waits = self._resting or (self._admission.waits and len(self._damaged) < READ_BATCH)
        if waits != self._turning:
            self._turning = waits
            (self._gateway.begin if waits else self._gateway.end)()
        if waits:
            self._turns.wait(self, self._turn, READ_BATCH)

    def _read(self, frames: Sequence[Frame]) -> None:
        """Handle what needs no search: nearly all of it together, what is unusual one by one."""
        try:
            whole, found, others = _parted(frames, self._readers.read_whole([data for data, _ in frames]))
            near, results, damaged = _parted(others, self._readers.read_near([data for data, _ in others]))
        except Exception:  # no frame, however damaged, may stop the gateway
            log.exception("the frame reader failed on %d frames", len(frames))
            self._gateway.count("internal", len(frames))
            return
        if damaged:
            self._damaged += damaged
            if any(self._admission.knows(address) for _, address in damaged):
                self._pressing.set()
            if self._searching is None:
                self._gateway.begin()
                self._searching = self._loop.create_task(self._search())
        if whole:
            self._handle(self._gateway.handle_whole, whole, found)
        if near:
            self._handle(self._gateway.handle, near, results)

    def _handle(self, handle: Callable[[Sequence, Sequence], list[bool]], frames: Sequence[Frame], results: Sequence) -> None:
        senders = [self._sender(address) for _, address in frames]
        for sender, is_welcome in zip(senders, handle(results, senders)):
            if is_welcome:
                self._admission.welcome(sender.address)

    def _sender(self, address: Address) -> Sender:
        sender = self._senders.get(address)
        if sender is None:
            if len(self._senders) >= MOST_SENDERS:
                self._senders.clear()
            sender = self._senders[address] = Sender(self, address)
        return sender

    async def _search(self) -> None:
        try:
            while self._damaged:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._pressing.wait(), GATHER_S)
                self._pressing.clear()
                frames, self._damaged = self._damaged, []
                if not self._turning:
                    self._turn_again()  # as much may wait for the search again
                try:
                    results = await self._loop.run_in_executor(
                        self._executor, self._readers.search, [data for data, _ in frames]
                    )
                except Exception:  # as above
                    log.exception("the search for headers failed on %d frames", len(frames))
                    self._gateway.count("internal", len(frames))
                    continue
                self._handle(self._gateway.handle, frames, results)
        finally:
            self._searching = None
            self._gateway.end()

    def _flush(self) -> None:
        if not self._replies:
            return  # sent or closed meanwhile
        del self._replies[: self._datagrams.send(self._replies)]
        if bool(self._replies) != self._waits_for_room:
            self._waits_for_room = bool(self._replies)
            if self._waits_for_room:
                self._loop.add_writer(self._socket, self._flush)
            else:
                self._loop.remove_writer(self._socket)

    def _block(self, source: Source) -> None:
        if self._blocks.add(source) == FIRST_S:  # not again while it goes on
            host, port = source
            who = "strangers of many addresses" if host is None else host if port is None else join(host, port)
            log.warning("a flood of frames that cannot be read, from %s: dropped by the kernel for a while", who)
        self._filter.follow(self._blocks.rules(self._admission.known()))

    def _set_buffer(self, size: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def _look(self) -> None:
        self._count_dropped()
        if self._rested and not self._turns.full:
            self._rested = False
            self._set_buffer(BUFFER)
        self._blocks.forget()
        self._filter.follow(self._blocks.rules(self._admission.known()))
        self._looking = self._loop.call_later(LOOK_S, self._look)

    def _count_dropped(self) -> None:
        dropped = self._filter.dropped()
        if dropped:
            self._gateway.count("dropped_by_kernel", dropped)


def _parted(frames: Sequence[Frame], results: Sequence) -> tuple[Sequence[Frame], Sequence, Sequence[Frame]]:
    """Frames that have a result, their results, and the other frames."""
    if None not in results:
        return frames, results, ()
    read = [(frame, result) for frame, result in zip(frames, results) if result is not None]
    others = [frame for frame, result in zip(frames, results) if result is None]
    return [frame for frame, _ in read], [result for _, result in read], others
