"""Which senders the kernel drops before we see them, and for how long: longer each time that they go on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from edge_server.addresses import network
from edge_server.admission import Source
from edge_server.kernel_filter import MOST_SPARED, Rules

FIRST_S, LONGEST_S = 1.0, 16.0
MOST_BLOCKS = 64
FIRST_SAMPLE, THINNER, LAST_SAMPLE = 32, 4, 2048  # of strangers one datagram in so many passes, then fewer
STRANGERS = (None, None)


@dataclass
class _Block:
    ends: float
    seconds: float
    one_in: int


class Blocks:
    """Sources that flooded. A block is remembered for as long again as it lasted: who floods by then is blocked for twice
    as long. Of all strangers at once a sample passes, thinner where that floods, too."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._blocks: OrderedDict[Source, _Block] = OrderedDict()

    def add(self, source: Source) -> float:
        """Block it from now on; for how many seconds."""
        now, earlier = self._clock(), self._blocks.pop(source, None)
        seconds, one_in = FIRST_S, FIRST_SAMPLE
        if earlier is not None:
            seconds = min(LONGEST_S, 2 * earlier.seconds)
            if now < earlier.ends:
                one_in = min(LAST_SAMPLE, THINNER * earlier.one_in)
        self._blocks[source] = _Block(now + seconds, seconds, one_in)
        if len(self._blocks) > MOST_BLOCKS:
            self._blocks.popitem(last=False)
        return seconds

    def forget(self) -> None:
        """Those that have been quiet for long enough."""
        now = self._clock()
        for source, block in list(self._blocks.items()):
            if now > block.ends + block.seconds:
                del self._blocks[source]

    def rules(self, known: Iterable[Any]) -> Rules:
        """For :meth:`KernelFilter.follow`, at this moment. ``known``: addresses that only a block of their own concerns."""
        now = self._clock()
        blocked = {source: block for source, block in self._blocks.items() if now < block.ends}
        everybody = blocked.pop(STRANGERS, None)
        networks = tuple(host for host, port in blocked if port is None)
        spared = (each[:2] for each in known if everybody or (networks and network(each[0]) in networks))
        return Rules(
            senders=tuple(source for source in blocked if source[1] is not None),
            spared=tuple(islice(spared, MOST_SPARED)),
            networks=networks,
            one_in=everybody.one_in if everybody else 1,
        )
