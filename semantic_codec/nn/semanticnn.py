"""SemanticNN (Huang et al., arXiv 2511.11038), as its paper describes it.

    device   image -> first layers of the base -> 4x4 convolution of stride 4 -> GDN -> PReLU -> unit power -> nearest center
    edge     center of the received index -> 4 x (transposed convolution, inverse GDN, PReLU, channel attention)
             -> transposed convolution -> inverse GDN -> softplus -> the rest of the base

Widths and strides are those of its published code, whose slips are not: centers learn, bits are flipped, power does not
depend on the size of the latent, and the decoder's end is not bounded by 1, since the features that it restores are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.nn.attention import ChannelAttention, ber_condition
from semantic_codec.nn.gdn import GDN
from semantic_codec.nn.split_codec import SplitConfig, builders, padded

STRIDE = 4


class DecoderBlock(nn.Module):
    """Transposed 3x3 convolution, inverse GDN, PReLU, channel attention."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=1, output_padding=stride - 1)
        self.norm, self.bend = GDN(outputs, inverse=True), nn.PReLU()
        self.attention = ChannelAttention(outputs)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.attention(self.bend(self.norm(self.conv(x))), condition)


class FeatureDecoder(nn.Module):
    """(B, latent channels, h, w) and BER (B,) -> features (B, C, rows, columns), which are at or above 0 behind a ReLU."""

    def __init__(self, latent_channels: int, feature_shape: tuple[int, int, int], widths: tuple[int, ...], aware: bool):
        super().__init__()
        channels, self.rows, self.columns = feature_shape
        sizes = (latent_channels, *widths)
        strides = [1] * (len(widths) - 2) + [2, 2]
        self.aware = aware
        self.blocks = nn.ModuleList(DecoderBlock(*pair, stride) for *pair, stride in zip(sizes, sizes[1:], strides))
        self.last = nn.ConvTranspose2d(sizes[-1], channels, 3, padding=1)
        self.norm = GDN(channels, inverse=True)

    def forward(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        condition = ber_condition(ber) * self.aware
        x = latents
        for block in self.blocks:
            x = block(x, condition)
        return F.softplus(self.norm(self.last(x)))[:, :, : self.rows, : self.columns]


class FeatureEncoder(nn.Module):
    """Features (B, C, rows, columns) -> latents (B, C / 2, rows / 4, columns / 4), each image's of mean square 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels // 2, STRIDE, STRIDE)
        self.norm, self.bend = GDN(channels // 2), nn.PReLU()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.bend(self.norm(self.conv(padded(features, STRIDE))))
        return x * torch.rsqrt((x**2).mean((1, 2, 3), keepdim=True) + 1e-8)


@dataclass(frozen=True)
class SemanticnnConfig(SplitConfig):
    """``widths`` of the decoder's blocks, of which the last two double the size."""

    widths: tuple[int, ...] = (64, 96, 128, 96)

    def make_encoder(self, channels: int) -> nn.Module:
        return FeatureEncoder(channels)

    def make_decoder(self, latent_shape: tuple[int, int, int], feature_shape: tuple[int, int, int]) -> nn.Module:
        return FeatureDecoder(latent_shape[0], feature_shape, self.widths, self.aware)


edge_network, reference_encoder = builders(SemanticnnConfig)
