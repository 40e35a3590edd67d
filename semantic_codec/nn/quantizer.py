"""Latents to bits, with a gradient."""

from __future__ import annotations

import torch

from semantic_codec.nn.centers import Centers


class _SignThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, latents: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(latents)
        return torch.where(latents >= 0, 1.0, -1.0).to(latents.dtype)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        (latents,) = ctx.saved_tensors
        return gradient * (latents.abs() <= 1)


def binarize(latents: torch.Tensor) -> torch.Tensor:
    """float (B, C, h, w) -> +1 or -1, float (B, C*h*w), channel by channel: the order of the symbols on the wire.

    The gradient is that of a hard tanh (straight-through estimator; Courbariaux et al., arXiv 1602.02830).
    """
    return _SignThrough.apply(latents.flatten(1))


def transmitted(latents: torch.Tensor, centers: Centers | None, symbols: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """float (B, C, h, w) -> the bits of the first ``symbols`` as +-1, float (B, bits), and where they are centers (B, symbols) zeros.

    Added to the centers that arrive, the zeros carry the gradient of the soft assignment to latents and centers.
    """
    if centers is None:
        return binarize(latents)[:, :symbols], None
    levels, sent, _ = centers.quantize(latents.flatten(1)[:, :symbols])
    return centers.signs(levels), sent - centers.values[levels]


def symbol_signs(symbols: torch.Tensor, bits: int) -> torch.Tensor:
    """Symbols uint8 (B, N) -> their bits as +-1, float (B, N * bits), most significant first."""
    shifts = torch.arange(bits - 1, -1, -1)
    return ((symbols[..., None] >> shifts & 1).float() * 2 - 1).flatten(1)
