"""For how long senders that flood are blocked, and who is spared."""

from __future__ import annotations

from edge_server.blocks import FIRST_S, FIRST_SAMPLE, LAST_SAMPLE, LONGEST_S, MOST_BLOCKS, STRANGERS, THINNER, Blocks
from edge_server.kernel_filter import MOST_SPARED, Rules

PORT, HOST, NETWORK = ("10.0.0.1", 7), ("10.0.0.2", None), ("2001:db8::/64", None)
KNOWN = [("10.0.0.1", 8), ("::ffff:10.0.0.2", 9, 0, 0), ("10.0.0.3", 10), ("2001:db8::1", 11, 0, 0), ("10.0.0.1", 7)]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_port_a_host_a_network_and_all_strangers():
    blocks = Blocks(Clock())
    assert blocks.rules(KNOWN) == Rules()
    blocks.add(PORT)
    assert blocks.rules(KNOWN) == Rules(senders=(PORT,))
    blocks.add(HOST)
    assert blocks.rules(KNOWN) == Rules(senders=(PORT,), networks=("10.0.0.2",), spared=(("::ffff:10.0.0.2", 9),))
    blocks.add(NETWORK)
    assert blocks.rules(KNOWN).spared == (("::ffff:10.0.0.2", 9), ("2001:db8::1", 11))
    blocks.add(STRANGERS)
    rules = blocks.rules(KNOWN)
    assert (rules.senders, rules.networks, rules.one_in) == ((PORT,), ("10.0.0.2", "2001:db8::/64"), FIRST_SAMPLE)
    assert rules.spared == tuple(address[:2] for address in KNOWN), "but a known sender that floods is blocked first"


def test_who_goes_on_is_blocked_for_longer():
    clock = Clock()
    blocks, seconds = Blocks(clock), FIRST_S
    for _ in range(8):
        assert blocks.add(PORT) == seconds
        clock.now += seconds - 0.01
        blocks.forget()
        assert blocks.rules([]).senders, seconds
        clock.now += 0.02
        blocks.forget()
        assert blocks.rules([]) == Rules(), "everybody gets another chance"
        seconds = min(LONGEST_S, 2 * seconds)
    clock.now += LONGEST_S
    blocks.forget()
    blocks.add(PORT)
    clock.now += FIRST_S + 0.01
    assert blocks.rules([]) == Rules(), "who was quiet for long enough begins anew"


def test_a_sample_that_still_floods_gets_thinner_until_it_ends():
    clock = Clock()
    blocks, one_in = Blocks(clock), FIRST_SAMPLE
    for _ in range(6):
        blocks.add(STRANGERS)
        assert blocks.rules([]).one_in == one_in
        one_in = min(LAST_SAMPLE, THINNER * one_in)
        clock.now += 0.5
    clock.now += LONGEST_S
    assert blocks.rules([]).one_in == 1
    blocks.add(STRANGERS)
    assert blocks.rules([]).one_in == FIRST_SAMPLE


def test_blocks_and_the_spared_are_bounded():
    blocks = Blocks(Clock())
    for number in range(2 * MOST_BLOCKS):
        blocks.add(("10.0.0.1", number))
    assert len(blocks.rules([]).senders) == MOST_BLOCKS
    blocks.add(STRANGERS)
    assert len(blocks.rules(("10.1.0.1", port) for port in range(10_000)).spared) == MOST_SPARED
