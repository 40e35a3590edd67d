"""Rules for the kernel, over real sockets."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from edge_server.kernel_filter import MOST_PORTS, MOST_RULES, KernelFilter, Rule

HOSTS = ("127.0.0.2", "127.0.0.2", "127.0.0.3")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the filter and these loopback addresses are Linux's")


class Line:
    """A filtered socket and three senders, the first two of one host."""

    def __init__(self, stack: ExitStack):
        self.inbox, *self.senders = (
            stack.enter_context(closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))) for _ in range(4)
        )
        for sock, host in zip((self.inbox, *self.senders), ("127.0.0.1", *HOSTS), strict=True):
            sock.bind((host, 0))
        self.inbox.setblocking(False)
        self.ports = [sender.getsockname()[1] for sender in self.senders]
        self.filter = KernelFilter(self.inbox)

    def arrived(self) -> list[int]:
        """Which senders' datagrams arrive, of one each: on loopback they are there when sendto returns."""
        for number, sender in enumerate(self.senders):
            sender.sendto(bytes([number]), self.inbox.getsockname())
        numbers = []
        try:
            while True:
                numbers.append(self.inbox.recv(1)[0])
        except BlockingIOError:
            return numbers


@pytest.fixture
def line() -> Iterator[Line]:
    with ExitStack() as stack:
        yield Line(stack)


def test_a_port_a_host_and_all_but_some_ports(line: Line):
    first, _, third = line.ports
    for rules, expected in (
        ([], [0, 1, 2]),
        ([Rule("127.0.0.2", (first,), besides=False)], [1, 2]),
        ([Rule("127.0.0.2", (), besides=True)], [2]),
        ([Rule("127.0.0.2", (first,), besides=True)], [0, 2]),
        ([Rule("127.0.0.9", (), besides=True), Rule("127.0.0.3", (third,), besides=False)], [0, 1]),
        ([Rule("127.0.0.3", (first, third), besides=True), Rule("127.0.0.2", (), besides=True)], [2]),
        ([], [0, 1, 2]),
    ):
        line.filter.block(rules)
        assert line.arrived() == expected
        assert line.filter.dropped() == 3 - len(expected)


def test_as_many_rules_as_there_is_room_for(line: Line):
    many = [Rule(f"10.0.0.{number}", (), besides=True) for number in range(MOST_RULES - 1)]
    ports = tuple(port for port in range(1, 3 * MOST_PORTS) if port not in line.ports)
    line.filter.block([*many, Rule("127.0.0.2", (*ports, line.ports[0]), besides=True), Rule("127.0.0.3", (), besides=True)])
    assert line.arrived() == [2]
    line.filter.block([Rule("127.0.0.2", (*ports[: MOST_PORTS - 1], line.ports[0]), besides=True)])
    assert line.arrived() == [0, 2]


def test_what_found_no_room_is_counted_too(line: Line):
    line.inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    for _ in range(1000):
        line.senders[0].sendto(bytes(100), line.inbox.getsockname())
    lost = line.filter.dropped()
    assert lost > 0 and len(line.arrived()) + lost + line.filter.dropped() == 1003


def test_elsewhere_it_does_nothing():
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as sock:
        kernel_filter = KernelFilter(sock)
        kernel_filter.block([Rule("::1", (), besides=True)])
        assert kernel_filter.dropped() == 0
