"""The device encoder while it is trained: in floats, then with simulated integers, then exported to integers.

    uint8 (B, H, W, 3) -> pixel - 128 -> stem -> blocks -> 1x1 latent layer -> (B, C, h, w)

Inverted blocks are MobileNetV2's (Sandler et al., arXiv 1801.04381). All layers whose outputs are added to one another share one activation scale,
so that the residual addition on the device is a saturating int8 add.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.encoder_format import ADD_KEPT, DEPTHWISE, FULL, KEEP_INPUT, RELU, LayerShape
from semantic_codec.errors import ConfigError
from semantic_codec.nn.centers import Centers

PIXEL_SCALE = 1 / 64


@dataclass(frozen=True)
class BlockConfig:
    """One block with ``channels`` outputs.

    ``conv``: a 3x3 convolution and ReLU. ``residual``: two 3x3 convolutions around an addition. ``inverted``: expand
    to ``expand`` channels, depthwise 3x3, project; added to its input where stride is 1 and the channels are equal.
    """

    kind: str
    channels: int
    stride: int = 1
    expand: int = 0

    def layers(self, inputs: int) -> list[LayerShape]:
        if self.kind == "conv":
            return [LayerShape(FULL, 3, self.stride, RELU, inputs, self.channels)]
        if self.kind == "residual" and self.stride == 1 and inputs == self.channels:
            return [
                LayerShape(FULL, 3, 1, RELU | KEEP_INPUT, inputs, inputs),
                LayerShape(FULL, 3, 1, ADD_KEPT, inputs, inputs),
            ]
        if self.kind == "inverted" and self.expand > 0:
            keep, add = (KEEP_INPUT, ADD_KEPT) if self.stride == 1 and inputs == self.channels else (0, 0)
            return [
                LayerShape(FULL, 1, 1, RELU | keep, inputs, self.expand),
                LayerShape(DEPTHWISE, 3, self.stride, RELU, self.expand, self.expand),
                LayerShape(FULL, 1, 1, add, self.expand, self.channels),
            ]
        raise ConfigError(
            f"block {self} on {inputs} channels",
            allowed="conv; residual of stride 1 with as many channels as its input; inverted with expand of 1 or more",
            fix="correct the encoder's blocks in the training configuration",
        )


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the device encoder; ``latent_channels`` planes of one symbol per position, of ``bits`` bits.

    One bit is the sign; more are the number of the nearest of ``2**bits`` learned centers, through an ``index_map`` that is
    searched, natural, gray or random. The first ``repeated`` planes are sent once more, behind all others.
    """

    height: int
    width: int
    stem_channels: int
    blocks: tuple[BlockConfig, ...]
    latent_channels: int
    stem_kernel: int = 3
    stem_stride: int = 2
    bits: int = 1
    index_map: str = "searched"
    repeated: int = 0


def layer_shapes(config: EncoderConfig) -> tuple[LayerShape, ...]:
    """The encoder as the flat list of convolutions that ``encoder.bin`` holds."""
    shapes = [LayerShape(FULL, config.stem_kernel, config.stem_stride, RELU, 3, config.stem_channels)]
    for block in config.blocks:
        shapes += block.layers(shapes[-1].outputs)
    return (*shapes, LayerShape(FULL, 1, 1, 0, shapes[-1].outputs, config.latent_channels))


class ConvNorm(nn.Module):
    """Convolution and batch norm; the latent layer's norm has no affine part: its mean becomes the threshold."""

    def __init__(self, shape: LayerShape, affine: bool):
        super().__init__()
        groups = shape.inputs if shape.kind == DEPTHWISE else 1
        self.conv = nn.Conv2d(
            shape.inputs, shape.outputs, shape.kernel, shape.stride, shape.kernel // 2, groups=groups, bias=False
        )
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out" if groups == 1 else "fan_in", nonlinearity="relu")
        self.norm = nn.BatchNorm2d(shape.outputs, affine=affine)
        if shape.flags & ADD_KEPT:
            # Residual branches start silent, so that a deep encoder starts as a shallow one.
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.conv.groups > 1 and self.conv.stride[0] > 1:
            # On CPUs the bf16 backward pass of a strided depthwise convolution is ten times slower than float32's.
            with torch.autocast(x.device.type, enabled=False):
                return self.norm(self.conv(x.float()))
        return self.norm(self.conv(x))

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the one convolution that equals convolution and norm in evaluation mode."""
        norm = self.norm
        gain = torch.rsqrt(norm.running_var + norm.eps)
        bias = -norm.running_mean * gain
        if norm.affine:
            gain, bias = gain * norm.weight, bias * norm.weight + norm.bias
        return (self.conv.weight * gain[:, None, None, None]).detach(), bias.detach()


class FloatEncoder(nn.Module):
    """uint8 (B, H, W, 3) -> latents float (B, C, h, w) of zero mean; the sign, or the nearest of ``centers``, is the symbol."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.shapes = layer_shapes(config)
        last = len(self.shapes) - 1
        self.layers = nn.ModuleList(ConvNorm(shape, affine=index != last) for index, shape in enumerate(self.shapes))
        self.centers = Centers(config.bits) if config.bits > 1 else None

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the latent layer sees: float (B, C, h, w)."""
        return run_layers(self.shapes[:-1], self.layers, pixels(images))

    def latents(self, features: torch.Tensor) -> torch.Tensor:
        """What is sent of the features, float (B, C, h, w)."""
        return with_copies(self.layers[-1](features), self.config)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.latents(self.features(images))


def with_copies(latents: torch.Tensor, config: EncoderConfig) -> torch.Tensor:
    """Latents (B, C, h, w) -> (B, C + repeated, h, w)."""
    return torch.cat([latents, latents[:, : config.repeated]], dim=1) if config.repeated else latents


def pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W): ``(pixel - 128) / 64``."""
    x = (images.float() - 128) * PIXEL_SCALE
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def run_layers(shapes, layers, x: torch.Tensor, residual_limit=None) -> torch.Tensor:
    """Run convolution modules in order with their ReLUs and additions; ``residual_limit(index, sum)`` saturates sums."""
    kept = None
    for index, (shape, layer) in enumerate(zip(shapes, layers)):
        if shape.flags & KEEP_INPUT:
            kept = x
        x = layer(x)
        if shape.flags & RELU and residual_limit is None:
            x = F.relu(x)
        if shape.flags & ADD_KEPT:
            x = x + kept if residual_limit is None else residual_limit(index, x + kept)
    return x
