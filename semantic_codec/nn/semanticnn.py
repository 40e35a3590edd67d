"""SemanticNN (Huang et al., arXiv 2511.11038), as its paper describes it.

    device   image -> first layers of the base -> 4x4 convolution of stride 4 -> GDN -> PReLU -> unit power -> nearest center
    edge     center of the received index -> 4 x (transposed convolution, inverse GDN, PReLU, channel attention)
             -> transposed convolution -> inverse GDN -> softplus -> the rest of the base

Widths and strides are those of its published code, whose slips are not: centers learn, bits are flipped, power does not
depend on the size of the latent, and the decoder's end is not bounded by 1, since the features that it restores are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.bundle import Manifest
from semantic_codec.nn.backbones import make_backbone, split
from semantic_codec.nn.centers import Centers
from semantic_codec.nn.encoder import pixels
from semantic_codec.nn.gdn import GDN

STRIDE = 4


@dataclass(frozen=True)
class SemanticnnConfig:
    """``bits`` per symbol, 3 for eight centers; ``widths`` of the decoder's blocks, of which the last two double the size.

    ``posterior`` feeds the decoder with the mean center given what was received, the BER and the usage, instead of the
    center of the received index. ``aware`` False: the decoder is not told the BER, and gets the received center.
    """

    backbone: str = "mobilenet_v2"
    width: float = 0.75
    bits: int = 3
    widths: tuple[int, ...] = (64, 96, 128, 96)
    posterior: bool = False
    aware: bool = True


class ChannelAttention(nn.Module):
    """Channels of (B, C, h, w) scaled by what they hold on average and by the BER (Xu et al., ADJSCC, arXiv 2012.00533)."""

    def __init__(self, channels: int):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(channels + 1, channels), nn.ReLU(), nn.Linear(channels, channels), nn.Sigmoid())

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return x * self.gate(torch.cat([x.mean((2, 3)), condition], dim=1))[:, :, None, None]


class DecoderBlock(nn.Module):
    """Transposed 3x3 convolution, inverse GDN, PReLU, channel attention."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=1, output_padding=stride - 1)
        self.norm, self.bend = GDN(outputs, inverse=True), nn.PReLU()
        self.attention = ChannelAttention(outputs)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.attention(self.bend(self.norm(self.conv(x))), condition)


class FeatureDecoder(nn.Module):
    """(B, latent channels, h, w) and BER (B,) -> features (B, C, rows, columns), which are at or above 0 behind a ReLU."""

    def __init__(self, latent_channels: int, feature_shape: tuple[int, int, int], config: SemanticnnConfig):
        super().__init__()
        channels, self.rows, self.columns = feature_shape
        sizes = (latent_channels, *config.widths)
        strides = [1] * (len(config.widths) - 2) + [2, 2]
        self.aware = config.aware
        self.blocks = nn.ModuleList(DecoderBlock(*pair, stride) for *pair, stride in zip(sizes, sizes[1:], strides))
        self.last = nn.ConvTranspose2d(sizes[-1], channels, 3, padding=1)
        self.norm = GDN(channels, inverse=True)

    def forward(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        condition = (torch.log10(ber + 1e-3) + 2)[:, None] * self.aware
        x = latents
        for block in self.blocks:
            x = block(x, condition)
        return F.softplus(self.norm(self.last(x)))[:, :, : self.rows, : self.columns]


class FeatureEncoder(nn.Module):
    """Features (B, C, rows, columns) -> latents (B, C / 2, rows / 4, columns / 4), each image's of mean square 1."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels // 2, STRIDE, STRIDE)
        self.norm, self.bend = GDN(channels // 2), nn.PReLU()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        below, right = (-size % STRIDE for size in features.shape[2:])
        x = self.bend(self.norm(self.conv(F.pad(features, (0, right, 0, below)))))
        return x * torch.rsqrt((x**2).mean((1, 2, 3), keepdim=True) + 1e-8)


class Device(nn.Module):
    """What the device computes, in floats."""

    def __init__(self, head: nn.Module, channels: int, centers: Centers):
        super().__init__()
        self.head, self.encoder, self.centers = head, FeatureEncoder(channels), centers

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 3) -> latents (B, c, h, w)."""
        return self.encoder(self.head(pixels(images)))

    def symbols(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 3) -> uint8 (B, N), channel by channel."""
        return self.centers.index_map[self.centers.levels(self(images))].flatten(1).to(torch.uint8)


class SemanticnnEdge(nn.Module):
    """(soft float (B, bits), ber float (B,)) -> {task: logits float (B, classes)}."""

    def __init__(self, latent_shape: tuple[int, int, int], feature_shape: tuple[int, int, int], centers: Centers,
                 tail: nn.Module, task: str, config: SemanticnnConfig):  # fmt: skip
        super().__init__()
        self.config, self.task, self.latent_shape = config, task, latent_shape
        self.centers, self.tail = centers, tail
        self.decoder = FeatureDecoder(latent_shape[0], feature_shape, config)

    def forward(self, soft: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.task: self.answer(self.received(soft), ber)}

    def received(self, soft: torch.Tensor) -> torch.Tensor:
        """What arrived, as latents (B, N)."""
        aware = self.config.aware
        return self.centers.received(soft if aware else torch.sign(soft), self.config.posterior and aware)

    def answer(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        """Latents (B, N) as received -> logits (B, classes)."""
        return self.tail(self.decoder(latents.unflatten(1, self.latent_shape), ber))


def build(height: int, width: int, classes: int, task: str, config: SemanticnnConfig) -> tuple[nn.Module, Device, SemanticnnEdge]:
    """(base, device, edge) with fresh weights; device and edge share the base's two parts and the centers."""
    base = make_backbone(config.backbone, classes, config.width)
    head, tail = split(base)
    centers = Centers(config.bits)
    with torch.no_grad():
        shape = tuple(head.eval()(torch.zeros(1, 3, height, width)).shape[1:])
    latent = (shape[0] // 2, -(-shape[1] // STRIDE), -(-shape[2] // STRIDE))
    return base, Device(head, shape[0], centers), SemanticnnEdge(latent, shape, centers, tail, task, config)


def edge_network(manifest: Manifest) -> SemanticnnEdge:
    """A fresh network in the shapes of a bundle."""
    return _of(manifest)[2]


def reference_encoder(manifest: Manifest) -> Device:
    """A fresh device half in the shapes of a bundle."""
    return _of(manifest)[1]


def _of(manifest: Manifest) -> tuple[nn.Module, Device, SemanticnnEdge]:
    (task,) = manifest.tasks
    config = SemanticnnConfig(**{**manifest.edge, "widths": tuple(manifest.edge["widths"])})
    return build(manifest.height, manifest.width, len(task.classes), task.name, config)
