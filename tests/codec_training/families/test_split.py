"""The other families that cut a network in two: their parts, and a whole training of each."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from codec_training import train
from codec_training.config import CONFIGS, load_config
from codec_training.datasets import Dataset, Split
from codec_training.families import split
from codec_training.families.split_stages import count_macs
from semantic_codec.bundle import find_bundle, load_bundle, load_recording
from semantic_codec.errors import BundleError, ConfigError
from semantic_codec.nn.aecnn import Attended, ChannelSelection
from semantic_codec.nn.centers import UniformLevels
from semantic_codec.nn.families import load_edge_network, load_reference_encoder
from semantic_codec.nn.gdn import GDN
from semantic_codec.nn.split_codec import build
from tests.codec_training.families.test_semanticnn import images  # noqa: F401  a fixture

SMALL = {
    "adjscc": ("levels = [12]", "widths = [8, 8, 8, 2]"),
    "bottlenetpp": ("levels = [6]", "latent_channels = 1\nstride = 4"),
    "deepcod": ("levels = [12]", "latent_channels = 2\ndecoder_width = 8\nblocks = 1"),
    "aecnn": ("levels = [30]", "cut = 2\nsent_channels = 2\ndecoder_width = 8"),
}
CONFIG = """
[codec]
name = "tiny"
codec_id = 11
dataset = "folder:{folder}"
family = "{family}"
{levels}
[edge]
width = 0.25
{edge}
[training]
base_epochs = 1
task_epochs = 1
batch = 32
views = 2
margin = 1
mirror = false
validation = 48
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", SMALL)
def test_each_trains_exports_and_answers_by_the_same_commands(images, tmp_path, family):  # noqa: F811
    levels, edge = SMALL[family]
    path = tmp_path / "tiny.toml"
    extra = {"adjscc": "autoencoder_epochs = 1\n", "bottlenetpp": "joint_epochs = 1\n", "aecnn": "attention_epochs = 1\njoint_epochs = 1\n"}
    path.write_text(CONFIG.format(folder=images, family=family, levels=levels, edge=edge) + extra.get(family, ""))
    assert train.main([str(path), "--runs", str(tmp_path), "--threads", "1"]) == 0
    bundle = load_bundle(tmp_path / "tiny" / "bundles" / "tiny" / "1")
    assert bundle.manifest.family == family and not bundle.runs_on_devices
    assert len(load_recording(bundle).labels) == 72 and len(bundle.manifest.accuracy) == 7
    if family == "aecnn":
        counts = np.array(bundle.manifest.training["symbol_counts"])
        assert counts.shape == (2, 8) and counts.sum() == 2 * 15 * bundle.manifest.training["train_images"]
        assert load_reference_encoder(bundle).encoder.chosen.tolist() != [0, 1]


@pytest.mark.parametrize("name", [f"cifar100_{family}_mobilenet" for family in SMALL])
@pytest.mark.parametrize("size", [(32, 32), (20, 12)], ids=str)
def test_any_image_size_is_restored_to_its_features(name, size):
    config = load_config(name)
    _, device, edge = build(*size, 100, "label", config.edge)
    shown = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    ber = torch.tensor([0.0, 0.1])
    latents = device.eval()(shown)
    features = device.head(split.pixels(shown))
    restored = edge.eval().restored(latents.flatten(1), ber)
    assert restored.shape == features.shape and edge(torch.ones(2, math.prod(edge.latent_shape) * config.edge.bits), ber)["label"].shape == (2, 100)
    if size == (32, 32):
        assert config.codec.levels == (math.prod(edge.latent_shape),)
    told, other = (edge.restored(latents.flatten(1), torch.full((2,), one)) for one in (0.0, 0.2))
    assert torch.equal(told, other) != config.edge.aware


def test_uniform_levels_round_and_pass_the_gradient():
    levels = UniformLevels(8)
    latents = torch.tensor([[0.0, 0.5, 1.0, 0.251]], requires_grad=True)
    found, sent, _ = levels.quantize(latents)
    assert found.tolist() == [[0, 128, 255, 64]]
    sent.sum().backward()
    assert latents.grad.tolist() == [[1, 1, 1, 1]]
    assert torch.allclose(levels.received(levels.signs(found), posterior=False), sent)
    assert torch.allclose(levels.received(levels.signs(found), posterior=True), sent)


def test_the_channels_that_matter_most_are_sent():
    torch.manual_seed(0)
    selection, features = ChannelSelection(6, 2), torch.rand(5, 6, 3, 4)
    with torch.no_grad():
        selection.gate[-1].bias.copy_(torch.tensor([-1.0, 5.0, 0.0, -2.0, 4.0, 1.0]))
    selection.choose(features)
    assert selection.chosen.tolist() == [1, 4]
    sent, changed = selection.eval()(features), features.clone()
    assert sent.shape == (5, 2, 3, 4) and 0 <= sent.min() and sent.max() <= 1
    changed[:, 4, 0, 0] += 0.1
    assert not torch.equal(selection(changed), sent)
    plain = Attended(torch.nn.Identity(), selection, torch.nn.Identity())(features)
    assert torch.equal(plain, features * selection.importance(features)[:, :, None, None])


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("aecnn", "cut = 4", "cut = 18", "cut is 18; allowed: 0 to 17 of its blocks"),
        ("aecnn", "sent_channels = 12", "sent_channels = 25", "sent_channels is 25; allowed: 1 to 24"),
        ("deepcod", "batch = 128", "batch = 128\nattention_epochs = 1", "attention_epochs is 1; allowed: 0"),
    ],
)
def test_what_does_not_fit_the_base_is_refused(tmp_path, name, old, new, message):
    path = tmp_path / "codec.toml"
    path.write_text((CONFIGS / f"cifar100_{name}_mobilenet.toml").read_text().replace(old, new))
    shown = Split(np.zeros((1, 32, 32, 3), np.uint8), np.zeros(1, np.int64))
    with pytest.raises(ConfigError, match=message):
        split.check_fit(load_config(str(path)), Dataset("none", tuple("abc"), shown, shown))


def test_a_family_that_this_node_does_not_know_is_refused(tmp_path):
    bundle = find_bundle("digits")
    with pytest.raises(BundleError, match="of the family 'strong'; allowed: weaklink, semanticnn"):
        load_edge_network(replace(bundle, manifest=replace(bundle.manifest, family="strong")))


def test_depthwise_convolutions_count_as_any_others():
    class Layer(torch.nn.Conv2d):
        pass

    def device(kind):
        return torch.nn.Sequential(Moved(), torch.nn.Conv2d(3, 8, 1), kind(8, 8, 3, padding=1, groups=8))

    assert count_macs(device(Layer), 6, 5) == count_macs(device(torch.nn.Conv2d), 6, 5) == 6 * 5 * (3 * 8 + 9 * 8)


def test_a_divisive_norm_counts_what_mixes_its_channels():
    assert count_macs(torch.nn.Sequential(Moved(), GDN(3)), 6, 5) == 6 * 5 * 3 * 3


class Moved(torch.nn.Module):
    """Pixels uint8 (B, H, W, 3) as the layers behind it take them."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.permute(0, 3, 1, 2).float()
