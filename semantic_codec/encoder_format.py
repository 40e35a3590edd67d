"""``encoder.bin``: the integer encoder that a device runs, as bytes.

Layout, little-endian, every array padded with zeros to a multiple of 4 bytes so that a microcontroller can use it in
place:

    magic "WLE1"
    u8 bits per symbol, u8 layers, u16 image height, u16 image width, u16 image channels (3)
    then per layer
        u8 kind (0 full convolution, 1 depthwise), u8 kernel, u8 stride, u8 flags, u16 input channels, u16 output channels
        i8  weights[out][kernel][kernel][in]        (depthwise: [kernel][kernel][channels])
        then, in every layer but the last,
        i32 bias[out]
        u16 multiplier[out]
        u8  shift[out]
        in the last layer
        i32 thresholds[out][2^bits - 1]             (ascending)
        u8  index_map[2^bits]

Flags: 1 = clamp at 0 (ReLU), 2 = keep this layer's input, 4 = add the input kept last (saturating).
Arithmetic: pixels enter as ``pixel - 128``; padding is kernel // 2 zeros on each side; with acc the int32 sum of
products plus bias, the output is ``saturate((acc * multiplier + 2^(shift-1)) >> shift)`` to [-128, 127] (or [0, 127]
behind a ReLU): one rounding, half up. The last layer has no bias: a latent's level is the number of thresholds that its acc reaches,
and its symbol is ``index_map[level]``. Symbols are ordered channel by channel, then row by row.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from semantic_codec.errors import BundleError

MAGIC = b"WLE1"
DAMAGED = "encoder.bin is damaged: "
FULL, DEPTHWISE = 0, 1
RELU, KEEP_INPUT, ADD_KEPT = 1, 2, 4
ACCUMULATOR_LIMIT = 1 << 24
INTERMEDIATE_LIMIT = 1 << 30
MULTIPLIER_LIMIT = 1 << 15
_HEAD = struct.Struct("<4sBBHHH")
_LAYER = struct.Struct("<BBBBHH")


@dataclass(frozen=True)
class LayerShape:
    """What a convolution is, without its numbers."""

    kind: int
    kernel: int
    stride: int
    flags: int
    inputs: int
    outputs: int

    @property
    def weight_shape(self) -> tuple[int, ...]:
        if self.kind == DEPTHWISE:
            return (self.kernel, self.kernel, self.outputs)
        return (self.outputs, self.kernel, self.kernel, self.inputs)

    def output_size(self, size: int) -> int:
        return (size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates on an input of ``height`` x ``width``."""
        return int(np.prod(self.weight_shape)) * self.output_size(height) * self.output_size(width)


@dataclass(frozen=True)
class IntegerLayer:
    """One layer with its integers; ``thresholds`` and ``index_map`` only in the last one, the others None there."""

    shape: LayerShape
    weights: np.ndarray
    bias: np.ndarray | None = None
    multiplier: np.ndarray | None = None
    shift: np.ndarray | None = None
    thresholds: np.ndarray | None = None
    index_map: np.ndarray | None = None


@dataclass(frozen=True)
class EncoderProgram:
    """All that a device needs: image size, bits per symbol, layers."""

    height: int
    width: int
    bits_per_symbol: int
    layers: tuple[IntegerLayer, ...]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of the latent."""
        height, width = self.height, self.width
        for layer in self.layers:
            height, width = layer.shape.output_size(height), layer.shape.output_size(width)
        return self.layers[-1].shape.outputs, height, width

    @property
    def symbols(self) -> int:
        return int(np.prod(self.latent_shape))

    @property
    def layer_macs(self) -> list[int]:
        """Multiply-accumulates per image of each layer."""
        found, height, width = [], self.height, self.width
        for layer in self.layers:
            found.append(layer.shape.macs(height, width))
            height, width = layer.shape.output_size(height), layer.shape.output_size(width)
        return found

    @property
    def macs(self) -> int:
        """Multiply-accumulates per image."""
        return sum(self.layer_macs)

    def to_bytes(self) -> bytes:
        head = _HEAD.pack(MAGIC, self.bits_per_symbol, len(self.layers), self.height, self.width, 3)
        return head + b"".join(_pack_layer(layer) for layer in self.layers)

    @classmethod
    def from_bytes(cls, data: bytes) -> EncoderProgram:
        """Parse and prove; raises :class:`BundleError` for anything that is not a whole, provably safe program."""
        reader = _Reader(data)
        magic, bits, count, height, width, channels = reader.struct(_HEAD)
        if magic != MAGIC:
            raise _broken(f"it begins with {magic!r}", f"{MAGIC!r}")
        if not (1 <= bits <= 8 and count >= 1 and height >= 1 and width >= 1 and channels == 3):
            raise _broken(f"{bits} bits, {count} layers, {height}x{width}x{channels}", "1 to 8 bits, 1 layer or more, HxWx3")
        layers = tuple(_read_layer(reader, bits, last=index == count - 1) for index in range(count))
        if reader.offset != len(data):
            raise _broken(f"{len(data) - reader.offset} bytes behind the last layer", "none")
        program = cls(height, width, bits, layers)
        prove(program)
        return program


def prove(program: EncoderProgram) -> None:
    """Check from the weights alone that every accumulator stays below 2^24 and every product below 2^30.

    Inputs are bounded by [-128, 127], behind a ReLU by [0, 127]. Raises :class:`BundleError` naming the layer.
    """
    low, high, kept = -128, 127, None
    size = (3, program.height, program.width)
    for index, layer in enumerate(program.layers):
        shape = layer.shape
        if shape.inputs != size[0]:
            raise _broken(f"layer {index} takes {shape.inputs} channels", f"{size[0]}")
        if shape.flags & KEEP_INPUT:
            kept = size
        size = (shape.outputs, shape.output_size(size[1]), shape.output_size(size[2]))
        if shape.flags & ADD_KEPT and kept != size:
            raise _broken(f"layer {index} adds {kept} to {size}", "an input of the same shape, kept before")
        peak = accumulator_peak(layer, low, high)
        if peak.max() >= ACCUMULATOR_LIMIT:
            raise _broken(f"layer {index} can reach an accumulator of {peak.max()}", f"below {ACCUMULATOR_LIMIT}")
        if layer.multiplier is not None:
            product = peak * layer.multiplier + (1 << layer.shift.astype(np.int64)) // 2
            if product.max() >= INTERMEDIATE_LIMIT or layer.multiplier.max() >= MULTIPLIER_LIMIT:
                raise _broken(f"layer {index} can reach a product of {product.max()}", f"below {INTERMEDIATE_LIMIT}")
            if layer.shift.min() < 1 or layer.shift.max() > 30:
                raise _broken(f"layer {index} shifts by {layer.shift.min()} to {layer.shift.max()}", "1 to 30")
        low, high = 0 if shape.flags & RELU else -128, 127


def accumulator_peak(layer: IntegerLayer, low: int, high: int) -> np.ndarray:
    """Largest |acc| that inputs in [low, high] (or zero padding) can cause, int64 (out,)."""
    weights = layer.weights.astype(np.int64)
    axes = (0, 1) if layer.shape.kind == DEPTHWISE else (1, 2, 3)
    positive, negative = np.maximum(weights, 0).sum(axes), np.minimum(weights, 0).sum(axes)
    bias = 0 if layer.bias is None else layer.bias.astype(np.int64)
    # Zero padding lies inside [low, high], and partial sums on the way lie inside what the whole sums can reach.
    most = positive * high + negative * low
    least = positive * low + negative * high
    return np.maximum(np.maximum(most, 0) + np.maximum(bias, 0), -(np.minimum(least, 0) + np.minimum(bias, 0)))


def _pack_layer(layer: IntegerLayer) -> bytes:
    shape = layer.shape
    arrays = [layer.weights.astype(np.int8)]
    if layer.thresholds is None:
        arrays += [layer.bias.astype("<i4"), layer.multiplier.astype("<u2"), layer.shift.astype(np.uint8)]
    else:
        arrays += [layer.thresholds.astype("<i4"), layer.index_map.astype(np.uint8)]
    head = _LAYER.pack(shape.kind, shape.kernel, shape.stride, shape.flags, shape.inputs, shape.outputs)
    return head + b"".join(_pad(np.ascontiguousarray(array).tobytes()) for array in arrays)


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _read_layer(reader: _Reader, bits: int, last: bool) -> IntegerLayer:
    shape = LayerShape(*reader.struct(_LAYER))
    if shape.kind not in (FULL, DEPTHWISE) or (shape.kind == DEPTHWISE and shape.inputs != shape.outputs):
        raise _broken(f"a layer of kind {shape.kind}", f"{FULL} or {DEPTHWISE} with as many outputs as inputs")
    if shape.kernel not in (1, 3, 5, 7) or not 1 <= shape.stride <= 7 or not shape.inputs or not shape.outputs:
        raise _broken(f"layer shape {shape}", "kernel 1, 3, 5 or 7, stride 1 to 7, at least one channel")
    if shape.flags & ADD_KEPT and shape.flags & RELU:
        raise _broken(f"layer shape {shape}", "ReLU or an added input, not both")
    weights = reader.array(np.int8, shape.weight_shape)
    if last:
        thresholds = reader.array("<i4", (shape.outputs, (1 << bits) - 1))
        index_map = reader.array(np.uint8, (1 << bits,))
        if sorted(index_map) != list(range(1 << bits)) or (thresholds[:, 1:] < thresholds[:, :-1]).any():
            raise _broken("thresholds or index map out of order", "ascending thresholds and a permutation")
        return IntegerLayer(shape, weights, thresholds=thresholds, index_map=index_map)
    bias = reader.array("<i4", (shape.outputs,))
    multiplier = reader.array("<u2", (shape.outputs,))
    return IntegerLayer(shape, weights, bias, multiplier, reader.array(np.uint8, (shape.outputs,)))


class _Reader:
    def __init__(self, data: bytes):
        self.data, self.offset = data, 0

    def take(self, count: int) -> bytes:
        if self.offset + count > len(self.data):
            raise _broken(f"it ends after {len(self.data)} bytes", f"at least {self.offset + count}")
        self.offset += count
        return self.data[self.offset - count : self.offset]

    def struct(self, form: struct.Struct) -> tuple:
        return form.unpack(self.take(form.size))

    def array(self, dtype, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array = np.frombuffer(self.take(size), dtype).reshape(shape)
        self.take(-size % 4)
        return array


def _broken(problem: str, allowed: str) -> BundleError:
    return BundleError(f"{DAMAGED}{problem}", allowed=allowed, fix="export the bundle again")
