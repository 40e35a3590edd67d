"""Which frames may wait for the reader: buckets on a clock of the test's."""

from __future__ import annotations

from collections import Counter
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server import admission as module
from edge_server.admission import BACKLOG, BURST, FLOOD, HOST_SHARE, KNOWN_BURST, STRANGERS_PART, STRANGERS_SHARE, Admission, Source

RATE = 100.0
DEVICE, NOISY = ("10.0.0.1", 5000), ("10.0.0.2", 6000)


@pytest.fixture(autouse=True, scope="module")
def unsalted():
    """Else one run in some 100 has two of a test's addresses in one slot, which is as it should be outside of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "hash", lambda value: crc32(repr(value).encode()), raising=False)
        yield


class Door:
    """An admission whose reader finds every frame unwelcome."""

    def __init__(self, most_known: int = 100):
        self.now = 0.0
        self.floods: list[Source] = []
        self.admission = Admission(RATE, most_known, lambda: self.now, self.floods.append)

    def noise(self, count: int, *addresses) -> int:
        """How many of so many frames, from these addresses in turn, are let in and read."""
        taken = 0
        for number in range(count):
            address = addresses[number % len(addresses)]
            taken += self.admission.offer(b"", address) is None
            while self.admission.take(256):
                pass
        return taken


def test_noise_is_bounded_by_the_rate_and_welcome_frames_are_not():
    door = Door()
    assert door.noise(5000, NOISY) == BURST
    assert door.noise(5000, NOISY) == 0
    door.now += 3
    assert door.noise(5000, NOISY) == 3 * RATE
    for _ in range(5000):
        assert door.admission.offer(b"", DEVICE) is None
        door.admission.take(256)
        door.admission.welcome(DEVICE)


def test_many_ports_of_a_host_and_many_hosts_get_little_further():
    door = Door()
    ports = [("10.0.0.2", port) for port in range(1000)]
    assert door.noise(20_000, *ports) == HOST_SHARE * BURST
    door.now += 1
    assert door.noise(20_000, *ports) == HOST_SHARE * RATE
    spoofed = [(f"10.1.{number // 200}.{number % 200}", 7) for number in range(20_000)]
    assert door.noise(20_000, *spoofed) < STRANGERS_SHARE * BURST
    door.now += 1
    assert door.noise(20_000, *spoofed) == STRANGERS_SHARE * RATE


def test_known_senders_are_spared_whatever_strangers_do():
    """Also from the flooder's own address, as behind a router that translates addresses."""
    door = Door()
    neighbour = (NOISY[0], 7000)
    for address in (DEVICE, neighbour):
        door.admission.welcome(address)
    spoofed = [(f"10.1.{number // 200}.{number % 200}", number) for number in range(20_000)]
    door.noise(40_000, NOISY, *spoofed)
    for address in (DEVICE, neighbour):
        assert door.noise(100, address) == 100
    assert list(door.admission.known()) == [neighbour, DEVICE]


def test_a_known_sender_is_bounded_too():
    door = Door()
    door.admission.welcome(DEVICE)
    assert door.noise(5000, DEVICE) == BURST
    door.now += 100
    assert door.noise(5000, DEVICE) == KNOWN_BURST
    door.now += 1
    assert door.noise(5000, DEVICE) == RATE


def test_a_new_port_brings_no_full_bucket():
    door = Door()
    door.noise(5000, NOISY)
    door.admission.welcome(NOISY)
    assert door.noise(5000, NOISY) <= 1


def test_the_least_recently_welcome_sender_becomes_a_stranger():
    door = Door(most_known=2)
    for port in (1, 2, 1, 3):
        door.admission.welcome(("10.0.0.1", port))
    assert list(door.admission.known()) == [("10.0.0.1", 3), ("10.0.0.1", 1)]


def test_a_frame_for_which_there_is_no_place_costs_no_token():
    door = Door()
    door.admission.welcome(DEVICE)
    backlog = 10
    refusals = [door.admission.offer(b"", DEVICE, backlog) for _ in range(backlog + 2 * BURST)]
    assert refusals == [None] * backlog + ["overflow"] * 2 * BURST


def test_what_waits_is_bounded_and_read_in_turns():
    admission = Admission(RATE, 100, lambda: 0.0)
    first, second = ("10.0.0.1", 1), ("10.0.0.1", 2)
    for address in (first, second):
        admission.welcome(address)
    for number in range(BURST - 10):
        assert admission.offer(b"%d" % number, first) is None
    for number in range(3):
        assert admission.offer(b"%d" % number, second) is None
    assert [address for _, address in admission.take(8)] == [first, second] * 3 + [first, first]
    assert [data for data, _ in admission.take(2)] == [b"5", b"6"]
    others = [("10.0.0.2", port) for port in range(20)]
    for address in others:
        admission.welcome(address)
    while admission.offer(b"", first) is None:
        pass
    assert admission.offer(b"", first) == "rate_limited"
    outcomes = [admission.offer(b"", address) for _ in range(500) for address in others]
    assert set(outcomes) == {None, "overflow"}
    waiting = 0
    while batch := admission.take(256):
        waiting += len(batch)
    assert waiting <= BACKLOG + KNOWN_BURST


def test_strangers_have_a_part_of_each_batch():
    admission = Admission(RATE, 100, lambda: 0.0)
    admission.welcome(DEVICE)
    for _ in range(500):
        admission.offer(b"", NOISY)
    assert len(admission.take(256)) == 256 // STRANGERS_PART, "a device that speaks next waits for no more of them"
    for _ in range(500):
        admission.offer(b"", DEVICE)
    batch = admission.take(256)
    assert len(batch) == 256
    assert sum(address == NOISY for _, address in batch) == 256 // STRANGERS_PART
    assert len(admission.take(1)) == 1


def test_floods_are_told_once_a_second():
    door = Door()
    door.noise(BURST + FLOOD - 1, NOISY)
    assert door.floods == []
    door.noise(3 * FLOOD, NOISY)
    assert door.floods == [NOISY]
    door.now += 1
    door.noise(int(RATE) + FLOOD, NOISY)
    assert door.floods == [NOISY] * 2
    ports = [("10.0.0.3", port) for port in range(1000)]
    door.noise(HOST_SHARE * BURST + 2 * FLOOD, *ports)
    assert door.floods[2:] == [("10.0.0.3", None)]
    spoofed = [(f"10.1.{number // 200}.{number % 200}", 7) for number in range(20_000)]
    door.noise(STRANGERS_SHARE * BURST + 2 * FLOOD, *spoofed)
    assert door.floods[3:] == [(None, None)]


def test_one_network_of_ipv6_is_one_host():
    door = Door()
    addresses = [(f"2001:db8::{number:x}%2", 1, 0, 0) for number in range(1000)]
    assert door.noise(20_000, *addresses) == HOST_SHARE * BURST
    assert door.floods == [("2001:db8::/64", None)]
    door.now += 1
    one = ("2001:db8:0:1::1", 1, 0, 0)
    assert door.noise(BURST + FLOOD, one) == BURST
    assert door.floods[1:] == [one[:2]]


def test_ipv4_hosts_at_a_socket_of_both_families_are_hosts_of_their_own():
    door = Door()
    addresses = [("::ffff:10.0.0.2", port, 0, 0) for port in range(1000)]
    assert door.noise(20_000, *addresses) == HOST_SHARE * BURST
    assert door.floods == [("10.0.0.2", None)]
    assert door.noise(100, ("::ffff:10.0.0.3", 1, 0, 0)) == 100


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=40),
    st.lists(st.integers(0, 40), max_size=5),
    st.integers(0, 20),
)
def test_frames_admitted_together_are_those_that_would_have_been_one_by_one(frames, earlier, most):
    """Whatever waits, and whoever is known: each frame is read or waits or is refused once, known senders' in order."""

    def made() -> Admission:
        admission = Admission(RATE, 100, lambda: 0.0)
        for number in range(3):
            admission.welcome((f"10.0.0.{number}", 7))
        for number in earlier:
            admission.offer(b"earlier", ("10.0.0.1", number))
        return admission

    offered = [(b"%d" % place, (f"10.0.0.{host}", 7)) for place, (host, copies) in enumerate(frames) for _ in range(copies)]
    together, singly = made(), made()
    batch, refused = together.admit(offered, most)
    refused_singly = Counter(filter(None, [singly.offer(*frame) for frame in offered]))
    assert len(batch) <= most and refused == refused_singly
    while more := together.take(50):
        batch += more
    rest = []
    while more := singly.take(50):
        rest += more
    assert sorted(batch) == sorted(rest)
    for number in range(3):
        of_one = [frame for frame in batch if frame[1] == (f"10.0.0.{number}", 7)]
        assert of_one == [frame for frame in rest if frame[1] == (f"10.0.0.{number}", 7)]
