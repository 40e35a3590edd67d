"""For how long senders that flood are blocked, and who is spared."""

from __future__ import annotations

from edge_server.blocks import FIRST_S, LONGEST_S, MOST_BLOCKS, Blocks
from edge_server.kernel_filter import MOST_PORTS, Rule, Verdict

PORT, HOST, ALL = ("10.0.0.1", 7), ("10.0.0.2", None), (None, None)
PASS, DROP, SAMPLE = Verdict
KNOWN = [("10.0.0.1", 8), ("10.0.0.2", 9), ("10.0.0.3", 10), ("10.0.0.1", 7)]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_port_a_host_and_all_strangers():
    blocks = Blocks(Clock())
    assert blocks.rules(KNOWN) == ({}, PASS)
    blocks.add(PORT)
    assert blocks.rules(KNOWN) == ({"10.0.0.1": Rule({7: DROP, 8: PASS}, PASS)}, PASS)
    blocks.add(HOST)
    assert blocks.rules(KNOWN)[0]["10.0.0.2"] == Rule({9: PASS}, DROP)
    blocks.add(ALL)
    rules, others = blocks.rules(KNOWN)
    assert others is SAMPLE and list(rules) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "what is blocked comes first"
    assert rules["10.0.0.1"] == Rule({7: DROP, 8: PASS}, SAMPLE), "a known sender that floods is blocked all the same"
    assert rules["10.0.0.3"] == Rule({10: PASS}, SAMPLE)


def test_who_goes_on_is_blocked_for_longer():
    clock = Clock()
    blocks, seconds = Blocks(clock), FIRST_S
    for _ in range(8):
        assert blocks.add(PORT) == seconds
        clock.now += seconds - 0.01
        blocks.forget()
        assert blocks.rules([])[0], seconds
        clock.now += 0.02
        blocks.forget()
        assert not blocks.rules([])[0], "everybody gets another chance"
        seconds = min(LONGEST_S, 2 * seconds)
    clock.now += LONGEST_S
    blocks.forget()
    blocks.add(PORT)
    clock.now += FIRST_S + 0.01
    assert not blocks.rules([])[0], "who was quiet for long enough begins anew"


def test_blocks_and_the_spared_are_bounded():
    blocks = Blocks(Clock())
    for number in range(2 * MOST_BLOCKS):
        blocks.add(("10.0.0.1", number))
    assert len(blocks.rules([])[0]["10.0.0.1"].ports) == MOST_BLOCKS
    blocks.add(ALL)
    rules, _ = blocks.rules(("10.1.0.1", port) for port in range(10_000))
    assert len(rules["10.1.0.1"].ports) == MOST_PORTS
