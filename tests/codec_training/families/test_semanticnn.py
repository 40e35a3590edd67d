"""SemanticNN through the same commands as every codec, on images of another shape than anybody's data set."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from codec_training import evaluate, export, train
from codec_training.config import load_config
from codec_training.datasets import hold_out, load_dataset
from codec_training.families import semanticnn, split
from device_client.encoder import Encoder
from edge_server.engine import Engine, EngineRequest
from semantic_codec.bundle import load_bundle, load_recording
from semantic_codec.nn.semanticnn import FeatureEncoder
from semantic_codec.nn.split_codec import build
from semantic_codec.errors import BundleError, ConfigError, NotFound

CONFIG = """
[codec]
name = "tiny"
codec_id = 11
dataset = "folder:{folder}"
family = "semanticnn"
levels = [24]
[edge]
width = 0.25
widths = [8, 8, 8, 8]
posterior = {posterior}
[channel]
snr_db = [-6.0, 7.0]
[training]
recipe = "{recipe}"
base_epochs = {base_epochs}
autoencoder_epochs = 6
task_epochs = {task_epochs}
task_learning_rate = 4e-3
joint_epochs = {joint_epochs}
tail_epochs = {tail_epochs}
batch = 32
views = 2
margin = 1
mirror = false
validation = 48
consistency = {consistency}
"""
PAPER = {"recipe": "paper", "posterior": "false", "base_epochs": 12, "task_epochs": 10, "joint_epochs": 0, "tail_epochs": 0, "consistency": 0.0}
OURS = {"recipe": "ours", "posterior": "true", "base_epochs": 1, "task_epochs": 0, "joint_epochs": 3, "tail_epochs": 1, "consistency": 0.3}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three classes that a colour tells apart, 20 rows and 12 columns."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("red", "green", "blue")):
        for part in ("train", "test"):
            (folder / part / name).mkdir(parents=True)
        for index in range(120):
            picture = rng.integers(0, 120, (20, 12, 3))
            picture[..., number] += 120
            Image.fromarray(picture.astype(np.uint8)).save(folder / ("train" if index % 5 else "test") / name / f"{index}.png")
    return folder


def run(images, folder, settings) -> tuple[str, object]:
    path = folder / "tiny.toml"
    path.write_text(CONFIG.format(folder=images, **settings))
    assert train.main([str(path), "--runs", str(folder), "--threads", "1"]) == 0
    return path, load_bundle(folder / "tiny" / "bundles" / "tiny" / "1")


@pytest.fixture(scope="module")
def paper(images, tmp_path_factory):
    return run(images, tmp_path_factory.mktemp("paper"), PAPER)


@pytest.mark.slow
def test_the_paper_s_codec_learns_and_says_what_its_base_can(paper):
    _, bundle = paper
    manifest = bundle.manifest
    assert (manifest.family, manifest.bits_per_symbol, manifest.levels[0].payload_bytes) == ("semanticnn", 3, 9)
    assert manifest.training["base_accuracy_percent"] > 90
    accuracy = {row["ber"]: row["accuracy_percent"] for row in manifest.accuracy}
    assert accuracy[0.0] > 60  # three classes: guessing gives 33
    card = (bundle.folder / "card.md").read_text()
    assert "no device runs" in card and "uncompressed base" in card


@pytest.mark.slow
def test_recording_and_data_set_give_the_same_answers(paper, tmp_path, images):
    _, bundle = paper
    targets = [tmp_path / name for name in ("recording.json", "data_set.json")]
    common = [str(bundle.folder), "--ber", "0", "0.05", "--draws", "1", "--json"]
    evaluate.main([*common, str(targets[0]), "--recording"])
    evaluate.main([*common, str(targets[1]), "--data-set", f"folder:{images}"])
    first, second = (json.loads(target.read_text())["rows"] for target in targets)
    assert first == second and first[0]["images"] == 72


@pytest.mark.slow
def test_a_device_refuses_it_and_the_edge_answers(paper):
    _, bundle = paper
    with pytest.raises(BundleError, match="has no encoder.bin, only a reference encoder in floats"):
        Encoder.from_bundle(bundle)
    payload = load_recording(bundle).bitstreams[0].tobytes()
    request = EngineRequest("tiny", 0, 0, payload, 0.01, erased=((0, 6),))
    (answer,) = Engine([bundle]).infer([request])
    assert 0 < answer.tasks["label"][0][1] <= 1


@pytest.mark.slow
def test_an_export_that_is_too_large_says_how_large_and_is_the_same_bytes(paper, tmp_path, monkeypatch):
    path, bundle = paper
    monkeypatch.setattr(export, "MAX_BUNDLE_BYTES", 100_000)
    with pytest.raises(BundleError, match=r"has \d{6} bytes; allowed: at most 100000; .*evaluated where it lies"):
        export.main([str(path), "--runs", str(path.parent), "--bundles", str(tmp_path)])
    again = load_bundle(tmp_path / "tiny" / "1").manifest
    assert again.files == bundle.manifest.files and again.accuracy == bundle.manifest.accuracy


@pytest.mark.slow
def test_our_recipe_trains_the_base_on_and_the_tail_behind_it(images, tmp_path):
    path, bundle = run(images, tmp_path, OURS)
    config = load_config(str(path))
    dataset = hold_out(load_dataset(config.codec.dataset), config.training.validation)
    edge = semanticnn.load_run(tmp_path / "tiny", config, dataset).networks[""]
    before = torch.load(tmp_path / "tiny" / "base" / "checkpoint.pt", weights_only=True)["base"]
    after = edge.tail[-1][-1].weight
    assert not torch.equal(before["classifier.1.weight"], after)
    assert bundle.manifest.edge["posterior"] is True
    with pytest.raises(NotFound, match="holds 0 epochs"):
        semanticnn.load_run(tmp_path / "elsewhere", config, dataset)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("levels = [24]", "levels = [4, 24]", r"levels are \[4, 24\]; allowed: \[24\]"),
        ('recipe = "paper"', 'recipe = "hers"', "recipe is 'hers'"),
        ("consistency = 0.0", "consistency = 0.1", "the paper's recipe with {'consistency': 0.1}"),
        ("views = 2", 'views = 2\nindex_map = "grey"', "index_map is 'grey'"),
        ("views = 2", "views = 2\nsharpness = [1]", r"sharpness is \[1.0\]"),
        ("width = 0.25", 'backbone = "vgg16"', "backbone is 'vgg16'"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_before_training(images, tmp_path, old, new, message):
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG.format(folder=images, **PAPER).replace(old, new))
    config = load_config(str(path))
    with pytest.raises(ConfigError, match=message):
        semanticnn.check_fit(config, hold_out(load_dataset(config.codec.dataset), config.training.validation))


def test_pretrained_weights_fill_all_but_the_classifier(tmp_path):
    make = semanticnn.SemanticnnConfig(width=0.25)
    base, other = (build(20, 12, classes, "label", make)[0] for classes in (3, 5))
    torch.save(other.state_dict(), tmp_path / "weights.pth")
    split.load_weights(base, str(tmp_path / "weights.pth"))
    assert torch.equal(base.features[0][0].weight, other.features[0][0].weight)
    assert len(base.classifier[1].weight) == 3
    with pytest.raises(ConfigError, match="does not fit the base"):
        split.load_weights(build(20, 12, 3, "label", semanticnn.SemanticnnConfig())[0], str(tmp_path / "weights.pth"))
    with pytest.raises(NotFound, match="there is no file"):
        split.load_weights(base, str(tmp_path / "none.pth"))


def test_the_latents_of_every_image_have_unit_power():
    torch.manual_seed(0)
    latents = FeatureEncoder(8)(torch.randn(3, 8, 12, 8))
    assert (latents**2).mean((1, 2, 3)).tolist() == pytest.approx([1] * 3, rel=1e-4)
