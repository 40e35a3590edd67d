"""Rules for the kernel: the program beside what the rules say, and over real sockets of both families."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_server.kernel_filter import MOST_SPARED, KernelFilter, Rules, compile_rules
from tests.edge_server.bpf import Datagram, IpAddress, run
from tests.edge_server.conftest import has_ipv6

FACTORS = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the filter and these loopback addresses are Linux's")


# Few enough that rules and datagrams meet, and near each other: they differ in one word, or in their family.
ADDRESSES = tuple(
    ipaddress.ip_address(text)
    for text in (
        "10.0.0.1", "10.0.0.2", "10.1.0.1", "::ffff:10.0.0.1", "::a00:1", "2001:db8::1", "2001:db8::2", "2001:db8::1:0:1",
        "2001:db8::1:0:0:1", "2001:db8:0:1::1", "2001:db9::1", "fe80::1",
    )
)  # fmt: skip
PORTS = (0, 7, 8, 65535)


def shown(address: IpAddress, dual: bool) -> str:
    """As a socket shows it to us: one of both families has no other form of an IPv4 address."""
    return f"::ffff:{address}" if dual and address.version == 4 else str(address)


def single(address: IpAddress) -> IpAddress:
    return getattr(address, "ipv4_mapped", None) or address


def network_of(address: IpAddress) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    address = single(address)
    return ipaddress.ip_network((address, 32 if address.version == 4 else 64), strict=False)


def named(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return str(network.network_address) if network.version == 4 else str(network)


def passes(
    source: tuple[IpAddress, int], senders: Sequence, spared: Sequence, networks: Sequence, one_in: int, random: int
) -> bool:
    """What the rules say, without a program."""
    source = single(source[0]), source[1]
    if source in [(single(address), port) for address, port in senders]:
        return False
    if source in [(single(address), port) for address, port in spared]:
        return True
    if any(source[0].version == network.version and source[0] in network for network in networks):
        return False
    return one_in == 1 or random < 2**32 // one_in


SENDERS = st.lists(st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(PORTS)), max_size=6)


@given(
    source=st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(PORTS)),
    senders=SENDERS,
    spared=SENDERS,
    networks=st.lists(st.sampled_from(ADDRESSES).map(network_of), max_size=4),
    one_in=st.sampled_from((1, 32, 2048)),
    random=st.integers(0, 2**32 - 1) | st.integers(0, 2**21),
    dual=st.booleans(),
)
@example(source=(ADDRESSES[0], 7), senders=[], spared=[], networks=[], one_in=32, random=2**27, dual=False)
@example(source=(ADDRESSES[0], 7), senders=[], spared=[], networks=[], one_in=32, random=2**27 - 1, dual=True)
def test_the_program_does_what_the_rules_say(source, senders, spared, networks, one_in, random, dual):
    rules = Rules(
        senders=[(shown(address, dual), port) for address, port in senders],
        spared=[(shown(address, dual), port) for address, port in spared],
        networks=[named(network) for network in networks],
        one_in=one_in,
    )
    # No packet has a mapped address of its own: it is how a socket shows an IPv4 one.
    passed = run(compile_rules(rules, FACTORS), Datagram(single(source[0]), source[1], random))
    assert passed == passes(source, senders, spared, networks, one_in, random)


def test_every_one_of_many_spared_senders_passes():
    spared = [(f"2001:db8::{number:x}", number) for number in range(MOST_SPARED + 1)]
    program = compile_rules(Rules(spared=spared, networks=["2001:db8::/64"]), FACTORS)
    passed = [run(program, Datagram(ipaddress.ip_address(host), port, 0)) for host, port in spared]
    assert passed == [True] * MOST_SPARED + [False], "the least important finds no room"
    strangers = [run(program, Datagram(ipaddress.ip_address(host), port + 1, 0)) for host, port in spared]
    assert not any(strangers)


class Line:
    """A filtered socket at ``at`` and a sender at each of ``hosts``."""

    def __init__(self, stack: ExitStack, at: str, hosts: Sequence[str]):
        family = socket.AF_INET6 if ":" in at else socket.AF_INET
        self.inbox = stack.enter_context(closing(socket.socket(family, socket.SOCK_DGRAM)))
        if family == socket.AF_INET6:
            self.inbox.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.inbox.bind((at, 0))
        self.inbox.setblocking(False)
        self.senders = []
        for host in hosts:
            version_6 = ":" in host
            sender = stack.enter_context(closing(socket.socket(socket.AF_INET6 if version_6 else socket.AF_INET, socket.SOCK_DGRAM)))
            sender.bind((host, 0))
            sender.connect(("::1" if version_6 else "127.0.0.1", self.inbox.getsockname()[1]))
            self.senders.append(sender)
        self.filter = KernelFilter(self.inbox)
        self.addresses: list[tuple[str, int]] = []
        self.arrived()

    def arrived(self) -> list[int]:
        """Which senders' datagrams arrive, of one each: on loopback they are there when send returns."""
        for number, sender in enumerate(self.senders):
            sender.send(bytes([number]))
        numbers, addresses = [], []
        try:
            while True:
                data, address = self.inbox.recvfrom(1)
                numbers.append(data[0])
                addresses.append(address[:2])
        except BlockingIOError:
            self.addresses = self.addresses or addresses
            return numbers


LINES = {
    "ipv4": ("127.0.0.1", ("127.0.0.2", "127.0.0.2", "127.0.0.3"), "127.0.0.2"),
    "ipv6": ("::1", ("::1", "::1", "::1"), None),
    "both, ipv4 senders": ("::", ("127.0.0.2", "127.0.0.2", "::1"), "127.0.0.2"),
    "both, ipv6 senders": ("::", ("::1", "::1", "127.0.0.2"), "::/64"),
}


@pytest.fixture(params=LINES)
def line(request: pytest.FixtureRequest):
    at, hosts, _ = LINES[request.param]
    if ":" in at and not has_ipv6():
        pytest.skip("this machine has no ::1")
    with ExitStack() as stack:
        yield Line(stack, at, hosts)


@needs_linux
def test_senders_networks_and_the_spared(line: Line, request: pytest.FixtureRequest):
    first, second, third = line.addresses
    assert line.filter.dropped() == 0
    cases = [
        (Rules(), [0, 1, 2]),
        (Rules(senders=[first]), [1, 2]),
        (Rules(senders=[first, third], spared=[first]), [1]),
        (Rules(senders=[(first[0], 1), ("2001:db8::1", first[1]), ("10.0.0.1", first[1])]), [0, 1, 2]),
        (Rules(), [0, 1, 2]),
    ]
    network = LINES[request.node.callspec.params["line"]][2]
    if network is None:
        cases.insert(-1, (Rules(networks=["::/64"], spared=[second]), [1]))
    else:
        cases.insert(-1, (Rules(networks=[network]), [2]))
        cases.insert(-1, (Rules(networks=["10.0.0.1", network, "2001:db8::/64"], spared=[second]), [1, 2]))
    for rules, expected in cases:
        line.filter.follow(rules)
        assert line.arrived() == expected, rules
        assert line.filter.dropped() == 3 - len(expected)


@needs_linux
def test_of_strangers_a_part_passes(line: Line):
    first, second, _ = line.addresses
    line.filter.follow(Rules(senders=[first], spared=[second], one_in=32))
    arrived = Counter(number for _ in range(1000) for number in line.arrived())
    assert arrived[0] == 0 and arrived[1] == 1000
    assert 1 <= arrived[2] <= 4 * 1000 // 32


@needs_linux
def test_the_kernel_takes_as_many_rules_as_there_may_be(line: Line):
    first, second, third = line.addresses
    line.filter.follow(
        Rules(
            senders=[(f"2001:db8::{number:x}", number) for number in range(31)] + [first],
            spared=[(f"2001:db8::{number:x}", number) for number in range(MOST_SPARED - 1)] + [third],
            networks=[f"2001:db8:0:{number:x}::/64" for number in range(32)],
            one_in=2**32 - 1,
        )
    )
    assert line.arrived() == [2]
    line.filter.follow(Rules())
    assert line.arrived() == [0, 1, 2]


@needs_linux
def test_what_found_no_room_is_counted_too(line: Line):
    line.inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    for _ in range(1000):
        line.senders[0].send(bytes(100))
    lost = line.filter.dropped()
    assert lost > 0 and len(line.arrived()) + lost + line.filter.dropped() == 1003


def test_elsewhere_it_does_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        kernel_filter = KernelFilter(sock)
        kernel_filter.follow(Rules(networks=["127.0.0.1"]))
        assert kernel_filter.dropped() == 0
