"""What interleaving is worth under bursts: the same ones on the air hit frames whose bits are spread, and frames in order.

Both ends know the order, which depends on a frame's length alone; no codec is trained for it.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.rivals.channels import Condition
from benchmarks.rivals.code_rows import device_columns, figures
from benchmarks.rivals.contest import Contest
from benchmarks.rivals.store import Row, Store
from codec_training.statistics import paired_interval_percent
from semantic_codec.frame import HEADER_BYTES

BURSTS = tuple(Condition("bursts", ber, burst_bits=length) for length in (16, 64) for ber in (0.01, 0.05, 0.1))


def measure_bursts(store: Store, contest: Contest, base: Row) -> None:
    """Of the longest level and the shortest, each of `BURSTS` with and without interleaving."""
    levels = contest.bundle.manifest.levels
    for size in sorted({levels[-1].payload_bytes, levels[0].payload_bytes}, reverse=True):
        for spread in BURSTS:
            for condition in (spread, replace(spread, interleaved=False)):
                _row(store, contest, base, size, condition)


def _row(store: Store, contest: Contest, base: Row, size: int, condition: Condition) -> None:
    order = "interleaved" if condition.interleaved else "in order"
    parameters = base | {
        "family": contest.bundle.manifest.family, "variant": f"{size} B, {order}", "payload_bytes": size,
        "channel": condition.channel, "ber": condition.ber, "erased": condition.erased,
        "burst_bits": condition.burst_bits, "interleaved": condition.interleaved,
    }  # fmt: skip

    def measure() -> Row:
        right = contest.ours(size, condition)
        row = figures(right, None) | device_columns(contest.bundle) | {"on_air_bytes": size + HEADER_BYTES}
        if not condition.interleaved:
            spread = contest.ours(size, replace(condition, interleaved=True))
            row["interleaved_above_percent"] = 100 * float(spread.mean() - right.mean())
            row["interleaved_above_interval_percent"] = list(paired_interval_percent(spread, right))
        return row

    store.row(parameters, measure)
