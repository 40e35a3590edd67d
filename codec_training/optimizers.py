"""What a stage's weights are trained with: AdamW, or Muon for convolutions with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

OPTIMIZERS = ("adamw", "muon")


class MatrixMuon(torch.optim.Muon):
    """PyTorch's Muon, which takes matrices alone, for weights of any rank: a row per output, a column per input and tap.

    Orthogonalized momentum (K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024), its step
    scaled to AdamW's (Liu et al., arXiv 2502.16982), so that both share a learning rate.
    """

    def __init__(self, weights: Iterable[nn.Parameter], learning_rate: float, weight_decay: float):
        self.weights = list(weights)
        matrices = [nn.Parameter(weight.detach().flatten(1).clone()) for weight in self.weights]
        super().__init__(matrices, learning_rate, weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure=None):
        matrices = self.param_groups[0]["params"]
        for weight, matrix in zip(self.weights, matrices, strict=True):
            matrix.copy_(weight.flatten(1))
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        super().step(closure)
        for weight, matrix in zip(self.weights, matrices, strict=True):
            weight.copy_(matrix.view(weight.shape))


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
        optimizers["muon_"] = MatrixMuon(mixing, learning_rate, weight_decay)
    return optimizers
