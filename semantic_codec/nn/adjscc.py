"""ADJSCC (Xu et al., arXiv 2012.00533) on features and indices, as SemanticNN's authors compare with it.

    device   image -> first layers of the base -> 4 x (convolution, GDN, PReLU), attention between -> unit power -> nearest center
    edge     received center -> 4 x (transposed convolution, inverse GDN, PReLU, attention) -> features -> the rest of the base

Both sides of ADJSCC know the channel. Here a device does not: its attention is always told ``told_ber``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from semantic_codec.nn.attention import ChannelAttention, ber_condition
from semantic_codec.nn.gdn import GDN
from semantic_codec.nn.semanticnn import FeatureDecoder
from semantic_codec.nn.split_codec import SplitConfig, builders, padded

STRIDE = 4


class AttentiveEncoder(nn.Module):
    """Features (B, C, rows, columns) -> latents (B, c, rows / 4, columns / 4), each image's of mean square 1."""

    def __init__(self, channels: int, widths: tuple[int, ...], told_ber: float):
        super().__init__()
        sizes = (channels, *widths)
        strides = [2, 2] + [1] * (len(widths) - 2)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(*pair, 3, stride, padding=1), GDN(pair[1]), nn.PReLU()) for *pair, stride in zip(sizes, sizes[1:], strides)
        )
        self.attentions = nn.ModuleList(ChannelAttention(size) for size in widths[:-1])
        self.register_buffer("condition", ber_condition(torch.tensor([told_ber])))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.layers[0](padded(features, STRIDE))
        for attention, layer in zip(self.attentions, self.layers[1:]):
            x = layer(attention(x, self.condition.expand(len(x), -1)))
        return x * torch.rsqrt((x**2).mean((1, 2, 3), keepdim=True) + 1e-8)


@dataclass(frozen=True)
class AdjsccConfig(SplitConfig):
    """``widths`` of the encoder's layers, of which the first two halve the size and the last is sent; the decoder's mirror them."""

    widths: tuple[int, ...] = (96, 96, 64, 12)
    told_ber: float = 0.02

    def make_encoder(self, channels: int) -> nn.Module:
        return AttentiveEncoder(channels, self.widths, self.told_ber)

    def make_decoder(self, latent_shape: tuple[int, int, int], feature_shape: tuple[int, int, int]) -> nn.Module:
        mirrored = (self.widths[-2], *self.widths[-2::-1])
        return FeatureDecoder(latent_shape[0], feature_shape, mirrored, self.aware)


edge_network, reference_encoder = builders(AdjsccConfig)
