"""Rules for the kernel, over real sockets."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from edge_server.kernel_filter import MOST_PORTS, SAMPLED, KernelFilter, Rule, Verdict

PASS, DROP, SAMPLE = Verdict
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


def test_ports_hosts_and_others(line: Line):
    first, _, third = line.ports
    for rules, expected in (
        ({}, [0, 1, 2]),
        ({"127.0.0.2": Rule({first: DROP}, PASS)}, [1, 2]),
        ({"127.0.0.2": Rule({}, DROP)}, [2]),
        ({"127.0.0.2": Rule({first: PASS}, DROP)}, [0, 2]),
        ({"127.0.0.9": Rule({}, DROP), "127.0.0.3": Rule({third: DROP}, PASS)}, [0, 1]),
        ({"127.0.0.3": Rule({first: PASS, third: DROP}, PASS), "127.0.0.2": Rule({}, DROP)}, []),
        ({}, [0, 1, 2]),
    ):
        line.filter.follow(rules)
        assert line.arrived() == expected
        assert line.filter.dropped() == 3 - len(expected)


def test_of_what_is_sampled_a_part_passes(line: Line):
    line.filter.follow({"127.0.0.2": Rule({line.ports[0]: PASS, line.ports[1]: DROP}, SAMPLE)}, SAMPLE)
    arrived = Counter(number for _ in range(1000) for number in line.arrived())
    assert arrived[0] == 1000 and arrived[1] == 0
    assert 1 <= arrived[2] <= 4 * 1000 // SAMPLED


def test_as_many_rules_as_there_is_room_for(line: Line):
    first, second, _ = line.ports
    hosts = {f"10.0.{number >> 8}.{number & 255}": Rule({}, DROP) for number in range(MOST_PORTS - 1)}
    line.filter.follow(hosts | {"127.0.0.2": Rule({first: DROP, second: DROP}, PASS), "127.0.0.3": Rule({}, DROP)})
    assert line.arrived() == [1, 2]
    ports = dict.fromkeys((port for port in range(1, 3 * MOST_PORTS) if port not in line.ports), PASS)
    line.filter.follow({"127.0.0.2": Rule({first: PASS} | ports | {second: PASS}, DROP)}, SAMPLE)
    assert line.arrived()[:1] == [0] and 1 not in line.arrived()


def test_what_found_no_room_is_counted_too(line: Line):
    line.inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    for _ in range(1000):
        line.senders[0].sendto(bytes(100), line.inbox.getsockname())
    lost = line.filter.dropped()
    assert lost > 0 and len(line.arrived()) + lost + line.filter.dropped() == 1003


def test_elsewhere_it_does_nothing():
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as sock:
        kernel_filter = KernelFilter(sock)
        kernel_filter.follow({"::1": Rule({}, DROP)})
        assert kernel_filter.dropped() == 0
