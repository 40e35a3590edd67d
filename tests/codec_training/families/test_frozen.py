"""A frozen network answers and differentiates like the one it was made of."""

import pytest
import torch

from codec_training.families.frozen import FrozenConv, frozen
from semantic_codec.nn.backbones import make_backbone, split


def derivatives(network, x):
    """The output, its gradient, and the gradient of a function of that gradient."""
    x = x.clone().requires_grad_(True)
    y = network(x)
    (first,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
    return y.detach(), first.detach(), torch.autograd.grad(first.pow(3).sum(), x)[0]


@pytest.mark.parametrize(("kernel", "stride", "padding", "groups"), [(3, 1, 1, 6), (3, 2, 1, 6), (3, 2, 1, 1), (1, 2, 0, 1), (5, 3, 2, 2)])
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_a_convolution_has_the_same_derivatives(kernel, stride, padding, groups, size):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 12, kernel, stride, padding, groups=groups)
    x = torch.randn(2, 6, *size)
    for found, expected in zip(derivatives(FrozenConv(conv), x), derivatives(conv, x), strict=True):
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_a_tail_of_each_base_answers_alike_and_keeps_its_own_weights(name):
    torch.manual_seed(0)
    head, tail = split(make_backbone(name, 10, 0.25 if name == "mobilenet_v2" else 1.0))
    for norm in (module for module in tail.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.normal_(norm.running_mean, 0, 0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    features = head.eval()(torch.randn(2, 3, 20, 12))
    still = frozen(tail)
    for found, expected in zip(derivatives(still, features), derivatives(tail.eval(), features), strict=True):
        assert torch.allclose(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))
    assert all(parameter.requires_grad for parameter in tail.parameters())
    assert not any(parameter.requires_grad for parameter in still.parameters())
