"""Learned quantization centers: soft assignment in the gradient, hard in the value, and what a received index tells.

    latents z -> level of the nearest center -> symbol index_map[level] -> bits -> [channel] -> center, or posterior mean

The softmax over negative squared distances stands in for the assignment in the backward pass (soft-to-hard quantization;
Agustsson et al., arXiv 1704.00648), so the centers learn, too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from semantic_codec.index_map import make_index_map

WIDEST = 1.75  # latents have a mean square of 1; uniform levels from -WIDEST to WIDEST are a fair start


class Centers(nn.Module):
    """``2**bits`` centers. Buffers: ``index_map`` int64 (K,), level to symbol, and ``usage`` float (K,), shares of levels."""

    def __init__(self, bits: int):
        super().__init__()
        self.bits, self.count = bits, 1 << bits
        self.values = nn.Parameter(torch.linspace(-WIDEST, WIDEST, self.count))
        self.register_buffer("index_map", torch.arange(self.count))
        self.register_buffer("usage", torch.full((self.count,), 1 / self.count))
        shifts = torch.arange(bits - 1, -1, -1)
        bits_of_symbols = ((torch.arange(self.count)[:, None] >> shifts & 1) * 2 - 1).float()
        self.register_buffer("patterns", bits_of_symbols, persistent=False)  # +-1, float (K, bits)
        self.register_buffer("weights", 1 << shifts, persistent=False)  # of the bits in a symbol, int64 (bits,)
        self.sharpness = 4.0

    def levels(self, latents: torch.Tensor) -> torch.Tensor:
        """The nearest center's number, int64 in the shape of ``latents``."""
        return (latents[..., None] - self.values).abs().argmin(-1)

    def thresholds(self) -> torch.Tensor:
        """Halfway between neighbouring centers, ascending, float (K - 1,)."""
        ordered = self.values.detach().sort().values
        return (ordered[1:] + ordered[:-1]) / 2

    def quantize(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(levels int64, the centers in value and their soft assignment in gradient, mean soft assignment float (K,))."""
        weight = torch.softmax(-self.sharpness * (latents[..., None] - self.values) ** 2, dim=-1)
        soft = weight @ self.values
        levels = self.levels(latents)
        return levels, soft + (self.values[levels] - soft).detach(), weight.flatten(0, -2).mean(0)

    def signs(self, levels: torch.Tensor) -> torch.Tensor:
        """Levels int64 (B, N) -> bits as +-1, float (B, N * bits), most significant first."""
        return self.patterns[self.index_map[levels]].flatten(1)

    def received(self, soft: torch.Tensor, posterior: bool) -> torch.Tensor:
        """Posterior means of bits float (B, N * bits) -> float (B, N).

        ``posterior``: the mean center given what was received, the BER and the usage,
        ``sum_k usage_k c_k prod_b (1 + s_kb soft_b) / 2``, normalized; else the center of the received index, and the
        posterior mean only where a bit of it is missing.
        """
        soft = soft.unflatten(1, (-1, self.bits))
        patterns = self.patterns[self.index_map]  # (K, bits), by level
        # A center that is never used must not divide by zero where its very index arrives.
        weight = self.usage.clamp_min(1e-6).expand(*soft.shape[:2], -1)
        for bit in range(self.bits):
            weight = weight * (1 + soft[:, :, bit, None] * patterns[:, bit])
        weight = weight.clamp_min(1e-20)
        mean = (weight * self.values).sum(-1) / weight.sum(-1)
        if posterior:
            return mean
        symbol = ((soft > 0) * self.weights).sum(-1)
        return torch.where((soft != 0).all(-1), self.values[self.index_map.argsort()[symbol]], mean)

    @torch.no_grad()
    def adopt(self, settled: Centers) -> None:
        """Sort the centers, and take over another's usage and index map."""
        self.values.copy_(self.values.sort().values)
        self.usage.copy_(settled.usage)
        self.index_map.copy_(settled.index_map)

    @torch.no_grad()
    def settle(self, latents: torch.Tensor, kind: str, seed: int = 0) -> None:
        """Sort the centers, measure their usage on ``latents`` of any shape, and choose the index map on both."""
        self.values.copy_(self.values.sort().values)
        self.usage.copy_(torch.bincount(self.levels(latents).flatten(), minlength=self.count) / latents.numel())
        centers, usage = self.values.double().numpy(), self.usage.double().numpy()
        self.index_map.copy_(torch.from_numpy(np.asarray(make_index_map(kind, centers, usage, seed))))


class UniformLevels(Centers):
    """``2**bits`` levels from 0 to 1 that are not learned, in natural binary; the gradient of rounding is the identity."""

    def __init__(self, bits: int):
        super().__init__(bits)
        self.values.data = torch.linspace(0, 1, self.count)
        self.values.requires_grad_(False)

    def levels(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.floor(latents * (self.count - 1) + 0.5).long().clamp(0, self.count - 1)

    def quantize(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        levels = self.levels(latents)
        return levels, latents + (self.values[levels] - latents).detach(), self.usage

    @torch.no_grad()
    def settle(self, latents: torch.Tensor, kind: str, seed: int = 0) -> None:
        """Measure the usage; the map stays natural."""
        super().settle(latents, "natural", seed)
