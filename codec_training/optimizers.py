"""What a stage's weights are trained with: AdamW, or Muon for convolutions with AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from semantic_codec.nn.precision import multiplies_bfloat16

OPTIMIZERS = ("adamw", "muon")


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum (K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024), its step
    scaled to AdamW's (Liu et al., arXiv 2502.16982), so that both share a learning rate.

    ``weights`` may have any rank from 2: a row per output, a column per input and tap. PyTorch's own takes matrices alone, and
    multiplies in bfloat16 also where the processor has to emulate that.
    """

    def __init__(self, weights: Iterable[nn.Parameter], learning_rate: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(weights, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group["lr"], group["weight_decay"], group["momentum"])

    def _move(self, weight: nn.Parameter, rate: float, decay: float, momentum: float) -> None:
        gradient, state = weight.grad.flatten(1), self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = orthogonalized(gradient.lerp(average, momentum))
        weight.mul_(1 - rate * decay)
        weight.sub_(direction.reshape(weight.shape), alpha=0.2 * math.sqrt(max(direction.shape)) * rate)


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """U V^T of a matrix U S V^T, about: its singular values end between 0.7 and 1.2 (five quintic Newton-Schulz steps, as Jordan's)."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(torch.bfloat16 if multiplies_bfloat16() else torch.float32)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x if wide else x.T).to(matrix.dtype)


def optimizers_of(module: nn.Module, name: str, learning_rate: float, weight_decay: float) -> dict[str, torch.optim.Optimizer]:
    """The optimizers, by what stands before their names in a checkpoint; biases and norms do not decay.

    ``muon`` takes the convolutions that mix channels; depthwise ones, one row of taps each, stay with AdamW.
    """
    parameters = list(module.parameters())
    mixing = [p for p in parameters if name == "muon" and p.ndim == 4 and p.shape[1] > 1]
    taken = set(map(id, mixing))
    others = [p for p in parameters if id(p) not in taken]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: dict[str, torch.optim.Optimizer] = {"": torch.optim.AdamW(groups, lr=learning_rate, fused=True)}
    if mixing:
        optimizers["muon_"] = Muon(mixing, learning_rate, weight_decay)
    return optimizers
