"""Networks whose weights stand still, made fast where a loss contains their derivative.

Their batch norms are folded into their convolutions. Torch's second derivative of a convolution goes through a grouped one
group by group, thousands of small convolutions in MobileNetV2; here the first derivative is a transposed convolution of its own,
whose derivative is an ordinary one.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


def frozen(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode: the same outputs but for rounding, and no gradient for weights.

    A batch norm must stand right behind its convolution among the children of their module, as in torchvision's networks.
    """
    still = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(still.modules()):
        children = list(parent.named_children())
        for (name, module), (following, norm) in zip(children, [*children[1:], ("", None)]):
            if isinstance(module, nn.Conv2d):
                if isinstance(norm, nn.BatchNorm2d):
                    module = fuse_conv_bn_eval(module, norm)
                    setattr(parent, following, nn.Identity())
                setattr(parent, name, FrozenConv(module))
    return still.requires_grad_(False).to(memory_format=torch.channels_last)


class FrozenConv(nn.Module):
    """A convolution whose derivatives of any order, with respect to its input, are convolutions."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = _Conv.apply(x, self.weight, self.stride, self.padding, self.groups)
        return y if self.bias is None else y + self.bias[:, None, None]


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, stride, padding, groups: int) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.stride, ctx.padding, ctx.groups = x.shape[2:], stride, padding, groups
        return F.conv2d(x, weight, None, stride, padding, groups=groups)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        (weight,) = ctx.saved_tensors
        # What the stride left over: rows and columns of the input that no step of it reaches.
        spare = [
            size - ((out - 1) * step - 2 * pad + kernel)
            for size, out, step, pad, kernel in zip(ctx.size, gradient.shape[2:], ctx.stride, ctx.padding, weight.shape[2:])
        ]
        return F.conv_transpose2d(gradient, weight, None, ctx.stride, ctx.padding, spare, ctx.groups), None, None, None, None
