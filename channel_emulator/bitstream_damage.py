"""An inference request with its bitstream replaced by what came through the link."""

from __future__ import annotations

from weaklink.v1 import edge_pb2


def damaged_request(request: edge_pb2.InferRequest, arrived: bytes) -> bytes:
    """The serialised request with the bitstream `arrived` in place of its own; `request` is left as it is.

    A shorter `arrived` is a truncation: the bitstream keeps its length, filled with zero bytes, and the bits that were
    cut off are one range of `erased`. Ranges that were there are kept up to the cut, so none overlap.
    """
    damaged = edge_pb2.InferRequest()
    damaged.CopyFrom(request)
    length, kept = len(request.bitstream), len(arrived)
    damaged.bitstream = arrived.ljust(length, b"\0")
    if kept < length:
        cut = 8 * kept
        before = [(r.first_bit, min(r.bit_count, cut - r.first_bit)) for r in request.erased if r.first_bit < cut]
        del damaged.erased[:]
        for first_bit, bit_count in [*before, (cut, 8 * (length - kept))]:
            damaged.erased.add(first_bit=first_bit, bit_count=bit_count)
    return damaged.SerializeToString()
