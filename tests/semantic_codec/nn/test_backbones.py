"""The bases' depthwise convolutions answer and learn like torch's own on any map."""

import pytest
import torch
from torch import nn

from semantic_codec.nn.backbones import DepthwiseConv2d, make_backbone


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (2, 3), (5, 4)], ids=str)
def test_a_depthwise_convolution_has_torch_s_outputs_and_gradients(size, stride):
    torch.manual_seed(0)
    theirs = nn.Conv2d(6, 6, 3, stride, padding=1, groups=6)
    ours = DepthwiseConv2d(6, 6, 3, stride, padding=1, groups=6)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 6, *size, requires_grad=True)
    found, expected = (_with_gradients(layer, x) for layer in (ours, theirs))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_all_depthwise_convolutions_of_a_base_are_these_and_weights_keep_their_names():
    base = make_backbone("mobilenet_v2", 10, 0.25)
    depthwise = [layer for layer in base.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert len(depthwise) == 17 and all(isinstance(layer, DepthwiseConv2d) for layer in depthwise)
    assert "features.17.conv.1.0.weight" in base.state_dict()


def _with_gradients(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    y = layer(x)
    return [y, *torch.autograd.grad(y.pow(2).sum(), [x, *layer.parameters()])]
