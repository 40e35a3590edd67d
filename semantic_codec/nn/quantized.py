"""The encoder with simulated int8 weights and activations, and its export to integers.

Straight-through rounding (Jacob et al., arXiv 1712.05877): symmetric int8 weights per output channel, symmetric int8
activations per tensor, scales fixed from calibration.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.encoder_format import (
    ACCUMULATOR_LIMIT,
    ADD_KEPT,
    DEPTHWISE,
    INTERMEDIATE_LIMIT,
    KEEP_INPUT,
    MULTIPLIER_LIMIT,
    RELU,
    EncoderProgram,
    IntegerLayer,
    LayerShape,
    accumulator_peak,
)
from semantic_codec.errors import ConfigError
from semantic_codec.nn.centers import Centers
from semantic_codec.nn.encoder import PIXEL_SCALE, EncoderConfig, FloatEncoder, layer_shapes, pixels, run_layers, with_copies

# Of a bias in its integer form: leaves half of an accumulator for the weights' part.
BIAS_LIMIT = ACCUMULATOR_LIMIT // 2


def round_through(x: torch.Tensor) -> torch.Tensor:
    """Round half up, gradient of the identity."""
    return x + (torch.floor(x + 0.5) - x).detach()


class _ToInt8(torch.autograd.Function):
    """Nearest int8 multiple of a scale, half up; gradient of the identity. Faster on CPUs than torch's fake_quantize."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, scale: float) -> torch.Tensor:
        return x.mul(1 / scale).add_(0.5).floor_().clamp_(-128, 127).mul_(scale)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


class QuantizedConv(nn.Module):
    """One convolution on int8 values, in real units: input, weight and output are multiples of their scales."""

    def __init__(self, shape: LayerShape, last: bool):
        super().__init__()
        self.shape, self.last = shape, last
        inputs = 1 if shape.kind == DEPTHWISE else shape.inputs
        self.weight = nn.Parameter(torch.zeros(shape.outputs, inputs, shape.kernel, shape.kernel))
        self.bias = nn.Parameter(torch.zeros(shape.outputs))
        self.register_buffer("scale", torch.ones(()))

    def weight_scale(self) -> torch.Tensor:
        """Per output channel, float (out,)."""
        return self.weight.detach().abs().amax((1, 2, 3)).clamp_min(1e-8) / 127

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight_scale()[:, None, None, None]
        weight = round_through(self.weight / scale).clamp(-127, 127) * scale
        groups = self.shape.inputs if self.shape.kind == DEPTHWISE else 1
        x = F.conv2d(x, weight, self.bias, self.shape.stride, self.shape.kernel // 2, groups=groups)
        return x if self.last else self.limit(x)

    def limit(self, x: torch.Tensor) -> torch.Tensor:
        """Round to multiples of the output scale and saturate to int8, behind a ReLU where the layer has one."""
        return _ToInt8.apply(F.relu(x) if self.shape.flags & RELU else x, float(self.scale))


class QuantizedEncoder(nn.Module):
    """As :class:`FloatEncoder`, with every weight and activation an int8 multiple of its scale."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.shapes = layer_shapes(config)
        last = len(self.shapes) - 1
        self.layers = nn.ModuleList(QuantizedConv(shape, index == last) for index, shape in enumerate(self.shapes))
        self.centers = Centers(config.bits) if config.bits > 1 else None

    @classmethod
    @torch.no_grad()
    def from_float(cls, encoder: FloatEncoder, images: torch.Tensor) -> QuantizedEncoder:
        """Fold the norms and calibrate activation scales on uint8 ``images`` (B, H, W, 3). ConfigError: a layer died in training."""
        quantized = cls(encoder.config)
        for target, source in zip(quantized.layers, encoder.eval().layers):
            weight, bias = source.folded()
            target.weight.copy_(weight)
            target.bias.copy_(bias)
        for layer, peak in zip(quantized.layers, _activation_peaks(encoder, images)):
            layer.scale.fill_(peak / 127)
        quantized._share_stream_scales()
        for index, layer in enumerate(quantized.layers[:-1]):
            if not layer.scale:
                raise ConfigError(
                    f"layer {index} of the encoder answers 0 to every image", allowed="one that has learned something",
                    fix="lower learning_rate and trunk_learning_rate, and delete the folders trunk and float",
                )  # fmt: skip
        quantized.centers = encoder.centers
        return quantized

    def _share_stream_scales(self) -> None:
        """Give every group of layers that are added to one another the largest scale among them."""
        for group in self._streams():
            scale = max(float(self.layers[index].scale) for index in group)
            for index in group:
                self.layers[index].scale.fill_(scale)

    def _streams(self) -> list[list[int]]:
        """Indices of the layers whose outputs meet in one residual sum."""
        groups, kept = [], None
        for index, shape in enumerate(self.shapes):
            if shape.flags & KEEP_INPUT:
                kept = index - 1
            if shape.flags & ADD_KEPT:
                if groups and groups[-1][-1] == kept:
                    groups[-1].append(index)
                else:
                    groups.append([kept, index])
        return groups

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the latent layer sees: float (B, C, h, w)."""
        return run_layers(self.shapes[:-1], self.layers, pixels(images), lambda index, x: self.layers[index].limit(x))

    def latents(self, features: torch.Tensor) -> torch.Tensor:
        """What is sent of the features, float (B, C, h, w)."""
        return with_copies(self.layers[-1](features), self.config)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.latents(self.features(images))

    @torch.no_grad()
    def export(self) -> EncoderProgram:
        """Integers that compute the same symbols; multipliers get as many of 15 bits as the proof of 2^30 allows."""
        layers, scale_in, low = [], PIXEL_SCALE, -128
        for shape, layer in zip(self.shapes, self.layers):
            weight_scale = layer.weight_scale()
            if not layer.last:
                # The bias is a multiple of this scale: where next to none of a channel's input counts, it sets the scale.
                weight_scale = torch.maximum(weight_scale, layer.bias.abs() / (scale_in * BIAS_LIMIT))
            weight = torch.floor(layer.weight / weight_scale[:, None, None, None] + 0.5).clamp(-127, 127)
            stored = weight.squeeze(1).permute(1, 2, 0) if shape.kind == DEPTHWISE else weight.permute(0, 2, 3, 1)
            stored = stored.numpy().astype(np.int8)
            unit = (scale_in * weight_scale).double().numpy()
            bias = layer.bias.double().numpy() / unit
            if layer.last:
                between, index_map = np.zeros(1), np.arange(2, dtype=np.uint8)
                if self.centers is not None:
                    between = self.centers.thresholds().double().numpy()
                    index_map = self.centers.index_map.numpy().astype(np.uint8)
                # Accumulators stay below the limit: a threshold beyond it is as good as one at it.
                thresholds = np.clip(np.ceil(between / unit[:, None] - bias[:, None]), -ACCUMULATOR_LIMIT, ACCUMULATOR_LIMIT).astype(np.int32)
                # Planes that are sent twice are computed twice: a device needs to know nothing of it.
                planes = [*range(shape.outputs), *range(self.config.repeated)]
                last = replace(shape, outputs=len(planes))
                layers.append(IntegerLayer(last, stored[planes], thresholds=thresholds[planes], index_map=index_map))
                break
            bias = np.floor(bias + 0.5).astype(np.int32)
            peak = accumulator_peak(IntegerLayer(shape, stored, bias), low, 127)
            multiplier, shift = fixed_point(unit / float(layer.scale), peak)
            layers.append(IntegerLayer(shape, stored, bias, multiplier, shift))
            scale_in, low = float(layer.scale), 0 if shape.flags & RELU else -128
        return EncoderProgram(self.config.height, self.config.width, self.config.bits, tuple(layers))


def fixed_point(factor: np.ndarray, peak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``factor ~ multiplier / 2^shift`` per channel, with ``peak * multiplier`` (and the rounding half) below 2^30.

    ``factor`` float64 (out,) above 0, ``peak`` int64 (out,). Returns multiplier uint16 below 2^15 and shift uint8.
    """
    multipliers, shifts = [], []
    for value, most in zip(factor, peak):
        shift = 30
        while shift > 1:
            multiplier = int(np.floor(value * 2.0**shift + 0.5))
            if multiplier < MULTIPLIER_LIMIT and int(most) * multiplier + (1 << shift - 1) < INTERMEDIATE_LIMIT:
                break
            shift -= 1
        multipliers.append(int(np.floor(value * 2.0**shift + 0.5)))
        shifts.append(shift)
    return np.asarray(multipliers, np.uint16), np.asarray(shifts, np.uint8)


@torch.no_grad()
def _activation_peaks(encoder: FloatEncoder, images: torch.Tensor, share: float = 0.9998) -> list[float]:
    """The quantile ``share`` of |output| behind every layer (behind the addition where there is one)."""
    peaks = []
    x, kept = pixels(images), None
    for shape, layer in zip(encoder.shapes, encoder.layers):
        before = x
        x = run_layers([shape], [layer], x) if not shape.flags & ADD_KEPT else layer(x) + kept
        if shape.flags & KEEP_INPUT:
            kept = before
        sample = x.abs().flatten()
        sample = sample[torch.randint(len(sample), (1_000_000,), generator=torch.Generator().manual_seed(0))]
        peaks.append(float(torch.quantile(sample, share)))
    return peaks
