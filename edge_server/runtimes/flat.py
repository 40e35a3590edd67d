"""Networks of linear layers in as few calls as they can be made of. Where a layer takes microseconds, what PyTorch's modules
do around each is a third of the time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.nn.edge import EdgeNetwork, channel_features, received_share

Weights = tuple[torch.Tensor, torch.Tensor]


class FlatNetwork:
    """An :class:`EdgeNetwork` without a grid, in evaluation: the same sums of the same weights, without modules. Scale and
    shift of all blocks are one product."""

    def __init__(self, network: EdgeNetwork):
        self._network, self._width, blocks = network, network.config.width, network.blocks
        self._embed = _weights(network.embed)
        self._blocks = [(*_weights(block.norm), block.norm.eps, *_weights(block.linear)) for block in blocks]
        self._norm = *_weights(network.norm), network.norm.eps
        self._heads = {task: _weights(head) for task, head in network.heads.items()}
        self._films: Weights | None = None
        if network.condition is not None and len(blocks):
            self._condition = [_weights(layer) for layer in network.condition if isinstance(layer, nn.Linear)]
            weights, biases = zip(*(_weights(block.film) for block in blocks))
            # The 1 of 1 + scale is part of the bias.
            ones = torch.tensor([1.0, 0.0]).repeat_interleave(self._width).repeat(len(blocks))
            self._films = torch.cat(weights), torch.cat(biases) + ones

    def __call__(self, soft: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        shape, told = (self._width,), self._told(soft, ber)
        x = F.linear(self._network.received(soft), *self._embed)
        for number, (scale, shift, eps, weight, bias) in enumerate(self._blocks):
            h = torch.layer_norm(x, shape, scale, shift, eps)
            if told is not None:
                h = torch.addcmul(told[2 * number + 1], h, told[2 * number])
            x = x + F.linear(F.gelu(h), weight, bias)
        x = torch.layer_norm(x, shape, *self._norm)
        return {task: F.linear(x, *head) for task, head in self._heads.items()}

    def _told(self, soft: torch.Tensor, ber: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
        """Scale and shift of each block in turn, each (B, width)."""
        if self._films is None:
            return None
        condition = channel_features(ber, received_share(soft))
        for layer in self._condition:
            condition = F.gelu(F.linear(condition, *layer))
        return F.linear(condition, *self._films).split(self._width, dim=1)


def _weights(layer: nn.Linear | nn.LayerNorm) -> Weights:
    return layer.weight.detach(), layer.bias.detach()
