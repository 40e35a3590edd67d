"""Random encoder programs of every kind, flag and shape, and images for them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from semantic_codec.encoder_format import (
    ADD_KEPT,
    DEPTHWISE,
    FULL,
    KEEP_INPUT,
    RELU,
    EncoderProgram,
    IntegerLayer,
    LayerShape,
    accumulator_peak,
)
from semantic_codec.nn.quantized import fixed_point


@st.composite
def any_programs(draw) -> EncoderProgram:
    """Programs with integers up to what the proof allows. Maps are kept and added wherever their shapes meet."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width, bits = draw(st.integers(1, 11)), draw(st.integers(1, 11)), draw(st.integers(1, 4))
    size, kept, shapes = (3, height, width), None, []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from([FULL, FULL, DEPTHWISE]))
        same = kept is not None and kept[1:] == size[1:] and draw(st.booleans())
        outputs = size[0] if kind == DEPTHWISE else kept[0] if same else draw(st.integers(1, 9))
        stride = 1 if same else draw(st.sampled_from([1, 1, 1, 2, 3, 7]))
        flags = KEEP_INPUT if draw(st.booleans()) else 0
        shape = LayerShape(kind, draw(st.sampled_from([1, 3, 5, 7])), stride, flags, size[0], outputs)
        kept = size if flags else kept
        size = (outputs, shape.output_size(size[1]), shape.output_size(size[2]))
        flags |= ADD_KEPT if kept == size and draw(st.booleans()) else draw(st.sampled_from([0, RELU]))
        shapes.append(LayerShape(shape.kind, shape.kernel, stride, flags, shape.inputs, outputs))
    layers, signed = [], True
    for shape in shapes:
        layers.append(_random_layer(rng, shape, signed))
        signed = not shape.flags & RELU
    kind = draw(st.sampled_from([FULL, FULL, DEPTHWISE]))
    outputs = size[0] if kind == DEPTHWISE else draw(st.integers(1, 5))
    last = LayerShape(kind, draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 2)), 0, size[0], outputs)
    thresholds = np.sort(rng.integers(-4000, 4000, (outputs, 2**bits - 1)), axis=1).astype(np.int32)
    weights = rng.integers(-127, 128, last.weight_shape).astype(np.int8)
    index_map = rng.permutation(2**bits).astype(np.uint8)
    layers.append(IntegerLayer(last, weights, thresholds=thresholds, index_map=index_map))
    return EncoderProgram(height, width, bits, tuple(layers))


def images_for(program: EncoderProgram, seed: int) -> np.ndarray:
    """Noise, and noise of black and white: uint8 (2, height, width, 3)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, program.height, program.width, 3)).astype(np.uint8)
    images[1] = rng.choice([0, 255], images[1].shape)
    return images


def _random_layer(rng, shape: LayerShape, signed_input: bool) -> IntegerLayer:
    weights = rng.integers(-128, 128, shape.weight_shape).astype(np.int8)
    bias = rng.integers(-5000, 5000, shape.outputs).astype(np.int32)
    peak = accumulator_peak(IntegerLayer(shape, weights, bias), -128 if signed_input else 0, 127)
    multiplier, shift = fixed_point(rng.uniform(1e-4, 2e-1, shape.outputs), peak)
    return IntegerLayer(shape, weights, bias, multiplier, shift)
