"""The export reference: ``encoder.bin`` in PyTorch. Float32 convolutions are exact, every sum being below 2^24."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from semantic_codec.encoder_format import ADD_KEPT, DEPTHWISE, KEEP_INPUT, RELU, EncoderProgram, IntegerLayer


class IntegerReference(nn.Module):
    """uint8 (B, H, W, 3) -> symbols uint8 (B, N), the same bytes as every other implementation."""

    def __init__(self, program: EncoderProgram):
        super().__init__()
        self.program = program
        self.weights = [_as_conv_weight(layer) for layer in program.layers]

    @torch.inference_mode()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the last layer sees: int8 values as float (B, C, h, w)."""
        x = (images.float() - 128).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        kept = None
        for layer, weight in zip(self.program.layers[:-1], self.weights):
            if layer.shape.flags & KEEP_INPUT:
                kept = x
            x = self._requantize(_convolve(x, layer, weight), layer)
            if layer.shape.flags & ADD_KEPT:
                x = (x + kept).clamp(-128, 127)
        return x

    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        last = self.program.layers[-1]
        acc = _convolve(self.features(images), last, self.weights[-1])
        level = (acc[..., None] >= torch.from_numpy(last.thresholds.copy())[:, None, None, :]).sum(-1)
        return torch.from_numpy(last.index_map.copy())[level].flatten(1)

    @staticmethod
    def _requantize(acc: torch.Tensor, layer: IntegerLayer) -> torch.Tensor:
        multiplier, shift, bias = (
            torch.from_numpy(array.astype(np.int32))[:, None, None] for array in (layer.multiplier, layer.shift, layer.bias)
        )
        scaled = ((acc.int() + bias) * multiplier + (1 << (shift - 1))) >> shift
        return scaled.clamp(0 if layer.shape.flags & RELU else -128, 127).float()


def _convolve(x: torch.Tensor, layer: IntegerLayer, weight: torch.Tensor) -> torch.Tensor:
    shape = layer.shape
    groups = shape.inputs if shape.kind == DEPTHWISE else 1
    return F.conv2d(x, weight, None, shape.stride, shape.kernel // 2, groups=groups)


def _as_conv_weight(layer: IntegerLayer) -> torch.Tensor:
    weights = torch.from_numpy(layer.weights.astype(np.float32))
    return weights.permute(2, 0, 1)[:, None] if layer.shape.kind == DEPTHWISE else weights.permute(0, 3, 1, 2).contiguous()
