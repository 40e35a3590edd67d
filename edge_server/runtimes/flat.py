"""The networks of the family `weaklink` in as few calls as they can be made of.

Where a layer takes microseconds, what PyTorch's modules do around each is a third of the time. And of one image PyTorch's own
convolution takes twice as long as the sums do: it brings the weights into another order first, every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.nn.edge import EdgeNetwork, channel_features, received_share, symbol_values

FEW = 16
"""Images up to which a convolution is one matrix product of all neighbourhoods; for more of them copying those takes longer."""
Weights = tuple[torch.Tensor, torch.Tensor]


def flatten(network: EdgeNetwork) -> FlatLinear | FlatConvolutional:
    """The same function of soft bits and BER, in evaluation: the same sums of the same weights but for rounding."""
    return (FlatConvolutional if network.config.grid else FlatLinear)(network)


class _Flat:
    """What both have in common. Scale and shift of all blocks are one product."""

    def __init__(self, network: EdgeNetwork, films: Sequence[Weights]):
        """films: of each block, scale above shift; empty for a network that is told nothing."""
        # Not the network itself, which would keep its own copy of the weights.
        self._received = partial(symbol_values, config=network.config, centers=network.centers)
        self._width = network.config.width
        self._heads = {task: _weights(head) for task, head in network.heads.items()}
        self._films = tuple(map(torch.cat, zip(*films))) if films else None
        if films:
            self._condition = [_weights(layer) for layer in network.condition if isinstance(layer, nn.Linear)]

    def _told(self, soft: torch.Tensor, ber: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
        """Scale and shift of each block in turn, each (B, width)."""
        if self._films is None:
            return None
        condition = channel_features(ber, received_share(soft))
        for layer in self._condition:
            condition = F.gelu(F.linear(condition, *layer))
        return F.linear(condition, *self._films).split(self._width, dim=1)

    def _answer(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {task: F.linear(x, *head) for task, head in self._heads.items()}


class FlatLinear(_Flat):
    """Of a network without a grid."""

    def __init__(self, network: EdgeNetwork):
        super().__init__(network, [_film(block.film) for block in network.blocks] if network.config.aware else ())
        self._embed = _weights(network.embed)
        self._blocks = [(*_weights(block.norm), block.norm.eps, *_weights(block.linear)) for block in network.blocks]
        self._norm = *_weights(network.norm), network.norm.eps

    def __call__(self, soft: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        shape, told = (self._width,), self._told(soft, ber)
        x = F.linear(self._received(soft), *self._embed)
        for number, (scale, shift, eps, weight, bias) in enumerate(self._blocks):
            h = torch.layer_norm(x, shape, scale, shift, eps)
            if told is not None:
                h = torch.addcmul(told[2 * number + 1], h, told[2 * number])
            x = x + F.linear(F.gelu(h), weight, bias)
        return self._answer(torch.layer_norm(x, shape, *self._norm))


class FlatConvolutional(_Flat):
    """Of a network with a grid, on (B, positions, channels). Norms are part of the convolution before them, or of the scale and
    shift behind them."""

    def __init__(self, network: EdgeNetwork):
        norms = [_affine(block.norm) for block in network.blocks]
        films = [_behind(norm, _film(block.film)) for norm, block in zip(norms, network.blocks)] if network.config.aware else ()
        super().__init__(network, films)
        grid = network.config.grid
        self._embed = _Convolution(network.embed, grid)
        self._blocks = [
            (*norm, _Convolution(block.first, grid, _affine(block.middle_norm)), _Convolution(block.second, grid))
            for norm, block in zip(norms, network.blocks)
        ]
        self._norm = _affine(network.norm)
        self._unsent = network.unsent

    def __call__(self, soft: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        told = self._told(soft, ber)
        symbols = F.pad(self._received(soft), (0, self._unsent))
        x = self._embed(symbols.view(len(symbols), -1, self._embed.positions).transpose(1, 2))
        for number, (scale, shift, first, second) in enumerate(self._blocks):
            if told is not None:
                scale, shift = told[2 * number][:, None], told[2 * number + 1][:, None]
            h = F.relu_(torch.addcmul(shift, x, scale))
            x = x + second(F.relu_(first(h)))
        scale, shift = self._norm
        return self._answer(F.relu_(torch.addcmul(shift, x, scale)).mean(1))


class _Convolution:
    """3x3 with zeros around the grid, and the norm behind it: (B, positions, channels) to the same."""

    def __init__(self, layer: nn.Conv2d, grid: Sequence[int], norm: Weights | None = None):
        scale, shift = norm or (torch.ones(layer.out_channels), torch.zeros(layer.out_channels))
        # One memory: rows of a matrix, and what PyTorch calls channels last.
        self._rows = (layer.weight.detach() * scale[:, None, None, None]).permute(0, 2, 3, 1).flatten(1).contiguous()
        self._weight = self._rows.view(layer.out_channels, 3, 3, layer.in_channels).permute(0, 3, 1, 2)
        self._bias = shift if layer.bias is None else layer.bias.detach() * scale + shift
        self._grid = rows, columns = tuple(grid)
        self.positions = rows * columns
        numbered = F.pad(torch.arange(self.positions).view(grid), (1, 1, 1, 1), value=self.positions)
        self._neighbours = numbered.unfold(0, 3, 1).unfold(1, 3, 1).flatten()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        count, positions, channels = x.shape
        if count > FEW:
            planes = x.reshape(count, *self._grid, channels).permute(0, 3, 1, 2)
            return F.conv2d(planes, self._weight, self._bias, padding=1).permute(0, 2, 3, 1).reshape(count, positions, -1)
        around = F.pad(x, (0, 0, 0, 1)).index_select(1, self._neighbours)  # the zeros are one position more
        return F.linear(around.view(count * positions, -1), self._rows, self._bias).view(count, positions, -1)


def _weights(layer: nn.Linear | nn.LayerNorm) -> Weights:
    return layer.weight.detach(), layer.bias.detach()


def _affine(norm: nn.BatchNorm2d) -> Weights:
    """Scale and shift that it comes to in evaluation."""
    scale = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias.detach() - norm.running_mean * scale


def _film(layer: nn.Linear) -> Weights:
    """Scale above shift; the 1 of 1 + scale is part of the bias."""
    weight, bias = _weights(layer)
    return weight, bias + torch.tensor([1.0, 0.0]).repeat_interleave(len(bias) // 2)


def _behind(norm: Weights, film: Weights) -> Weights:
    """The film of ``scale * x + shift``, as one of x."""
    (scale, shift), (weight, bias) = norm, film
    scaled, shifted = torch.cat([weight, bias[:, None]], dim=1).chunk(2)
    both = torch.cat([scaled * scale[:, None], scaled * shift[:, None] + shifted])
    return both[:, :-1].contiguous(), both[:, -1].contiguous()
