"""Many datagrams at a time and one after the other, over real sockets of both families: the same comes and goes."""

from __future__ import annotations

import errno
import select
import socket
from contextlib import ExitStack, closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server import datagrams
from edge_server.datagrams import BATCH, Datagrams, _packed, _shown
from tests.edge_server.conftest import has_ipv6

WIDTH = 64
FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
ways = pytest.mark.parametrize("batches", [True, False], ids=["batches", "singly"])
hosts = pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"))]
)


class Rig:
    """A door's socket and senders."""

    def __init__(self, opened: ExitStack, batches: bool, host: str = "127.0.0.1", senders: int = 3):
        self.sock = self._socket(opened, host)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 200_000)  # of which the kernel makes twice that
        self.datagrams = Datagrams(self.sock, batches)
        self.senders = [self._socket(opened, host) for _ in range(senders)]
        for sender in self.senders:
            sender.settimeout(10)
            sender.connect(self.sock.getsockname())

    def _socket(self, opened: ExitStack, host: str) -> socket.socket:
        sock = opened.enter_context(closing(socket.socket(FAMILIES[host], socket.SOCK_DGRAM)))
        sock.bind((host, 0))
        return sock

    def receive(self, count: int) -> list[tuple[bytes, tuple]]:
        received: list[tuple[bytes, tuple]] = []
        while len(received) < count:
            assert select.select([self.sock], [], [], 10)[0]
            received += self.datagrams.receive(WIDTH)
        return received


@hosts
@ways
def test_each_datagram_comes_with_its_sender_and_each_reply_goes_back(batches: bool, host: str):
    with ExitStack() as opened:
        rig = Rig(opened, batches, host)
        assert rig.datagrams.receive(WIDTH) == []
        sent = [(bytes([number]) * (number % 40), rig.senders[number % 3]) for number in range(60)]
        for data, sender in sent:
            sender.send(data)
        received = rig.receive(60)
        assert received == [(data, sender.getsockname()) for data, sender in sent]
        assert rig.datagrams.send([(b"re" + data, address) for data, address in received]) == 60
        for data, sender in sent:
            assert sender.recv(100) == b"re" + data


@ways
def test_a_turn_is_bounded_and_long_datagrams_are_cut(batches: bool):
    with ExitStack() as opened:
        rig = Rig(opened, batches, senders=1)
        for number in range(BATCH + 20):
            rig.senders[0].send(bytes([number % 256]) * (WIDTH - 1 + number % 3))
        received = rig.datagrams.receive(WIDTH)
        assert len(received) == BATCH
        assert [len(data) for data, _ in received[:3]] == [WIDTH - 1, WIDTH, WIDTH]
        assert len(rig.datagrams.receive(2000)) == 20, "another width, another buffer"


@ways
def test_a_reply_that_cannot_be_sent_is_lost_alone(batches: bool):
    with ExitStack() as opened:
        rig = Rig(opened, batches)
        good, nowhere = rig.senders[0].getsockname(), ("255.255.255.255", 9)  # broadcast is not allowed
        replies = [(bytes([number]), nowhere if number % 3 == 1 else good) for number in range(12)]
        assert rig.datagrams.send(replies) == 12
        assert [rig.senders[0].recv(9) for _ in range(8)] == [data for data, address in replies if address == good]


@ways
def test_what_finds_no_room_is_left_to_the_caller(batches: bool, monkeypatch: pytest.MonkeyPatch):
    with ExitStack() as opened:
        rig = Rig(opened, batches)
        replies = [(bytes([number]), rig.senders[0].getsockname()) for number in range(9)]
        calls = []

        def full(number: int, error: int):
            """From that datagram on."""
            if rig.datagrams._library is None:

                class Full:
                    def sendto(self, data: bytes, address: tuple) -> int:
                        if data[0] >= number:
                            raise OSError(error, "no room")
                        return rig.sock.sendto(data, address)

                monkeypatch.setattr(rig.datagrams, "_sock", Full())
                return

            class Library:
                recvmmsg = rig.datagrams._library.recvmmsg

                def sendmmsg(self, descriptor: int, first: int, count: int, flags: int) -> int:
                    calls.append(count)
                    if len(calls) > 1:
                        datagrams.ctypes.set_errno(error)
                        return -1
                    return datagrams._library().sendmmsg(descriptor, first, number, flags)

            monkeypatch.setattr(rig.datagrams, "_library", Library())

        full(4, errno.EAGAIN)
        assert rig.datagrams.send(replies) == 4
        assert [rig.senders[0].recv(9) for _ in range(4)] == [data for data, _ in replies[:4]]


@settings(max_examples=50)
@given(st.ip_addresses(), st.integers(0, 65535), st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1))
def test_addresses_are_packed_as_the_kernel_has_them(host, port: int, flow: int, scope: int):
    address = (str(host), port) if host.version == 4 else (host.compressed, port, flow, scope)
    shown = _shown(_packed(address))
    assert shown[1:] == address[1:] and type(host)(shown[0]) == host
