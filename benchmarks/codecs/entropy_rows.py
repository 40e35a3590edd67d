"""A codec's symbols where a payload arrives whole or not at all: entropy-coded, behind a checksum and a convolutional code.

    symbols -> range coder -> CRC-16 -> K = 7, tail-biting -> [channel] -> best words -> the first whose CRC holds -> symbols

Payloads differ in length; the receiver knows each from the length of its frame. A frame of whose words no CRC holds is lost,
and a lost image counts as wrong: behind the first wrong bit entropy-coded symbols mean nothing. One whose CRC holds by chance
is decoded and answered.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache, cached_property

import numpy as np

from benchmarks.rivals.channels import Condition
from benchmarks.rivals.code_rows import device_columns, figures
from benchmarks.rivals.codes import TailBiting
from benchmarks.rivals.contest import Contest
from benchmarks.rivals.store import Row, Store
from semantic_codec.bitstream import pack_symbols, posterior_mean, unpack_bits, unpack_symbols
from semantic_codec.bundle import Recording
from semantic_codec.entropy_coding import SymbolCoder
from semantic_codec.errors import InvalidRequest
from semantic_codec.frame import HEADER_BYTES
from semantic_codec.header_code import HeaderCode

RATES = {"1/3": (1, 3), "1/2": (1, 2), "3/4": (3, 4)}
WORDS = 4
"""The likeliest words of a frame, whose CRCs are tried in turn."""
CRC_START = 0xFFFF
PROTECTION = "entropy-coded"


def measure_entropy_coded(
    store: Store, contest: Contest, recording: Recording, base: Row, conditions: tuple[Condition, ...]
) -> None:
    """Rows of each rate for a bundle that says how often it sends each symbol; none for others."""
    manifest = contest.bundle.manifest
    if "symbol_counts" not in manifest.training:
        return
    frames = EntropyCoded(contest, recording)
    for name, rate in RATES.items():
        for condition in conditions:
            parameters = base | {
                "family": manifest.family, "variant": f"{PROTECTION}, rate {name}", "protection": PROTECTION,
                "channel": condition.channel, "ber": condition.ber, "erased": condition.erased,
            }  # fmt: skip
            store.row(parameters, lambda rate=rate, condition=condition: frames.row(rate, condition))


class EntropyCoded:
    """The images of a recording as words of different lengths."""

    def __init__(self, contest: Contest, recording: Recording):
        self._contest, self._manifest = contest, contest.bundle.manifest
        self._bitstreams = recording.bitstreams

    def row(self, rate: tuple[int, int], condition: Condition) -> Row:
        """Accuracy with lost images as wrong, and of those that were answered; bytes are means over the images."""
        draws = 1 if condition.draws_alike else self._contest.draws
        rights, arrived = zip(*(self._draw(rate, condition, draw) for draw in range(draws)))
        right, arrived = np.stack(rights).astype(float), np.stack(arrived)
        size = float(np.mean([_coded_bits(8 * len(word), rate) / 8 for word in self._words]))
        return figures(right, None) | device_columns(self._contest.bundle) | {
            "payload_bytes": size, "on_air_bytes": size + HEADER_BYTES, "decoded_percent": 100 * float(arrived.mean()),
            "accuracy_answered_percent": 100 * float(right[arrived].mean()) if arrived.any() else None,
        }  # fmt: skip

    @cached_property
    def _coder(self) -> SymbolCoder:
        return SymbolCoder(np.array(self._manifest.training["symbol_counts"]), self._manifest.symbols)

    @cached_property
    def _words(self) -> list[bytes]:
        """Each image's bytes and their CRC."""
        symbols = unpack_symbols(self._bitstreams, self._manifest.symbols, self._manifest.bits_per_symbol)
        coded = [self._coder.encode(row) for row in symbols]
        return [data + crc_hqx(data, CRC_START).to_bytes(2, "big") for data in coded]

    def _draw(self, rate: tuple[int, int], condition: Condition, draw: int) -> tuple[np.ndarray, np.ndarray]:
        """Which answers are right, and which frames arrived, both bool (N,)."""
        lengths = np.array([len(word) for word in self._words])
        longest = _coded_bits(8 * int(lengths.max()), rate)
        bitstreams, arrived = np.zeros_like(self._bitstreams), np.zeros(len(lengths), bool)
        for length in np.unique(lengths):
            rows, bits = np.flatnonzero(lengths == length), _coded_bits(8 * int(length), rate)
            flips, erased = (hit[rows] for hit in condition.draw(len(lengths), bits, longest, self._contest.seed, draw))
            info = np.frombuffer(b"".join(self._words[row] for row in rows), np.uint8).reshape(len(rows), -1)
            code = _code(8 * int(length), bits)
            received = code.encode(np.unpackbits(info, axis=1)) ^ flips
            found, _ = code.decode(np.where(erased, 0, 2.0 * received - 1).astype(np.float32), WORDS)
            for row, words in zip(rows, np.packbits(found, axis=2)):
                data = self._first_whole(words)
                if data is not None:
                    bitstreams[row], arrived[row] = data, True
        bits = unpack_bits(bitstreams, self._manifest.bits)
        right = self._contest.right(posterior_mean(bits, np.zeros(len(bits))), 0.0)
        return right & arrived, arrived

    def _first_whole(self, words: np.ndarray) -> np.ndarray | None:
        """The bitstream behind the first of ``words`` uint8 (words, bytes) whose CRC holds."""
        for word in words:
            data = word.tobytes()
            if crc_hqx(data, CRC_START) == 0:
                try:
                    return pack_symbols(self._coder.decode(data[:-2])[None], self._manifest.bits_per_symbol)[0]
                except InvalidRequest:
                    return None
        return None


def _coded_bits(info_bits: int, rate: tuple[int, int]) -> int:
    """In whole bytes."""
    return 8 * -(-info_bits * rate[1] // (8 * rate[0]))


@cache
def _code(info_bits: int, coded_bits: int) -> HeaderCode:
    return HeaderCode(info_bits, coded_bits, TailBiting.GENERATORS)
