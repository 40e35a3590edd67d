"""The edge's half: a BER-conditioned decoder and the tails.

    soft bits (B, n) -> embedding -> residual blocks, each scaled and shifted by what the channel said -> one head per task

The blocks are linear layers, or 3x3 convolutions where the symbols lie on a grid that is worth keeping.

The channel enters twice: each bit as its posterior mean (exact for equiprobable bits), and BER and received share
as feature-wise scale and shift (FiLM; Perez et al., arXiv 1709.07871).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.bundle import Manifest
from semantic_codec.nn.centers import Centers


@dataclass(frozen=True)
class EdgeConfig:
    """``aware`` False gives the blind twin: the same network, told neither the BER nor the received share.

    ``grid``: rows and columns of one plane of symbols, for convolutions; empty for linear layers on all bits at once.
    ``posterior`` False: bits, or the centers of received indices, enter as they arrived, not as posterior means.
    ``bits`` per symbol; above 1, a symbol enters as its learned center. The last ``repeated`` symbols are the first ones again.
    """

    grid: tuple[int, ...] = ()
    width: int = 768
    blocks: int = 3
    condition: int = 64
    dropout: float = 0.0
    aware: bool = True
    posterior: bool = True
    bits: int = 1
    repeated: int = 0


class LinearBlock(nn.Module):
    """``x + Linear(GELU(scale * norm(x) + shift))`` on (B, width), scale and shift from the channel's condition."""

    def __init__(self, config: EdgeConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.film = _film(config)
        self.linear = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        h = self.norm(x)
        if self.film is not None:
            scale, shift = self.film(condition).chunk(2, dim=1)
            h = h * (1 + scale) + shift
        return x + self.linear(self.dropout(F.gelu(h)))


class ConvBlock(nn.Module):
    """The same on (B, width, rows, columns): norm, scale and shift, ReLU, convolution, norm, ReLU, convolution.

    A pre-activation residual block (He et al., arXiv 1603.05027).
    """

    def __init__(self, config: EdgeConfig):
        super().__init__()
        self.norm = nn.BatchNorm2d(config.width)
        self.film = _film(config)
        self.first = nn.Conv2d(config.width, config.width, 3, padding=1, bias=False)
        self.middle_norm = nn.BatchNorm2d(config.width)
        self.dropout = nn.Dropout2d(config.dropout) if config.dropout else nn.Identity()
        self.second = nn.Conv2d(config.width, config.width, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        h = self.norm(x)
        if self.film is not None:
            scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        h = F.relu(self.middle_norm(self.first(F.relu(h))))
        return x + self.second(self.dropout(h))


def _signs(soft: torch.Tensor) -> torch.Tensor:
    """-1, 0 and 1; where an encoder learns through them, with the gradient of ``soft`` (straight-through; arXiv 1308.3432)."""
    hard = torch.sign(soft)
    return soft + (hard - soft).detach() if soft.requires_grad else hard


def _film(config: EdgeConfig) -> nn.Linear | None:
    if not config.aware:
        return None
    film = nn.Linear(config.condition, 2 * config.width)
    nn.init.zeros_(film.weight)
    nn.init.zeros_(film.bias)
    return film


class EdgeNetwork(nn.Module):
    """(soft float (B, n), ber float (B,)) -> {task: logits float (B, classes)}.

    ``soft`` is 0 where a bit was erased or lies beyond the prefix.
    """

    def __init__(self, bits: int, tasks: dict[str, int], config: EdgeConfig):
        super().__init__()
        self.config = config
        self.centers = Centers(config.bits) if config.bits > 1 else None
        symbols = bits // config.bits - config.repeated
        self.condition = (
            nn.Sequential(nn.Linear(3, config.condition), nn.GELU(), nn.Linear(config.condition, config.condition), nn.GELU())
            if config.aware
            else None
        )
        if config.grid:
            positions = math.prod(config.grid)
            self.embed = nn.Conv2d(-(-symbols // positions), config.width, 3, padding=1)
            self.unsent = -symbols % positions  # symbols of the last plane that no level has room for
            self.blocks = nn.ModuleList(ConvBlock(config) for _ in range(config.blocks))
            self.norm = nn.BatchNorm2d(config.width)
        else:
            self.embed = nn.Linear(symbols, config.width)
            self.blocks = nn.ModuleList(LinearBlock(config) for _ in range(config.blocks))
            self.norm = nn.LayerNorm(config.width)
        self.heads = nn.ModuleDict({task: nn.Linear(config.width, classes) for task, classes in tasks.items()})

    def forward(self, soft: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.answer(self.received(soft), received_share(soft), ber)

    def received(self, soft: torch.Tensor) -> torch.Tensor:
        """What arrived, as one value for each symbol: float (B, N)."""
        return symbol_values(soft, self.config, self.centers)

    def answer(self, symbols: torch.Tensor, share: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of ``symbols`` float (B, N), of whose bits a ``share`` (B,) arrived."""
        condition = None
        if self.condition is not None:
            condition = self.condition(channel_features(ber, share))
        x = symbols
        if self.config.grid:
            x = F.pad(x, (0, self.unsent)) if self.unsent else x
            x = x.unflatten(1, (-1, *self.config.grid)).contiguous(memory_format=torch.channels_last)
        x = self.embed(x)
        for block in self.blocks:
            x = block(x, condition)
        x = self.norm(x)
        if self.config.grid:
            x = F.relu(x).mean((2, 3))
        return {task: head(x) for task, head in self.heads.items()}


def symbol_values(soft: torch.Tensor, config: EdgeConfig, centers: Centers | None) -> torch.Tensor:
    """What arrived, float (B, n), as one value for each symbol: float (B, N)."""
    told = config.aware and config.posterior
    soft = soft if told else _signs(soft)
    if config.repeated:
        soft = combined(soft, config.repeated, told)
    return soft if centers is None else centers.received(soft, told)


def combined(soft: torch.Tensor, repeated: int, told: bool) -> torch.Tensor:
    """What two arrivals of the same bits say: float (B, n) -> (B, n - repeated), the last ``repeated`` being the first again.

    ``told``: ``soft`` are posterior means a and b of equiprobable bits, tanh of half their log-likelihood ratios; those add up,
    so the posterior mean given both is ``(a + b) / (1 + ab)``. Else they are signs, and give their mean.
    """
    first, again = soft[:, :repeated], soft[:, soft.shape[1] - repeated :]
    # No gradient below the line: that of two arrivals that are sure and agree would be 0.
    both = (first + again) / ((1 + first * again).clamp_min(1e-6).detach() if told else 2)
    return torch.cat([both, soft[:, repeated : soft.shape[1] - repeated]], dim=1)


def received_share(soft: torch.Tensor) -> torch.Tensor:
    """Of the bits, float (B,)."""
    return (soft != 0).to(soft.dtype).mean(1)


def channel_features(ber: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """What the channel said, as the network is told: float (B, 3)."""
    return torch.stack([torch.log10(ber + 1e-3) + 2, ber * 4, share], dim=1)


def edge_network(manifest: Manifest) -> EdgeNetwork:
    """A fresh network in the shapes of a bundle."""
    tasks = {task.name: len(task.classes) for task in manifest.tasks}
    return EdgeNetwork(manifest.bits, tasks, EdgeConfig(**manifest.edge))
