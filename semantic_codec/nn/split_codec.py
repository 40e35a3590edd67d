"""Codecs that cut one of torchvision's networks in two: what all of them share.

    device   image -> first layers of the base -> encoder -> nearest center -> symbol
    edge     center of the received symbol, or posterior mean -> decoder -> features -> the rest of the base

A family is a :class:`SplitConfig` that makes its own encoder and decoder, and its own centers where it does not learn them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.bundle import Manifest
from semantic_codec.nn.backbones import make_backbone, split
from semantic_codec.nn.centers import Centers
from semantic_codec.nn.encoder import pixels


@dataclass(frozen=True)
class SplitConfig(ABC):
    """``bits`` per symbol, 3 for eight centers. ``cut`` is how many more of the base's blocks the device has than its first layers.

    ``posterior`` feeds the decoder with the mean center given what was received, the BER and the usage, instead of the
    center of the received index. ``aware`` False: the decoder is not told the BER, and gets the received center.
    """

    backbone: str = "mobilenet_v2"
    width: float = 0.75
    bits: int = 3
    posterior: bool = False
    aware: bool = True
    cut: int = 0

    def make_centers(self) -> Centers:
        return Centers(self.bits)

    @abstractmethod
    def make_encoder(self, channels: int) -> nn.Module:
        """Features (B, channels, rows, columns) -> latents (B, c, h, w), for any size."""

    @abstractmethod
    def make_decoder(self, latent_shape: tuple[int, int, int], feature_shape: tuple[int, int, int]) -> nn.Module:
        """(latents (B, *latent_shape), BER (B,)) -> features (B, *feature_shape)."""


def padded(features: torch.Tensor, stride: int) -> torch.Tensor:
    """Features (B, C, rows, columns) with zeros below and to the right, up to multiples of ``stride``."""
    below, right = (-size % stride for size in features.shape[2:])
    return F.pad(features, (0, right, 0, below))


class Device(nn.Module):
    """What the device computes, in floats."""

    def __init__(self, head: nn.Module, encoder: nn.Module, centers: Centers):
        super().__init__()
        self.head, self.encoder, self.centers = head, encoder, centers

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 3) -> latents (B, c, h, w)."""
        return self.encoder(self.head(pixels(images)))

    def symbols(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 3) -> uint8 (B, N), channel by channel."""
        return self.centers.index_map[self.centers.levels(self(images))].flatten(1).to(torch.uint8)


class SplitEdge(nn.Module):
    """(soft float (B, bits), ber float (B,)) -> {task: logits float (B, classes)}."""

    def __init__(self, latent_shape: tuple[int, int, int], feature_shape: tuple[int, int, int], centers: Centers,
                 tail: nn.Module, task: str, config: SplitConfig):  # fmt: skip
        super().__init__()
        self.config, self.task, self.latent_shape = config, task, latent_shape
        self.centers, self.tail = centers, tail
        self.decoder = config.make_decoder(latent_shape, feature_shape)

    def forward(self, soft: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.task: self.answer(self.received(soft), ber)}

    def received(self, soft: torch.Tensor) -> torch.Tensor:
        """What arrived, as latents (B, N)."""
        aware = self.config.aware
        return self.centers.received(soft if aware else torch.sign(soft), self.config.posterior and aware)

    def answer(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        """Latents (B, N) as received -> logits (B, classes)."""
        return self.tail(self.restored(latents, ber))

    def restored(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        """Latents (B, N) as received -> features (B, C, rows, columns)."""
        return self.decoder(latents.unflatten(1, self.latent_shape), ber)


def build(height: int, width: int, classes: int, task: str, config: SplitConfig) -> tuple[nn.Module, Device, SplitEdge]:
    """(base, device, edge) with fresh weights; device and edge share the base's two parts and the centers."""
    base = make_backbone(config.backbone, classes, config.width)
    head, tail = split(base, config.cut)
    centers = config.make_centers()
    with torch.no_grad():
        features = head.eval()(torch.zeros(1, 3, height, width))
        encoder = config.make_encoder(features.shape[1])
        latents = encoder.eval()(features)
    shapes = tuple(latents.shape[1:]), tuple(features.shape[1:])
    return base, Device(head, encoder, centers), SplitEdge(*shapes, centers, tail, task, config)


def builders(make: Callable[..., SplitConfig]) -> tuple[Callable[[Manifest], SplitEdge], Callable[[Manifest], Device]]:
    """``edge_network`` and ``reference_encoder`` of a family (nn/families.py), by its kind of configuration."""

    def of(manifest: Manifest) -> tuple[nn.Module, Device, SplitEdge]:
        (task,) = manifest.tasks
        config = make(**{key: tuple(value) if isinstance(value, list) else value for key, value in manifest.edge.items()})
        return build(manifest.height, manifest.width, len(task.classes), task.name, config)

    return lambda manifest: of(manifest)[2], lambda manifest: of(manifest)[1]
