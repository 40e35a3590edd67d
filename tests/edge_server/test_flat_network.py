from __future__ import annotations

import pytest
import torch
from torch import nn

from edge_server.runtimes import load_network
from edge_server.runtimes.eager import Flat
from edge_server.runtimes.flat import FEW, FlatConvolutional, FlatLinear, flatten
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.nn.edge import EdgeConfig, EdgeNetwork
from semantic_codec.nn.precision import multiplies_bfloat16

COUNT = 2 * FEW


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("blocks", [0, 3])
@pytest.mark.parametrize("grid", [(), (3, 4), (5, 2)], ids=["linear", "grid", "with symbols unsent"])
def test_it_is_the_network_that_it_was_made_of(aware: bool, bits: int, blocks: int, grid: tuple[int, ...]):
    torch.manual_seed(1)
    config = EdgeConfig(grid=grid, width=32, blocks=blocks, condition=8, dropout=0.5, aware=aware, bits=bits)
    network = EdgeNetwork(144, {"shape": 10, "colour": 3}, config).eval()
    for weights in network.parameters():
        weights.data += 0.3 * torch.randn_like(weights)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    soft, ber = torch.randn(COUNT, 144).clamp(-1, 1), torch.rand(COUNT) / 2
    soft[:, 90:] *= torch.randint(0, 2, (COUNT, 1))
    with torch.inference_mode():
        expected, flat = network(soft, ber), flatten(network)
        for count in (1, FEW, COUNT):
            found = flat(soft[:count], ber[:count])
            assert list(found) == list(expected)
            for task in expected:
                torch.testing.assert_close(found[task], expected[task][:count], atol=1e-3, rtol=1e-4)


def test_it_is_chosen_where_float32_is(bundle: Bundle):
    assert isinstance(load_network("auto", bundle, 1)._network, FlatLinear)
    chosen = load_network("auto", find_bundle("cifar10"), 1)
    assert isinstance(chosen, Flat) != multiplies_bfloat16()
    assert isinstance(Flat(find_bundle("cifar10"), 1)._network, FlatConvolutional)
