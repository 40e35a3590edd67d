"""Generalized divisive normalization (Balle et al., arXiv 1511.06281)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class GDN(nn.Module):
    """``y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j^2)`` over the channels of (B, C, h, w); ``inverse`` multiplies.

    beta and gamma are squares of what is trained, so that they stay at or above 0.
    """

    def __init__(self, channels: int, inverse: bool = False):
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(channels))
        # Zero would be a place that the gradient of a square never leaves.
        self.gamma = nn.Parameter(torch.full((channels, channels), 0.03) + torch.eye(channels) * 0.1**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm = F.conv2d(x**2, self.gamma[:, :, None, None] ** 2, self.beta**2 + 1e-6)
        return x * torch.sqrt(norm) if self.inverse else x * torch.rsqrt(norm)
