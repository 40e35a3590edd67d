"""What of a process' memory the garbage collector need not look at."""

from __future__ import annotations

import gc

THRESHOLDS = 10_000, 20, 20
"""New objects before the youngest are looked at, and how often that is done before older ones are."""


def settle_heap() -> None:
    """Call once, when everything that a process is made of has been loaded: from then on the collector looks only at what
    requests leave behind. Over modules and classes, of which there are hundreds of thousands, a full collection
    takes a tenth of a second in which nothing is answered.

    Requests leave no cycles, but they do leave objects, of which the devices' last ones are remembered: looked at as often
    as is usual, these would cost a fifth of the time that a frame takes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
