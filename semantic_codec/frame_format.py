"""Modes of the frame, and frames of one size: where each bit is on the air, and what of them arrived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import comb

import numpy as np

from semantic_codec.header_code import HeaderCode

NOISE_CANDIDATES = 0.25
"""In open mode, candidates that contradict so much of the header that noise would offer more than this many as good are
not compared: over 27 of 144 bits, which at BER 0.1 one header in 2,000 does."""

PREFIX_BITS = 12
"""Version, codec and level, which each hypothesis fixes."""

Layout = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Mode:
    """What the reader needs to know of open or keyed mode.

    version: in the header. header_bytes: coded. info_bits: before coding, check included. list_size: see LIST_SIZE.
    whole_checks, cut_checks: candidates compared with the check per frame, read at its length and as a cut longer one.
    bounded: whether candidates that noise would offer as near are left out.
    certain_errors: half the code's minimum distance less one: a codeword as near as this is the nearest.
    telling_errors: a block of noise has a codeword as near as this with a probability below 1e-9, so a header read with
    no more errors is one that somebody sent, even where its check fails.
    least_header_bits: header bits of a cut frame that must have arrived.
    """

    version: int
    header_bytes: int
    info_bits: int
    list_size: int
    whole_checks: int
    cut_checks: int
    bounded: bool
    certain_errors: int
    telling_errors: int
    least_header_bits: int
    code: Callable[[], HeaderCode]

    @property
    def header_bits(self) -> int:
        return 8 * self.header_bytes

    @cache  # noqa: B019  two instances, for ever
    def credible_errors(self, pilot_bits: int) -> int:
        """The most errors at which noise has NOISE_CANDIDATES headers as near, on average, among those of a prefix."""
        if not self.bounded:
            return pilot_bits
        within, errors = 1, 0
        unknown = self.info_bits - PREFIX_BITS
        while (within + comb(pilot_bits, errors + 1)) << unknown <= NOISE_CANDIDATES * 2**pilot_bits:
            errors += 1
            within += comb(pilot_bits, errors)
        return errors


class Format:
    """Frames of one size: the order of their bits, and the header prefixes that can stand in them."""

    def __init__(self, size: int, levels: list[tuple[int, int]], layout: Layout, mode: Mode):
        self.size, self.payload_bytes, self.header_bits = size, size - mode.header_bytes, mode.header_bits
        self.order = layout(mode.header_bits, 8 * self.payload_bytes)
        self.places = np.argsort(self.order)
        self.prefixes = []
        for codec, level in levels:
            known = np.full(mode.info_bits, -1, dtype=np.int8)
            prefix = mode.version << 10 | codec << 4 | level
            known[:PREFIX_BITS] = [prefix >> shift & 1 for shift in range(PREFIX_BITS - 1, -1, -1)]
            self.prefixes.append(known)

    def header_bits_within(self, size: int) -> int:
        """Header bits among the first `size` bytes."""
        return int(np.count_nonzero(self.order[: 8 * size] < self.header_bits))


class Received:
    """A batch of frames of one size, brought back into the order header, payload.

    header uint8 (B, header bits) and payload uint8 (B, bytes), 0 where the frames were cut; pilot_bits: header bits there.
    """

    def __init__(self, format: Format, frames: list[bytes]):
        self.format = format
        arrived = min(8 * len(frames[0]), 8 * format.size) if frames else 8 * format.size
        on_air = np.zeros((len(frames), 8 * format.size), dtype=np.uint8)
        joined = np.frombuffer(b"".join(frames), dtype=np.uint8).reshape(len(frames), -1)
        on_air[:, :arrived] = np.unpackbits(joined, axis=1)
        bits = np.empty_like(on_air)
        bits[:, format.order] = on_air
        header_bits = format.header_bits
        self.header = bits[:, :header_bits]
        self.payload = np.packbits(bits[:, header_bits:], axis=1)
        missing = np.zeros(8 * format.size, dtype=bool)
        missing[format.order[arrived:]] = True
        self.missing_header = missing[:header_bits]
        self.pilot_bits = header_bits - int(np.count_nonzero(self.missing_header))
        self.erased = _runs(missing[header_bits:])

    def soft_header(self) -> np.ndarray:
        """float32 (B, header bits): +1 for 1, -1 for 0, 0 where nothing arrived."""
        soft = 2 * self.header.astype(np.float32) - 1
        soft[:, self.missing_header] = 0
        return soft

    def errors(self, row: int, code: HeaderCode, block: bytes) -> int:
        """Header bits of a row that arrived and differ from what `block` is coded as."""
        coded = code.encode(np.unpackbits(np.frombuffer(block, dtype=np.uint8))[None])[0]
        return int(np.count_nonzero((coded != self.header[row]) & ~self.missing_header))


def _runs(mask: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Runs of True as (first, count)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return tuple((int(first), int(end - first)) for first, end in edges.reshape(-1, 2))
