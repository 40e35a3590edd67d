"""Raw frames over UDP, both ways. Each client address is a device with an upstream socket of its own."""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import socket
from collections import OrderedDict
from collections.abc import Callable

from channel_emulator.channels import Transmission
from channel_emulator.link import Link
from semantic_codec.address import Address
from semantic_codec.errors import AlreadyExists, ConfigError, Unavailable

# Frames taken per wake-up: enough to keep up in bursts, few enough to let timers and the control API run between.
FRAMES_PER_WAKE = 64
MAX_DATAGRAM = 65_535
# For bursts of frames that come faster than they are read; the kernel grants it up to its own limit (rmem_max).
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
RESOLVE_SECONDS = 5.0


async def resolve(where: str, address: Address) -> list[tuple[int, tuple]]:
    """(address family, socket address), at least one, of a host and port. Unavailable: the name is not known (yet)."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except (OSError, ValueError) as error:  # ValueError: characters that no host name has
        raise Unavailable(
            f"{where} {str(address)!r} is unknown ({getattr(error, 'strerror', error)})",
            allowed="an IP address or a host name that resolves",
            fix="check the name, or create the link once the host is up",
        ) from None
    return [(family, where) for family, _, _, _, where in found]


class UdpProxy:
    """Listens for frames, carries them through a link's `up` chain to the upstream, and replies through `down`.

    Frames with a time in the future wait, at most `max_in_flight` of them; the rest is refused. They leave in the order
    of their times, those of equal time in the order in which they came.
    """

    def __init__(self, link: Link, *, max_in_flight: int = 65_536):
        self.link = link
        self._max_in_flight = max_in_flight
        self._sessions: OrderedDict[tuple, socket.socket] = OrderedDict()
        # (time, number, send, data, client), the next one first. One timer serves them all: an event loop's own timers
        # of equal time run in any order.
        self._waiting: list[tuple[float, int, Callable, bytes, tuple]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Bind and begin. Unavailable: unknown host. AlreadyExists: the port is taken. ConfigError: not bindable."""
        self._loop = asyncio.get_running_loop()
        self._upstream = (await resolve("upstream", self.link.settings.upstream))[0]
        self._socket = await bind_datagram(self.link.settings.listen)
        self.link.settings.listen = Address(*self._socket.getsockname()[:2])
        self._loop.add_reader(self._socket.fileno(), self._on_frames)
        self._watch = asyncio.create_task(self._follow_upstream())

    async def stop(self) -> None:
        """Close every socket; frames on their way are dropped."""
        self._watch.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for client in list(self._sessions):
            self._close_session(client)

    async def _follow_upstream(self) -> None:
        """Look the upstream's name up again and again: a container that restarts may have another address."""
        while True:
            await asyncio.sleep(RESOLVE_SECONDS)
            try:
                found = await resolve("upstream", self.link.settings.upstream)
            except Unavailable:
                continue
            if self._upstream not in found:
                self._upstream = found[0]
                for client in list(self._sessions):
                    self._close_session(client)

    def _on_frames(self) -> None:
        link, now = self.link, self._loop.time()
        for _ in range(FRAMES_PER_WAKE):
            try:
                data, client = self._socket.recvfrom(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # the kernel hands in errors of earlier replies here
            if link.in_flight >= self._max_in_flight:
                link.refuse("up")
                continue
            for transmission in link.carry("up", client, data, now):
                self._schedule(transmission, now, self._send_up, client)

    def _on_replies(self, client: tuple, upstream: socket.socket) -> None:
        link, now = self.link, self._loop.time()
        for _ in range(FRAMES_PER_WAKE):
            try:
                data = upstream.recv(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                link.send_errors += 1  # the upstream's port is closed
                continue
            if link.in_flight >= self._max_in_flight:
                link.refuse("down")
                continue
            for transmission in link.carry("down", client, data, now):
                self._schedule(transmission, now, self._send_down, client)

    def _schedule(self, transmission: Transmission, now: float, send: Callable, client: tuple) -> None:
        if transmission.time <= now and (not self._waiting or self._waiting[0][0] > now):
            send(transmission.data, client)
            return
        self.link.in_flight += 1
        number = next(self._numbers)
        heapq.heappush(self._waiting, (transmission.time, number, send, transmission.data, client))
        if self._waiting[0][1] == number:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(transmission.time, self._send_due)

    def _send_due(self) -> None:
        # The first is due whatever the clock says: timers may run early by the clock's resolution.
        now = max(self._loop.time(), self._waiting[0][0])
        while self._waiting and self._waiting[0][0] <= now:
            _, _, send, data, client = heapq.heappop(self._waiting)
            self.link.in_flight -= 1
            send(data, client)
        self._timer = self._loop.call_at(self._waiting[0][0], self._send_due) if self._waiting else None

    def _send_up(self, data: bytes, client: tuple) -> None:
        try:
            session = self._session(client)
            try:
                session.send(data)
            except ConnectionError:
                session.send(data)  # that was news of an earlier frame; this one was not sent
        except OSError:
            self.link.send_errors += 1

    def _send_down(self, data: bytes, client: tuple) -> None:
        try:
            self._socket.sendto(data, client)
        except OSError:
            self.link.send_errors += 1

    def _session(self, client: tuple) -> socket.socket:
        """The socket towards the upstream for this client; the one unused for longest makes room for a new one."""
        session = self._sessions.get(client)
        if session is not None:
            self._sessions.move_to_end(client)
            return session
        while len(self._sessions) >= self.link.max_devices:
            self._close_session(next(iter(self._sessions)))
        family, upstream = self._upstream
        session = socket.socket(family, socket.SOCK_DGRAM)
        try:
            session.setblocking(False)
            session.connect(upstream)
        except OSError:
            session.close()
            raise
        self._sessions[client] = session
        self._loop.add_reader(session.fileno(), self._on_replies, client, session)
        return session

    def _close_session(self, client: tuple) -> None:
        session = self._sessions.pop(client, None)
        if session is not None:
            self._loop.remove_reader(session.fileno())
            session.close()


async def bind_datagram(address: Address) -> socket.socket:
    """A bound, non-blocking UDP socket. AlreadyExists: the port is taken. ConfigError: not an address of this host."""
    family, where = (await resolve("listen", address))[0]
    listening = socket.socket(family, socket.SOCK_DGRAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listening.bind(where)
    except OSError as error:
        listening.close()
        raise bind_error(address, error) from None
    return listening


def bind_error(address: Address, error: OSError) -> AlreadyExists | ConfigError:
    """The refusal for an address that cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return AlreadyExists(
            f"listen address {str(address)!r} is taken", allowed="a free port", fix="choose another, or 0 for any"
        )
    return ConfigError(
        f"listen address {str(address)!r} cannot be bound ({error.strerror})",
        allowed="an address of this machine and a port that this user may open",
        fix="use 127.0.0.1 with a port above 1023, or 0 for any",
    )
