"""DeepCOD (Yao et al., SenSys 2020, doi 10.1145/3384419.3430898): a light encoder as in compressive sensing, a heavy decoder.

    device   image -> first layers of the base -> one 4x4 convolution of stride 4 -> nearest of eight learned centers
    edge     received center -> transposed convolutions and residual blocks -> features -> the rest of the base

The decoder is not told the BER: DeepCOD is made for links without errors. Its entropy coding is left out, since one flip
would desynchronize it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.nn.split_codec import SplitConfig, builders, padded

STRIDE = 4


class Sensing(nn.Module):
    """One linear convolution, and a norm without a trained part, which keeps latents in the range of the centers."""

    def __init__(self, channels: int, latent_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, latent_channels, STRIDE, STRIDE, bias=False)
        self.norm = nn.BatchNorm2d(latent_channels, affine=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(padded(features, STRIDE)))


class Residual(nn.Module):
    """Two 3x3 convolutions with norms, around an addition."""

    def __init__(self, width: int):
        super().__init__()
        layers = [(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)) for _ in range(2)]
        self.body = nn.Sequential(*layers[0], nn.ReLU(), *layers[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


class RecoveryDecoder(nn.Module):
    """(B, c, h, w) -> features (B, C, rows, columns): twice a doubling transposed convolution and residual blocks."""

    def __init__(self, latent_channels: int, feature_shape: tuple[int, int, int], width: int, blocks: int):
        super().__init__()
        channels, self.rows, self.columns = feature_shape
        layers, inputs = [], latent_channels
        for _ in range(2):
            layers += [nn.ConvTranspose2d(inputs, width, 4, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [Residual(width) for _ in range(blocks)]
            inputs = width
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(latents))[:, :, : self.rows, : self.columns]


@dataclass(frozen=True)
class DeepcodConfig(SplitConfig):
    """``decoder_width`` channels, ``blocks`` residual blocks at each of two sizes."""

    aware: bool = False
    latent_channels: int = 12
    decoder_width: int = 96
    blocks: int = 2

    def make_encoder(self, channels: int) -> nn.Module:
        return Sensing(channels, self.latent_channels)

    def make_decoder(self, latent_shape: tuple[int, int, int], feature_shape: tuple[int, int, int]) -> nn.Module:
        return RecoveryDecoder(latent_shape[0], feature_shape, self.decoder_width, self.blocks)


edge_network, reference_encoder = builders(DeepcodConfig)
