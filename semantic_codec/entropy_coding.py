"""Entropy coding of symbols by a range coder (the library constriction), for payloads that arrive whole or not at all.

    symbols -> range coder, each channel with its own frequencies -> bytes -> [a code and a check] -> symbols

Frequencies are static: both ends have them beforehand. One wrong bit desynchronizes all that follows, so these bytes belong
behind an error-correcting code and a checksum, and a frame whose checksum fails is lost.
"""

from __future__ import annotations

import numpy as np

from semantic_codec.errors import ConfigError, InvalidRequest

WORD_BYTES = 4


def count_symbols(symbols: np.ndarray, bits: int) -> np.ndarray:
    """How often each channel sends each symbol: uint8 (B, channels, positions) -> int64 (channels, 2**bits)."""
    by_channel = symbols.swapaxes(0, 1).reshape(symbols.shape[1], -1)
    return np.stack([np.bincount(row, minlength=1 << bits) for row in by_channel])


class SymbolCoder:
    """Symbols of one codec <-> bytes.

    Args:
        counts: int (channels, 2**bits), of :func:`count_symbols`; one is added to each, so that every symbol can be sent.
        symbols: of one image, a multiple of the channels.

    Raises ConfigError where constriction is not installed.
    """

    def __init__(self, counts: np.ndarray, symbols: int):
        try:
            from constriction import stream
        except ImportError as error:
            raise ConfigError(
                "entropy coding needs constriction, which is not installed", allowed="the extra bench",
                fix="pip install 'weaklink[bench]'",
            ) from error  # fmt: skip
        self._queue, self._model = stream.queue, stream.model.Categorical(perfect=False)
        shares = (np.asarray(counts) + 1.0) / (np.asarray(counts) + 1.0).sum(axis=1, keepdims=True)
        self._shares = np.repeat(shares.astype(np.float32), symbols // len(shares), axis=0)

    def encode(self, symbols: np.ndarray) -> bytes:
        """uint8 (N,) -> the fewest bytes that decode to them."""
        encoder = self._queue.RangeEncoder()
        encoder.encode(symbols.astype(np.int32), self._model, self._shares)
        return self._shortest(encoder.get_compressed().astype(">u4").tobytes(), symbols)

    def decode(self, data: bytes) -> np.ndarray:
        """uint8 (N,) of bytes; InvalidRequest: no symbols make these bytes. Most damage goes unnoticed here."""
        words = np.frombuffer(data.ljust(-(-len(data) // WORD_BYTES) * WORD_BYTES, b"\0"), ">u4").astype(np.uint32)
        try:
            return self._queue.RangeDecoder(words).decode(self._model, self._shares).astype(np.uint8)
        except AssertionError as error:
            raise InvalidRequest(
                f"{len(data)} bytes are no entropy-coded symbols ({error})", allowed="bytes that arrived whole",
                fix="check their checksum first",
            ) from error  # fmt: skip

    def _shortest(self, data: bytes, symbols: np.ndarray) -> bytes:
        """The coder writes whole words; any number between the ends of its last interval will do, missing bytes being 0."""
        while data:
            number, size = int.from_bytes(data[:-1], "big"), len(data) - 1
            shorter = next((one for one in self._roundings(number, size) if self._decodes(one, symbols)), None)
            if shorter is None:
                break
            data = shorter
        return data

    @staticmethod
    def _roundings(number: int, size: int) -> list[bytes]:
        return [one.to_bytes(size, "big") for one in (number, number + 1) if one < 256**size]

    def _decodes(self, data: bytes, symbols: np.ndarray) -> bool:
        try:
            return np.array_equal(self.decode(data), symbols)
        except InvalidRequest:
            return False
