"""Latents to bits, with a gradient."""

from __future__ import annotations

import torch


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
