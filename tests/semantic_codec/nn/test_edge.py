import json
import shutil

import pytest
import torch

from semantic_codec.bundle import find_bundle, load_bundle
from semantic_codec.errors import BundleError
from semantic_codec.nn.edge import EdgeConfig, EdgeNetwork
from semantic_codec.nn.families import load_edge_network


GRIDS = pytest.mark.parametrize("grid", [(), (2, 3)], ids=["linear", "convolutional"])


@GRIDS
def test_logits_per_task_and_what_the_ber_changes(grid):
    network = EdgeNetwork(24, {"label": 5, "colour": 3}, EdgeConfig(grid=grid, width=16, blocks=1)).eval()
    torch.nn.init.normal_(network.blocks[0].film.weight)
    soft, ber = torch.randn(4, 24), torch.tensor([0.0, 0.01, 0.1, 0.5])
    logits = network(soft, ber)
    assert {task: tuple(values.shape) for task, values in logits.items()} == {"label": (4, 5), "colour": (4, 3)}
    assert not torch.allclose(network(soft, ber)["label"], network(soft, ber.flip(0))["label"])


@GRIDS
def test_the_blind_twin_is_deaf_to_the_ber(grid):
    network = EdgeNetwork(24, {"label": 5}, EdgeConfig(grid=grid, width=16, blocks=1, aware=False)).eval()
    signs = torch.where(torch.rand(4, 24) < 0.5, 1.0, -1.0)
    low, high = torch.full((4,), 0.001), torch.full((4,), 0.2)
    assert torch.equal(network(signs * 0.998, low)["label"], network(signs * 0.6, high)["label"])


def test_a_convolutional_network_sees_symbols_plane_by_plane():
    network = EdgeNetwork(24, {"label": 5}, EdgeConfig(grid=(2, 3), width=16, blocks=1)).eval()
    seen = []
    network.embed.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network(torch.arange(24.0)[None], torch.zeros(1))
    assert torch.equal(seen[0][0, 1], torch.arange(6.0, 12.0).view(2, 3))


def test_the_network_is_told_which_share_of_the_bits_arrived():
    network = EdgeNetwork(24, {"label": 5}, EdgeConfig(width=16, blocks=1)).eval()
    seen = []
    network.condition.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0][0, 2].item()))
    network(torch.tensor([[1.0] * 18 + [0.0] * 6]), torch.zeros(1))
    assert seen == [0.75]


def test_a_bundle_loads_and_one_with_other_shapes_is_refused(tmp_path):
    bundle = find_bundle("digits")
    assert load_edge_network(bundle)(torch.zeros(1, bundle.manifest.bits), torch.zeros(1))["label"].shape == (1, 10)
    copy = tmp_path / "digits" / "1"
    shutil.copytree(bundle.folder, copy)
    manifest = json.loads((copy / "bundle.json").read_text())
    for edge in ({**manifest["edge"], "width": 64}, {**manifest["edge"], "unheard_of": 1}):
        (copy / "bundle.json").write_text(json.dumps({**manifest, "edge": edge}))
        with pytest.raises(BundleError, match="does not fit the manifest"):
            load_edge_network(load_bundle(copy))


def test_an_encoder_learns_through_hard_bits():
    torch.manual_seed(0)
    network = EdgeNetwork(16, {"label": 3}, EdgeConfig(width=8, blocks=1, posterior=False))
    soft = (torch.randn(4, 16) * 0.5).requires_grad_()
    network.received(soft).backward(torch.ones(4, 16))
    assert torch.equal(soft.grad, torch.ones(4, 16))
    assert torch.allclose(network.received(soft), torch.sign(soft)) and torch.equal(network.received(soft.detach()), torch.sign(soft))
