"""The encoder as a device uses it: one image in, symbols or payload bytes out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import Bundle, Level, find_bundle
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.errors import InvalidRequest


class Encoder:
    """Integer encoder of one codec.

    >>> Encoder.from_bundle("cifar10").bitstream(image, level=0)  # doctest: +SKIP
    """

    def __init__(self, program: IntegerEncoder, hash: bytes, levels: tuple[Level, ...] = ()):
        self._program = program
        self.hash = hash
        self.levels = levels
        self.height, self.width = program.height, program.width
        self.symbols, self.bits_per_symbol = program.symbols, program.bits_per_symbol

    @classmethod
    def from_bundle(cls, bundle: Bundle | str) -> Encoder:
        """The encoder of a bundle, or of the newest installed bundle of that name (:class:`NotFound`)."""
        if isinstance(bundle, str):
            bundle = find_bundle(bundle)
        return cls(IntegerEncoder.from_bytes(bundle.encoder_bin), bundle.encoder_hash, bundle.manifest.levels)

    @classmethod
    def from_file(cls, path: str | Path) -> Encoder:
        """A bare ``encoder.bin``: it knows no levels, so :meth:`bitstream` gives all symbols."""
        return cls(IntegerEncoder.from_file(path), hashlib.sha256(Path(path).read_bytes()).digest())

    def encode(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) RGB -> all symbols, uint8 (N,), most important first. :class:`InvalidRequest` otherwise."""
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.shape != (self.height, self.width, 3):
            raise InvalidRequest(
                f"the image is {image.dtype} {image.shape}",
                allowed=f"uint8 ({self.height}, {self.width}, 3), RGB",
                fix="convert to 8-bit RGB and resize to the codec's input (device_client.fit.fit)",
            )
        return self._program.encode(image[None])[0]

    def bitstream(self, image: np.ndarray, level: int | None = None) -> bytes:
        """The payload of one image at a level; None means the longest."""
        symbols = self.encode(image)
        if level is not None or self.levels:
            symbols = symbols[: (self.levels[-1] if level is None else level_of(self.levels, level)).symbols]
        return pack_symbols(symbols[None], self.bits_per_symbol)[0].tobytes()


def level_of(levels: tuple[Level, ...], number: int) -> Level:
    """The level of that number, or :class:`InvalidRequest` naming those that exist."""
    for level in levels:
        if level.number == number:
            return level
    if not levels:
        raise InvalidRequest(
            f"level {number} is not known", allowed="no level: a bare encoder.bin", fix="use Encoder.from_bundle"
        )
    raise InvalidRequest(
        f"level {number} does not exist",
        allowed=", ".join(f"{level.number} ({level.payload_bytes} B)" for level in levels),
        fix="take one of the codec's levels, or none for the longest",
    )


def cut_to_level(bitstream: bytes, level: Level, bits_per_symbol: int) -> bytes:
    """The level's prefix of a longer payload; unused bits of its last byte are 0."""
    payload = bytearray(bitstream[: level.payload_bytes])
    spare = level.payload_bytes * 8 - level.symbols * bits_per_symbol
    if spare:
        payload[-1] &= 0xFF << spare & 0xFF
    return bytes(payload)
