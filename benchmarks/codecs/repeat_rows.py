"""Unequal protection without another training: a shorter prefix, and its first bytes once more in place of the last ones.

    payload of n bytes = first k bytes of the bitstream | its first n - k bytes again

The receiver puts both arrivals of a bit together (nn/edge.py), and answers with the bundle's network. What a codec makes of
it that learned with repeated symbols is an ablation of its own.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.rivals.channels import Condition
from benchmarks.rivals.code_rows import device_columns, figures
from benchmarks.rivals.contest import Contest
from benchmarks.rivals.store import Row, Store
from semantic_codec.bitstream import posterior_mean, unpack_bits
from semantic_codec.bundle import Recording
from semantic_codec.frame import HEADER_BYTES
from semantic_codec.nn.edge import combined

SHARES = (0.75, 0.5)
"""Which part of the longest level's bytes is the prefix; the rest repeats its beginning."""
PROTECTION = "repeated"


def measure_repeated(store: Store, contest: Contest, recording: Recording, base: Row, conditions: tuple[Condition, ...]) -> None:
    """Rows of the longest level on channels that flip single bits, for a codec whose symbols are signs."""
    manifest = contest.bundle.manifest
    if manifest.bits_per_symbol > 1:
        return
    payload = manifest.levels[-1].payload_bytes
    answers = RepeatedBytes(contest, recording)
    for prefix in (int(share * payload) for share in SHARES):
        for condition in (one for one in conditions if one.channel == "bsc"):
            parameters = base | {
                "family": manifest.family, "variant": f"{payload} B: {prefix} B, the first {payload - prefix} B twice",
                "payload_bytes": payload, "protection": PROTECTION,
                "channel": condition.channel, "ber": condition.ber, "erased": condition.erased,
            }  # fmt: skip

            def measure(prefix=prefix, condition=condition) -> Row:
                row = figures(answers.right(prefix, condition), contest.ours(payload, condition))
                return row | device_columns(contest.bundle) | {"on_air_bytes": payload + HEADER_BYTES}

            store.row(parameters, measure)


class RepeatedBytes:
    """Answers to payloads as long as the longest level's, whose end repeats their beginning."""

    def __init__(self, contest: Contest, recording: Recording):
        self._contest, self._manifest = contest, contest.bundle.manifest
        self._sent = unpack_bits(recording.bitstreams, self._manifest.bits)

    def right(self, prefix_bytes: int, condition: Condition) -> np.ndarray:
        """Float (draws, N)."""
        bits = self._manifest.bits
        again = bits - 8 * prefix_bytes
        on_air = np.concatenate([self._sent[:, : 8 * prefix_bytes], self._sent[:, :again]], axis=1)
        rights = []
        for draw in range(1 if condition.draws_alike else self._contest.draws):
            flips, erased = condition.draw(len(on_air), bits, bits, self._contest.seed, draw)
            soft = posterior_mean(on_air ^ flips, np.full(len(on_air), condition.ber), erased)
            both = combined(torch.from_numpy(soft), again, told=True).numpy()
            rights.append(self._contest.right(both, condition.ber))
        return np.stack(rights).astype(float)
