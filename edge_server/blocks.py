"""Which senders the kernel drops before we see them, and for how long: longer each time that they go on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from edge_server.admission import Source
from edge_server.kernel_filter import MOST_PORTS, Rule, Verdict

FIRST_S, LONGEST_S = 1.0, 16.0
MOST_BLOCKS = 64


@dataclass
class _Block:
    ends: float
    seconds: float


class Blocks:
    """Sources that flooded. A block is remembered for as long again as it lasted: who floods by then is blocked for twice
    as long."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._blocks: OrderedDict[Source, _Block] = OrderedDict()

    def add(self, source: Source) -> float:
        """Block it from now on; for how many seconds."""
        earlier = self._blocks.pop(source, None)
        seconds = FIRST_S if earlier is None else min(LONGEST_S, 2 * earlier.seconds)
        self._blocks[source] = _Block(self._clock() + seconds, seconds)
        if len(self._blocks) > MOST_BLOCKS:
            self._blocks.popitem(last=False)
        return seconds

    def forget(self) -> None:
        """Those that have been quiet for long enough."""
        now = self._clock()
        for source, block in list(self._blocks.items()):
            if now > block.ends + block.seconds:
                del self._blocks[source]

    def rules(self, known: Iterable[Any]) -> tuple[dict[str, Rule], Verdict]:
        """For :meth:`KernelFilter.follow`, at this moment. ``known``: addresses that only a block of their own concerns."""
        now = self._clock()
        blocked = [source for source, block in self._blocks.items() if now < block.ends]
        others = Verdict.SAMPLE if (None, None) in blocked else Verdict.PASS
        rules: dict[str, Rule] = {}
        for host, port in blocked:
            if host is not None:
                rule = rules.setdefault(host, Rule({}, others))
                if port is None:
                    rule.others = Verdict.DROP
                else:
                    rule.ports[port] = Verdict.DROP
        if blocked:
            for host, port, *_ in islice(known, MOST_PORTS):
                if host in rules or others is Verdict.SAMPLE:
                    rules.setdefault(host, Rule({}, others)).ports.setdefault(port, Verdict.PASS)
        return rules, others
