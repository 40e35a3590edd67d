"""AECNN (Li, Iosifidis and Zhang, ICC 2023, arXiv 2211.13745): channel attention tells which features are worth sending.

    device   image -> first blocks of the base -> attention -> its most important channels -> norm -> uniform level
    edge     received level -> two convolutions, which restore all channels -> the rest of the base

Attention weighs each channel by its mean and its largest value (CBAM; Woo et al., arXiv 1807.06521). Which channels are
sent is settled before the codec is trained, by their mean weight over training images: no image has to say which it sends.

The decoder is not told the BER: AECNN is made for payloads that arrive whole or not at all. Its entropy coding
(entropy_coding.py) belongs behind a code and a check, never on this path, where one flip would desynchronize it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from semantic_codec.errors import ConfigError
from semantic_codec.nn.centers import UniformLevels
from semantic_codec.nn.split_codec import SplitConfig, builders

RANGE = 2.5
"""Uniform levels cover so many standard deviations on both sides of a channel's mean."""


class ChannelSelection(nn.Module):
    """Features (B, C, rows, columns) -> the chosen channels (B, ``sent``, rows, columns), between 0 and 1."""

    def __init__(self, channels: int, sent: int, reduction: int = 4):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.norm = nn.BatchNorm2d(sent)
        self.register_buffer("chosen", torch.arange(sent))

    def importance(self, features: torch.Tensor) -> torch.Tensor:
        """Of each channel of each image, float (B, C) between 0 and 1."""
        return torch.sigmoid(self.gate(features.mean((2, 3))) + self.gate(features.amax((2, 3))))

    def weighed(self, features: torch.Tensor) -> torch.Tensor:
        """All channels, each times its importance."""
        return features * self.importance(features)[:, :, None, None]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.weighed(features)[:, self.chosen])
        return (x / (2 * RANGE) + 0.5).clamp(0, 1)

    @torch.no_grad()
    def choose(self, features: torch.Tensor) -> None:
        """Send the channels that are the most important on average over ``features``, in their own order."""
        best = self.importance(features).mean(0).topk(len(self.chosen)).indices
        self.chosen.copy_(best.sort().values)


class Attended(nn.Module):
    """The base with the attention between its two parts: normalized pixels (B, 3, H, W) -> logits (B, classes)."""

    def __init__(self, head: nn.Module, selection: ChannelSelection, tail: nn.Module):
        super().__init__()
        self.head, self.selection, self.tail = head, selection, tail

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tail(self.selection.weighed(self.head(x)))


class FeatureRecovery(nn.Module):
    """(B, c, h, w) -> features (B, C, h, w) of either sign."""

    def __init__(self, latent_channels: int, channels: int, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        return self.body(latents)


@dataclass(frozen=True)
class AecnnConfig(SplitConfig):
    """``sent_channels`` of the features behind the ``cut`` cross the link; ``decoder_width`` channels restore the others."""

    aware: bool = False
    cut: int = 4
    sent_channels: int = 12
    decoder_width: int = 48

    def make_centers(self) -> UniformLevels:
        return UniformLevels(self.bits)

    def make_encoder(self, channels: int) -> nn.Module:
        if not 1 <= self.sent_channels <= channels:
            raise ConfigError(
                f"[edge] sent_channels is {self.sent_channels}", allowed=f"1 to {channels}, those behind the cut",
                fix="send fewer, or cut elsewhere",
            )  # fmt: skip
        return ChannelSelection(channels, self.sent_channels)

    def make_decoder(self, latent_shape: tuple[int, int, int], feature_shape: tuple[int, int, int]) -> nn.Module:
        return FeatureRecovery(latent_shape[0], feature_shape[0], self.decoder_width)


edge_network, reference_encoder = builders(AecnnConfig)
