"""Attribution-based asymmetry compensation (SemanticNN, arXiv 2511.11038): a weak encoder's symbols should all matter to the
strong decoder behind them, so that no few of them carry the answer.

The attribution of a latent is integrated gradients (Sundararajan et al., arXiv 1703.01365) from an all-zero baseline, the
integral by the trapezoidal rule over its two ends: ``a = (g(0) + g(f)) / 2 * f``. The loss asks for many latents that speak
for the true class, and for a large sum of them: ``N / N_positive + 1 / sum_positive``. A count has no gradient: each latent
counts as sigmoid(a / mean |a|) instead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

EPSILON = 0.1


def attributions(score: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor) -> torch.Tensor:
    """float (B, N), with a graph behind them; ``score`` maps latents (B, N) to one number per image (B,)."""
    ends = latents, torch.zeros_like(latents, requires_grad=True)
    slopes = [torch.autograd.grad(score(end).sum(), end, create_graph=True)[0] for end in ends]
    return sum(slopes) / 2 * latents


def asymmetry_loss(attributed: torch.Tensor) -> torch.Tensor:
    """The mean over images of (B, N) attributions; at least 1."""
    scale = attributed.detach().abs().mean(1, keepdim=True) + 1e-8
    positive = torch.sigmoid(attributed / scale).sum(1)
    total = torch.relu(attributed).sum(1)
    return (attributed.shape[1] / positive + 1 / (total + EPSILON)).mean()
