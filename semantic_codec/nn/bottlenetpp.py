"""BottleNet++ (Shao and Zhang, arXiv 1910.14315): a convolution, batch norm and a sigmoid, 8 bits for each value.

    device   image -> first layers of the base -> convolution -> norm -> sigmoid -> one of 256 uniform levels
    edge     received level, a plane that tells the noise -> transposed convolution -> norm -> ReLU -> the rest of the base

The levels are numbered in natural binary, as quantized values are; a flip of the first bit jumps by half of the range.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.nn.attention import ber_condition
from semantic_codec.nn.centers import UniformLevels
from semantic_codec.nn.split_codec import SplitConfig, builders, padded


class Bottleneck(nn.Module):
    """Features (B, C, rows, columns) -> (B, c, rows / stride, columns / stride) of values between 0 and 1."""

    def __init__(self, channels: int, latent_channels: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, latent_channels, stride, stride)
        self.norm = nn.BatchNorm2d(latent_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.norm(self.conv(padded(features, self.stride))))


class NoisePlaneDecoder(nn.Module):
    """(B, c, h, w) and BER (B,) -> features (B, C, rows, columns), ``stride`` times the size."""

    def __init__(self, latent_channels: int, feature_shape: tuple[int, int, int], stride: int, aware: bool):
        super().__init__()
        channels, self.rows, self.columns = feature_shape
        self.aware = aware
        self.conv = nn.ConvTranspose2d(latent_channels + 1, channels, stride, stride)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        noise = (ber_condition(ber) * self.aware)[:, :, None, None].expand(-1, -1, *latents.shape[2:])
        x = F.relu(self.norm(self.conv(torch.cat([latents, noise], dim=1))))
        return x[:, :, : self.rows, : self.columns]


@dataclass(frozen=True)
class BottlenetConfig(SplitConfig):
    """``latent_channels`` values at each position of a map that is ``stride`` times smaller than the features'."""

    bits: int = 8
    latent_channels: int = 4
    stride: int = 2

    def make_centers(self) -> UniformLevels:
        return UniformLevels(self.bits)

    def make_encoder(self, channels: int) -> nn.Module:
        return Bottleneck(channels, self.latent_channels, self.stride)

    def make_decoder(self, latent_shape: tuple[int, int, int], feature_shape: tuple[int, int, int]) -> nn.Module:
        return NoisePlaneDecoder(latent_shape[0], feature_shape, self.stride, self.aware)


edge_network, reference_encoder = builders(BottlenetConfig)
