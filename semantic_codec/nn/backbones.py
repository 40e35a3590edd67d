"""Torchvision's networks, cut in two where a device's part ends; for any image size and number of classes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.errors import ConfigError
from semantic_codec.nn.torchvision_import import torchvision

BACKBONES = ("resnet50", "mobilenet_v2")
DENSE = ("resnet50",)
"""Those without depthwise convolutions."""


class DepthwiseConv2d(nn.Conv2d):
    """On maps smaller than its kernel, pads in a step of its own while it learns: oneDNN computes the weights' gradient of such a
    convolution with padding inside tens of times slower."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = min(x.shape[2:]) < self.kernel_size[0]
        if not (small and self.weight.requires_grad and torch.is_grad_enabled()):
            return super().forward(x)
        (rows, columns) = self.padding
        x = F.pad(x, (columns, columns, rows, rows))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def make_backbone(name: str, classes: int, width: float = 1.0) -> nn.Module:
    """Torchvision's own module with fresh weights; ``width`` is MobileNetV2's multiplier."""
    if name == "resnet50" and width == 1.0:
        return torchvision.models.resnet50(num_classes=classes)
    if name == "mobilenet_v2":
        network = torchvision.models.mobilenet_v2(num_classes=classes, width_mult=width)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                layer.__class__ = DepthwiseConv2d  # torchvision has no place to give it
        return network
    raise ConfigError(
        f"backbone is {name!r} of width {width:g}", allowed=f"{' or '.join(BACKBONES)}, resnet50 of width 1 only",
        fix="correct [edge] backbone and width",
    )  # fmt: skip


def split(backbone: nn.Module, cut: int = 0) -> tuple[nn.Module, nn.Module]:
    """(head, tail), sharing the backbone's parameters: ResNet behind its max pooling, MobileNetV2 behind its first convolution,
    or behind ``cut`` more of ResNet's four stages or MobileNetV2's blocks."""
    if hasattr(backbone, "maxpool"):
        one = backbone
        first = [one.conv1, one.bn1, one.relu, one.maxpool]
        blocks, last = [one.layer1, one.layer2, one.layer3, one.layer4], [one.avgpool, nn.Flatten(), one.fc]
    else:
        first, blocks = list(backbone.features[:1]), list(backbone.features[1:])
        last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), backbone.classifier]
    if not 0 <= cut < len(blocks):
        raise ConfigError(f"[edge] cut is {cut}", allowed=f"0 to {len(blocks) - 1} of its blocks", fix="leave blocks to the edge")
    return _chain([*first, *blocks[:cut]]), nn.Sequential(*blocks[cut:], *last)


def _chain(layers: list[nn.Module]) -> nn.Module:
    """One layer keeps its names in a state dict."""
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)
