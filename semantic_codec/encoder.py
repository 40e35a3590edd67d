"""Runs ``encoder.bin`` in NumPy, bit for bit what PyTorch, C and MicroPython compute (arithmetic: encoder_format.py).

Sums are formed by float32 matrix products: every accumulator is proven to stay below 2^24, so they are exact, and BLAS
is an order of magnitude faster than NumPy's integer product.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semantic_codec.encoder_format import ADD_KEPT, DEPTHWISE, FULL, KEEP_INPUT, RELU, EncoderProgram, IntegerLayer
from semantic_codec.errors import InvalidRequest, NotFound


class IntegerEncoder:
    """uint8 RGB images -> symbols.

    >>> encoder = IntegerEncoder.from_file("encoder.bin")      # doctest: +SKIP
    >>> encoder.encode(images).shape                           # doctest: +SKIP
    (100, 256)
    """

    def __init__(self, program: EncoderProgram):
        self.program = program
        self.height, self.width = program.height, program.width
        self.symbols, self.bits_per_symbol = program.symbols, program.bits_per_symbol
        self._weights = [_as_matrix(layer) for layer in program.layers]

    @classmethod
    def from_bytes(cls, data: bytes) -> IntegerEncoder:
        return cls(EncoderProgram.from_bytes(data))

    @classmethod
    def from_file(cls, path: str | Path) -> IntegerEncoder:
        path = Path(path)
        if not path.is_file():
            raise NotFound(f"there is no file {path}", allowed="an encoder.bin of a bundle", fix="check the path")
        return cls.from_bytes(path.read_bytes())

    def encode(self, images: np.ndarray, chunk: int = 256) -> np.ndarray:
        """uint8 (B, H, W, 3) -> symbols uint8 (B, N), most important first. :class:`InvalidRequest` on another shape."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != (self.height, self.width, 3):
            raise InvalidRequest(
                f"images are {images.dtype} {images.shape}",
                allowed=f"uint8 (B, {self.height}, {self.width}, 3)",
                fix="resize to the encoder's input and pass RGB bytes",
            )
        parts = [self._encode(images[start : start + chunk]) for start in range(0, len(images), chunk)]
        return np.concatenate(parts) if parts else np.zeros((0, self.symbols), np.uint8)

    def _encode(self, images: np.ndarray) -> np.ndarray:
        x = images.astype(np.float32) - 128
        kept = None
        for layer, weights in zip(self.program.layers, self._weights):
            if layer.shape.flags & KEEP_INPUT:
                kept = x
            acc = _convolve(x, layer, weights)
            if layer.thresholds is not None:
                level = (acc.astype(np.int32)[..., None] >= layer.thresholds).sum(-1)
                return layer.index_map[level].transpose(0, 3, 1, 2).reshape(len(images), -1)
            x = _requantize(acc.astype(np.int64), layer)
            if layer.shape.flags & ADD_KEPT:
                x = np.clip(x + kept, -128, 127)
        raise AssertionError("a program ends with a threshold layer")


def _requantize(acc: np.ndarray, layer: IntegerLayer) -> np.ndarray:
    """``saturate((acc * multiplier + half) >> shift)``, rounding half up."""
    shift = layer.shift.astype(np.int64)
    scaled = ((acc + layer.bias) * layer.multiplier + (1 << (shift - 1))) >> shift
    return np.clip(scaled, 0 if layer.shape.flags & RELU else -128, 127).astype(np.float32)


def _as_matrix(layer: IntegerLayer) -> np.ndarray:
    weights = layer.weights.astype(np.float32)
    return weights if layer.shape.kind == DEPTHWISE else weights.reshape(layer.shape.outputs, -1).T.copy()


def _convolve(x: np.ndarray, layer: IntegerLayer, weights: np.ndarray) -> np.ndarray:
    """Sum of products, float32 (B, H', W', out) holding exact integers."""
    shape = layer.shape
    batch, height, width, channels = x.shape
    out_h, out_w = shape.output_size(height), shape.output_size(width)
    if shape.kind == FULL and shape.kernel == 1 and shape.stride == 1:
        return x @ weights
    margin = shape.kernel // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    taps = [
        padded[:, dy : dy + shape.stride * (out_h - 1) + 1 : shape.stride, dx : dx + shape.stride * (out_w - 1) + 1 : shape.stride]
        for dy in range(shape.kernel)
        for dx in range(shape.kernel)
    ]
    if shape.kind == DEPTHWISE:
        return sum(tap * weight for tap, weight in zip(taps, weights.reshape(-1, channels)))
    return np.concatenate(taps, axis=-1).reshape(batch, out_h, out_w, -1) @ weights
