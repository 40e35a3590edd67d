"""Variants of the family ``weaklink`` through whole trainings: learned centers in integers, and what ablations switch off."""

import numpy as np
import pytest
import torch

from codec_training import train
from codec_training.config import load_config
from codec_training.datasets import load_dataset
from codec_training.families import weaklink
from codec_training.families.weaklink_stages import CodecLoss, Sent
from codec_training.views import Batch
from semantic_codec.bundle import load_bundle, load_recording
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import ConfigError
from semantic_codec.nn.edge import EdgeConfig, EdgeNetwork
from semantic_codec.nn.quantizer import symbol_signs, transmitted
from tests.codec_training.test_config import GOOD
from tests.codec_training.test_train import TRAINING

CENTERS = (
    (GOOD + TRAINING)
    .replace("levels = [16, 64]", "levels = [8, 32]")
    .replace("latent_channels = 4", "latent_channels = 2\nbits = 2")
    .replace("[edge]", "[edge]\nbits = 2")
)


def write(folder, text):
    path = folder / "tiny.toml"
    path.write_text(text)
    return str(path)


def test_centers_train_export_to_thresholds_and_decode(tmp_path):
    path = write(tmp_path, CENTERS)
    assert train.main([path, "--runs", str(tmp_path), "--threads", "1"]) == 0
    bundle = load_bundle(tmp_path / "tiny" / "bundles" / "tiny" / "1")
    program, config = EncoderProgram.from_bytes(bundle.encoder_bin), load_config(path)
    assert (program.bits_per_symbol, [level.payload_bytes for level in bundle.manifest.levels]) == (2, [2, 8])
    clean = [row["accuracy_percent"] for row in bundle.manifest.accuracy if row["ber"] == 0 and row["level"] == 1]
    assert clean[0] > 20  # ten classes: guessing gives 10
    encoder, heads = weaklink.load_networks(tmp_path / "tiny", config, 10)
    images = torch.from_numpy(load_dataset("digits").test.images)
    with torch.no_grad():
        simulated = transmitted(encoder.eval()(images), encoder.centers)[0]
    sent = np.unpackbits(load_recording(bundle).bitstreams, axis=1).astype(np.float32) * 2 - 1
    assert (sent == simulated.numpy()).mean() > 0.99
    assert np.array_equal(program.layers[-1].index_map, heads.aware.centers.index_map.numpy())


@pytest.mark.slow
def test_a_run_without_tail_tuning_is_finished_after_its_integer_stage(tmp_path):
    text = (GOOD + TRAINING).replace("tail_epochs = 2", "tail_epochs = 0").replace("float_epochs = 3", "float_epochs = 1\nconsistency = 0.3")
    path = write(tmp_path, text)
    assert train.main([path, "--runs", str(tmp_path), "--threads", "1"]) == 0
    stored = torch.load(tmp_path / "tiny" / "integer" / "checkpoint.pt", weights_only=True)["heads"]
    _, heads = weaklink.load_networks(tmp_path / "tiny", load_config(path), 10)
    assert all(torch.equal(value, stored[name]) for name, value in heads.state_dict().items())


def test_consistency_is_a_term_of_the_loss(tmp_path):
    batch = Batch(torch.zeros(8, 8, 8, 3, dtype=torch.uint8), torch.arange(8), None)
    losses = []
    for weight in ("0.0", "10.0"):
        config = load_config(write(tmp_path, GOOD + TRAINING.replace("distil = 0.0", f"distil = 0.0\nconsistency = {weight}")))
        _, heads = weaklink.build(config, 10)
        torch.manual_seed(1)
        losses.append(float(CodecLoss(config, heads.eval(), twin=False)(Sent(torch.ones(8, 64), None, batch)).detach()))
    assert losses[1] > losses[0]


def test_hard_bits_enter_without_their_ber():
    network = EdgeNetwork(24, {"label": 5}, EdgeConfig(width=16, blocks=1, posterior=False)).eval()
    signs = torch.where(torch.rand(4, 24) < 0.5, 1.0, -1.0)
    assert torch.equal(network.received(signs * 0.6), signs)
    torch.nn.init.normal_(network.blocks[0].film.weight)
    low, high = (network(signs, torch.full((4,), ber))["label"] for ber in (0.001, 0.2))
    assert not torch.allclose(low, high)


def test_the_gradient_of_centers_passes_the_channel_but_not_from_the_twin(tmp_path):
    config = load_config(write(tmp_path, CENTERS))
    encoder, heads = weaklink.build(config, 10)
    latents = torch.randn(6, 2, 4, 4, requires_grad=True)
    batch = Batch(torch.zeros(6, 8, 8, 3, dtype=torch.uint8), torch.arange(6), None)
    signs, drift = transmitted(latents, encoder.centers)
    assert float(drift.detach().abs().max()) == pytest.approx(0, abs=1e-6)
    CodecLoss(config, heads, twin=False)(Sent(signs, None, batch, drift)).backward()
    assert latents.grad.abs().sum() > 0 and encoder.centers.values.grad.abs().sum() > 0
    received = heads.blind.received(signs.detach()).detach()
    assert not received.requires_grad


def test_symbols_to_signs_and_back():
    symbols = torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8)
    assert symbol_signs(symbols, 2).tolist() == [[-1, -1, -1, 1, 1, -1, 1, 1]]
    assert symbol_signs(symbols[:, :2], 1).tolist() == [[-1, 1]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[edge]\nbits = 2", "[edge]\nbits = 1", r"\[encoder\] bits is 2, \[edge\] bits is 1"),
        ("bits = 2\nblocks", 'bits = 2\nindex_map = "grey"\nblocks', "index_map is 'grey'"),
    ],
)
def test_centers_that_do_not_fit_are_refused(tmp_path, old, new, message):
    config = load_config(write(tmp_path, CENTERS.replace(old, new)))
    with pytest.raises(ConfigError, match=message):
        weaklink.check_fit(config, load_dataset("digits"))
