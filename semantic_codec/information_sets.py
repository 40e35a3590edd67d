"""Headers that arrived nearly whole, read without a search: information-set decoding.

    frames of one length -> header and payload, each in its own order -> solve for the input from one set of as many
    independent coded bits after the other, until what the solution is coded as is near enough to what arrived

Source: Prange 1962, doi 10.1109/TIT.1962.1057777. Compiled by numba where it is installed, else in NumPy with fewer
sets: what is found is the same, only less often.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np

from semantic_codec.header import BLOCK_BYTES, check_sums, unpack_headers
from semantic_codec.header_code import HeaderCode

SETS = 32
"""At a BER of 1e-2 they find all but 1 in 400 headers of 144 bits; two find 4 in 5."""
_NIBBLES = np.array([[value >> shift & 1 for shift in (3, 2, 1, 0)] for value in range(16)], dtype=np.uint8)


@cache
def compiled() -> ModuleType | None:
    """The kernels compiled by numba, or None where numba is not installed."""
    try:
        from semantic_codec import information_sets_numba
    except ImportError:
        return None
    return information_sets_numba


class NearDecoder:
    """Inputs of ``code`` whose codeword is within ``most_errors`` of what arrived, fewer than half its minimum distance:
    there is one at most."""

    def __init__(self, code: HeaderCode, most_errors: int):
        self.code, self._most_errors = code, most_errors
        self._kernels = compiled() if code.use_compiled else None
        if self._kernels is not None:
            self._inverses = np.stack([_table(*found, code.coded_bits) for found in code.information_sets(SETS)])
            self._generator = _words(_nibble_sums(code.matrix.astype(np.uint8)))

    def warm_up(self) -> None:
        """Have the kernels compiled or loaded, for arrays as frames are read from: of bytes, so not to be written to."""
        frame = np.frombuffer(bytes(self.code.coded_bits // 8), np.uint8).reshape(1, -1)
        places = np.arange(self.code.coded_bits)
        self.decode(self.unmix(frame, places)[0])
        if self.code.info_bits == 8 * BLOCK_BYTES:
            self.read_open(frame, places)

    def unmix(self, frames: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Headers uint8 (B, header bytes) and payloads uint8 (B, bytes) of frames uint8 (B, size).

        places: int64 (8 * size,), where on the air each bit of the header, then of the payload is.
        """
        header_bits = self.code.coded_bits
        if self._kernels is not None:
            return self._kernels.unmix(frames, places, header_bits // 8)
        bits = np.unpackbits(frames, axis=1)[:, places]
        return np.packbits(bits[:, :header_bits], axis=1), np.packbits(bits[:, header_bits:], axis=1)

    def decode(self, headers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs uint8 (B, info bytes) of headers uint8 (B, header bytes), and their distance int64 (B,) to what
        arrived: right where it is ``most_errors`` at most, of no meaning elsewhere."""
        if self._kernels is not None:
            info_bytes = self.code.info_bits // 8
            return self._kernels.decode(headers, self._inverses, self._generator, info_bytes, self._most_errors)
        info, errors = self.code.invert(np.unpackbits(headers, axis=1))
        return np.packbits(info, axis=1), errors

    def read_open(self, frames: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`unmix`, :meth:`decode` and `unpack_headers` in one: kind, device, sequence and distance of each open
        header, int64 (B, 4), the kind -1 where it is not near; and payloads. For the code of open mode."""
        if self._kernels is not None:
            return self._kernels.read_open(
                frames, places, self.code.coded_bits // 8, self._inverses, self._generator, BLOCK_BYTES, self._most_errors,
                check_sums(),
            )  # fmt: skip
        headers, payloads = self.unmix(frames, places)
        blocks, errors = self.decode(headers)
        fields = np.stack((*unpack_headers(blocks), errors), axis=1)
        fields[errors > self._most_errors, 0] = -1
        return fields, payloads


def _table(places: np.ndarray, inverse: np.ndarray, coded_bits: int) -> np.ndarray:
    """What each value of each four coded bits adds to the input: uint64 (coded / 4, 16, words)."""
    matrix = np.zeros((coded_bits, len(places)), np.uint8)
    matrix[places] = inverse
    return _words(_nibble_sums(matrix))


def _nibble_sums(matrix: np.ndarray) -> np.ndarray:
    """Sums mod 2 of four rows of a matrix (rows, bits) of 0 and 1, for each choice of them: (rows / 4, 16, bits)."""
    return _NIBBLES @ matrix.reshape(-1, 4, matrix.shape[1]) % 2


def _words(bits: np.ndarray) -> np.ndarray:
    """Along the last axis, most significant bit first, 0 behind the last: uint64."""
    packed = np.packbits(bits, axis=-1)
    padding = [(0, 0)] * (bits.ndim - 1) + [(0, -packed.shape[-1] % 8)]
    return np.ascontiguousarray(np.pad(packed, padding)).view(">u8").astype(np.uint64)
