from __future__ import annotations

import pytest
import torch

from edge_server.runtimes import load_network
from edge_server.runtimes.flat import FlatNetwork
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.nn.edge import EdgeConfig, EdgeNetwork


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("blocks", [0, 3])
def test_it_is_the_network_that_it_was_made_of(aware: bool, bits: int, blocks: int):
    torch.manual_seed(1)
    network = EdgeNetwork(48, {"shape": 10, "colour": 3}, EdgeConfig(width=32, blocks=blocks, condition=8, dropout=0.5, aware=aware, bits=bits)).eval()
    for weights in network.parameters():
        weights.data += 0.3 * torch.randn_like(weights)
    soft, ber = torch.randn(20, 48).clamp(-1, 1), torch.rand(20) / 2
    soft[:, 30:] *= torch.randint(0, 2, (20, 1))
    with torch.inference_mode():
        expected, found = network(soft, ber), FlatNetwork(network)(soft, ber)
    assert list(found) == list(expected)
    for task in expected:
        torch.testing.assert_close(found[task], expected[task], atol=1e-4, rtol=1e-4)


def test_it_is_chosen_for_networks_of_linear_layers(bundle: Bundle):
    assert isinstance(load_network("auto", bundle, 1)._network, FlatNetwork)
    assert not isinstance(load_network("auto", find_bundle("cifar10"), 1)._network, FlatNetwork)
