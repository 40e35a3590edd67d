"""The order of bits on the air: header bits spread evenly over the frame, payload bits interleaved between them.

The order depends on the frame's length only, and needs no table: two counters and one accumulator, as in Bresenham's
line. Neighbours on the air are far apart in the trellis and in the payload, so a burst thins both instead of
wiping out a stretch of either.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np


def stride(length: int) -> int:
    """The step through `length` bits, nearest above the golden section of it and coprime to it.

    A golden-section step keeps any run of consecutive visits evenly spread (the three-gap theorem; Sos 1958).
    144 is a Fibonacci number, and its stride is its predecessor 89.
    """
    step = max(1, length * 89 // 144)
    while gcd(step, length) != 1:
        step += 1
    return step


@lru_cache(maxsize=256)
def spread_layout(header_bits: int, payload_bits: int) -> np.ndarray:
    """The bit of [header | payload] that goes to each place on the air: int64 (header_bits + payload_bits,).

    With acc = 0, every place adds header_bits to acc; where acc reaches the frame's length that length is subtracted
    and a header bit is sent, elsewhere a payload bit. Each of the two is taken in steps of its own stride.
    """
    total = header_bits + payload_bits
    header_step, payload_step = stride(header_bits), stride(payload_bits)
    order = np.empty(total, dtype=np.int64)
    accumulator = header = payload = 0
    for place in range(total):
        accumulator += header_bits
        if accumulator >= total:
            accumulator -= total
            order[place] = header
            header = (header + header_step) % header_bits
        else:
            order[place] = header_bits + payload
            payload = (payload + payload_step) % payload_bits
    order.flags.writeable = False
    return order


@lru_cache(maxsize=256)
def contiguous_layout(header_bits: int, payload_bits: int) -> np.ndarray:
    """The header first and the payload after it, both in their own order: what `spread_layout` is measured against."""
    order = np.arange(header_bits + payload_bits, dtype=np.int64)
    order.flags.writeable = False
    return order
