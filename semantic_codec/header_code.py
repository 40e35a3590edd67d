"""The code that protects a frame's header: a tail-biting convolutional code, punctured to fit whole bytes.

    input bit b(t) -> three coded bits b(t-8)..b(t) & generator, parity -> every seventh dropped -> 144 bits

Rate 1/3, 256 states, generators 557, 663, 711 (octal; the best of that size, Lin and Costello, Error Control Coding,
table 12.1). Tail-biting (Ma and Wolf 1986): the bits before the first are the last ones, so no bit is spent on
flushing the encoder. 56 bits become 144, with a minimum distance of 14.
"""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np

from semantic_codec import viterbi

GENERATORS = (0o557, 0o663, 0o711)
"""Highest bit: the newest input bit."""


class HeaderCode:
    """Blocks of `info_bits` bits coded as `coded_bits`; 56 in 144 in open mode.

    Args:
        info_bits: input bits of a block. coded_bits: what is kept of the 3 * info_bits that the encoder makes.
        generators: three numbers of m + 1 bits, highest and lowest bit set; 2^m states.
        use_compiled: False keeps to NumPy, for the same result.
    """

    def __init__(
        self, info_bits: int, coded_bits: int, generators: tuple[int, ...] = GENERATORS, use_compiled: bool = True
    ):
        self.info_bits, self.coded_bits, self.generators = info_bits, coded_bits, generators
        self.memory = generators[0].bit_length() - 1
        self.use_compiled = use_compiled
        before = np.arange(3 * info_bits) * coded_bits // (3 * info_bits)
        after = (np.arange(3 * info_bits) + 1) * coded_bits // (3 * info_bits)
        self.kept = np.flatnonzero(after > before)
        """Places, of the 3 * info_bits, that are sent: int64 (coded_bits,)."""

    @cached_property
    def matrix(self) -> np.ndarray:
        """Generator matrix, float32 (info_bits, coded_bits) of 0 and 1: coded = info @ matrix mod 2."""
        full = np.zeros((self.info_bits, self.info_bits, 3), dtype=np.float32)
        for bit in range(self.info_bits):
            for delay in range(self.memory + 1):
                for output, generator in enumerate(self.generators):
                    full[bit, (bit + delay) % self.info_bits, output] = generator >> (self.memory - delay) & 1
        return full.reshape(self.info_bits, -1)[:, self.kept]

    @cached_property
    def taps(self) -> np.ndarray:
        """float32 (3, 2^(m-1)): the coded bits of states 0 to 2^(m-1)-1 when a 0 enters."""
        windows = np.arange(1 << (self.memory - 1)) << 1
        taps = np.zeros((3, len(windows)), dtype=np.float32)
        for output, generator in enumerate(self.generators):
            for delay in range(1, self.memory + 1):
                if generator >> (self.memory - delay) & 1:
                    taps[output] += windows >> delay & 1
        return taps % 2

    @cached_property
    def _inverses(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return self.information_sets(2)

    def information_sets(self, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Coded bits that determine the input: (places (k,), inverse float32 (k, k)) of each set, input = coded bits
        there @ inverse mod 2. The first two share as little as they can, the others are chosen at random, always the
        same ones."""
        everywhere, rng = np.arange(self.coded_bits), np.random.default_rng(self.coded_bits)
        first = _information_set(self.matrix, everywhere)
        second = _information_set(self.matrix, np.concatenate([np.setdiff1d(everywhere, first[0]), first[0]]))
        more = [_information_set(self.matrix, rng.permutation(everywhere)) for _ in range(count - 2)]
        return [first, second, *more]

    def encode(self, info: np.ndarray) -> np.ndarray:
        """Coded bits uint8 (B, coded_bits) of info uint8 (B, info_bits), all 0 or 1."""
        return (info.astype(np.float32) @ self.matrix % 2).astype(np.uint8)

    def invert(self, coded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Solve for the input instead of searching: right whenever all of one information set arrived whole.

        Args:
            coded: received bits uint8 (B, coded_bits), none erased.

        Returns:
            info uint8 (B, info_bits) and errors int64 (B,), its distance to what arrived; the better of two sets.
            At half the minimum distance less one, 6, or fewer errors no other codeword is nearer.
        """
        found, fewest = None, None
        for places, inverse in self._inverses:
            info = (coded[:, places].astype(np.float32) @ inverse % 2).astype(np.uint8)
            errors = np.count_nonzero(self.encode(info) != coded, axis=1)
            if found is None:
                found, fewest = info, errors
            else:
                better = errors < fewest
                found[better], fewest[better] = info[better], errors[better]
        return found, fewest

    def decode(self, soft: np.ndarray, list_size: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest inputs with nothing known: wrap-around Viterbi.

        Args:
            soft: (B, coded_bits), +1 for a received 1, -1 for a 0, 0 where erased; other weights work likewise.

        Returns:
            info uint8 (B, list_size, info_bits), best first, and costs float32 (B, list_size): coded bits contradicted.
        """
        steps = self._steps(soft)
        states = viterbi.settle(steps, self.taps, use_compiled=self.use_compiled)
        free = np.full(steps.shape[:2], -1, dtype=np.int8)
        return viterbi.decode_from_state(steps, free, states, self.taps, list_size, self.use_compiled)

    def decode_known(self, soft: np.ndarray, known: np.ndarray, list_size: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest inputs among those that agree with `known`: one lap, from a state that is known.

        Args:
            soft: as in `decode`. known: int8 (B, info_bits), -1 where unknown, else the bit. The same places are
            known in every row, and the number of states must be covered: m in a row somewhere.

        Returns:
            As `decode`. Costs of FORBIDDEN / 2 or more mark missing entries.
        """
        start = _end_of_known_run(known[0] >= 0, self.memory)
        steps = np.roll(self._steps(soft), -start, axis=1)
        states = known[:, start - self.memory : start].astype(np.int64) @ (1 << np.arange(self.memory)[::-1])
        turned = np.ascontiguousarray(np.roll(known, -start, axis=1))
        info, costs = viterbi.decode_from_state(steps, turned, states, self.taps, list_size, self.use_compiled)
        return np.roll(info, start, axis=2), costs

    def _steps(self, soft: np.ndarray) -> np.ndarray:
        """Soft values by trellis step, 0 where punctured: float32 (B, info_bits, 3)."""
        full = np.zeros((len(soft), 3 * self.info_bits), dtype=np.float32)
        full[:, self.kept] = soft
        return full.reshape(len(soft), self.info_bits, 3)


class BlockCoder:
    """Codes one block at a time, in a microsecond: what `HeaderCode.encode` gives, the coded bits in ``order``, int64
    (coded_bits,)."""

    def __init__(self, code: HeaderCode, order: np.ndarray):
        self._sums, self._coded_bytes = _byte_sums(code.matrix[:, order]), code.coded_bits // 8

    def encode(self, block: bytes) -> bytes:
        """coded_bits / 8 bytes of info_bits / 8 bytes."""
        return self.encode_number(block).to_bytes(self._coded_bytes, "big")

    def encode_number(self, block: bytes) -> int:
        """The same as a number, its first bit the highest. The code is linear: what the XOR of two blocks is coded as is
        the XOR of these numbers."""
        coded = 0
        for sums, byte in zip(self._sums, block):
            coded ^= sums[byte]
        return coded


@cache
def open_code(use_compiled: bool = True) -> HeaderCode:
    """The code of open mode's headers and replies: 56 bits in 144."""
    return HeaderCode(56, 144, use_compiled=use_compiled)


def _byte_sums(matrix: np.ndarray) -> list[list[int]]:
    """For each eight rows of a matrix of 0 and 1, the sum mod 2 of every choice of them, as one number."""
    choices = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    sums = choices @ matrix.astype(np.uint8).reshape(-1, 8, matrix.shape[1]) % 2
    return [[int.from_bytes(row.tobytes(), "big") for row in part] for part in np.packbits(sums, axis=2)]


def _end_of_known_run(known: np.ndarray, length: int) -> int:
    """Where the first run of `length` known bits ends."""
    run = 0
    for place, is_known in enumerate(known):
        run = run + 1 if is_known else 0
        if run == length:
            return place + 1
    raise ValueError(f"no {length} known bits in a row; use decode, which needs none")


def _information_set(matrix: np.ndarray, preferred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """k independent columns, taken in the preferred order, and the inverse of what they form (Gauss-Jordan mod 2)."""
    size = len(matrix)
    work = np.concatenate([matrix[:, preferred] > 0, np.eye(size, dtype=bool)], axis=1)
    columns = []
    for column in range(len(preferred)):
        row = len(columns)
        pivots = np.flatnonzero(work[row:, column])
        if row == size or not len(pivots):
            continue
        work[[row, row + pivots[0]]] = work[[row + pivots[0], row]]
        others = work[:, column].copy()
        others[row] = False
        work[others] ^= work[row]
        columns.append(column)
    return preferred[columns], work[:, len(preferred) :].astype(np.float32)
