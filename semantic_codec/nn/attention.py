"""Attention to channels that depends on how bad the link is."""

from __future__ import annotations

import torch
from torch import nn


def ber_condition(ber: torch.Tensor) -> torch.Tensor:
    """(B,) -> (B, 1): decades, 0 at a BER of 1e-2, -1 at none."""
    return (torch.log10(ber + 1e-3) + 2)[:, None]


class ChannelAttention(nn.Module):
    """Channels of (B, C, h, w) scaled by what they hold on average and by the BER (Xu et al., ADJSCC, arXiv 2012.00533)."""

    def __init__(self, channels: int):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(channels + 1, channels), nn.ReLU(), nn.Linear(channels, channels), nn.Sigmoid())

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return x * self.gate(torch.cat([x.mean((2, 3)), condition], dim=1))[:, :, None, None]
