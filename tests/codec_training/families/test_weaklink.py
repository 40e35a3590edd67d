"""Variants of the family ``weaklink`` through whole trainings: learned centers in integers, and what ablations switch off."""

import numpy as np
import pytest
import torch

from codec_training import evaluate, train
from codec_training.config import load_config
from codec_training.datasets import hold_out, load_dataset
from codec_training.families import weaklink, weaklink_stages
from codec_training.families.weaklink_stages import CodecLoss, Sent
from codec_training.views import Batch
from device_client.encoder import Encoder
from edge_server.engine import Engine, EngineRequest
from semantic_codec.bitstream import unpack_symbols
from semantic_codec.bundle import load_bundle, load_recording
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import ConfigError
from semantic_codec.nn.channel import transmit
from semantic_codec.nn.edge import EdgeConfig, EdgeNetwork, combined
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
    encoder, heads = weaklink.load_networks(tmp_path / "tiny", config, hold_out(load_dataset("digits"), 200))
    images = torch.from_numpy(load_dataset("digits").test.images)
    with torch.no_grad():
        simulated = transmitted(encoder.eval()(images), encoder.centers, 32)[0]
    sent = np.unpackbits(load_recording(bundle).bitstreams, axis=1).astype(np.float32) * 2 - 1
    assert (sent == simulated.numpy()).mean() > 0.99
    assert np.array_equal(program.layers[-1].index_map, heads.aware.centers.index_map.numpy())


def test_a_resumed_training_assigns_to_centers_as_sharply_as_one_that_was_not_stopped(tmp_path, monkeypatch):
    text = CENTERS.replace("float_epochs = 3", "float_epochs = 1")
    config = load_config(write(tmp_path, text))
    dataset = hold_out(load_dataset("digits"), 200)
    sharpness = []

    def run(stage, epochs, *args):
        if stage.name == "integer":
            sharpness.append(stage.parts["encoder"].centers.sharpness)
            raise KeyboardInterrupt
        train_stage(stage, epochs, *args)

    train_stage = weaklink.Stage.run
    monkeypatch.setattr(weaklink.Stage, "run", run)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            weaklink.train(config, dataset, tmp_path / "run")
    assert sharpness == [weaklink.SHARPNESS[-1]] * 2


THREE_BITS = CENTERS.replace("levels = [8, 32]", "levels = [5, 21, 30]").replace("bits = 2", "bits = 3").replace("float_epochs = 3", "float_epochs = 1")


def test_three_bits_fill_bytes_with_whole_symbols_and_leave_out_what_no_level_has_room_for(tmp_path):
    path = write(tmp_path, THREE_BITS)
    assert train.main([path, "--runs", str(tmp_path), "--threads", "1"]) == 0
    bundle = load_bundle(tmp_path / "tiny" / "bundles" / "tiny" / "1")
    program, images = EncoderProgram.from_bytes(bundle.encoder_bin), load_dataset("digits").test.images
    assert (program.symbols, bundle.manifest.symbols) == (32, 30)
    assert [level.payload_bytes for level in bundle.manifest.levels] == [2, 8, 12]
    recording, device = load_recording(bundle), Encoder.from_bundle(bundle)
    assert [device.bitstream(image) for image in images[:20]] == [row.tobytes() for row in recording.bitstreams[:20]]
    again = evaluate.record(bundle, images, recording.labels)
    assert np.array_equal(again.bitstreams, recording.bitstreams)
    first = device.encode(images[0])
    assert np.array_equal(unpack_symbols(recording.bitstreams[:1], 30, 3)[0], first[:30])
    requests = [EngineRequest("tiny", 0, level, device.bitstream(images[0], level), 0.01) for level in range(3)]
    assert all(0 < answer.tasks["label"][0][1] <= 1 for answer in Engine([bundle]).infer(requests))


REPEATED = (
    (GOOD + TRAINING)
    .replace("latent_channels = 4", "latent_channels = 3\nrepeated = 1")
    .replace("grid = [4, 4]", "grid = [4, 4]\nrepeated = 16")
    .replace("float_epochs = 3", "float_epochs = 1")
)


@pytest.mark.slow
def test_planes_that_are_sent_twice_arrive_twice_and_are_put_together(tmp_path):
    path = write(tmp_path, REPEATED)
    assert train.main([path, "--runs", str(tmp_path), "--threads", "1"]) == 0
    bundle = load_bundle(tmp_path / "tiny" / "bundles" / "tiny" / "1")
    assert [level.payload_bytes for level in bundle.manifest.levels] == [2, 8]
    sent = np.unpackbits(load_recording(bundle).bitstreams, axis=1)
    assert np.array_equal(sent[:, :16], sent[:, 48:]) and not np.array_equal(sent[:, :16], sent[:, 16:32])
    engine, level, ber = Engine([bundle]), np.ones(len(sent), int), np.full(len(sent), 0.05, np.float32)
    whole = engine.infer_arrays("tiny", sent, level, ber)["label"]
    swapped = engine.infer_arrays("tiny", np.concatenate([sent[:, 48:], sent[:, 16:48], sent[:, :16]], axis=1), level, ber)["label"]
    assert np.allclose(whole, swapped, atol=1e-5)


def test_two_arrivals_of_a_bit_say_what_bayes_says():
    p, q = 0.1, 0.02
    for a, b, arrived in ((1, 1, (1 - p) * (1 - q)), (1, -1, (1 - p) * q)):
        means = torch.tensor([[a * (1 - 2 * p), 0.3, b * (1 - 2 * q)]])
        other = (p * q) if b == 1 else p * (1 - q)
        assert combined(means, 1, told=True).tolist()[0] == pytest.approx([(arrived - other) / (arrived + other), 0.3])
    assert combined(torch.tensor([[1.0, -1.0, -1.0], [1.0, 1.0, 0.0]]), 1, told=False).tolist() == [[0, -1], [0.5, 1]]
    contradicted = torch.tensor([[1.0, -1.0]])
    assert combined(contradicted, 1, told=True).tolist() == [[0]]
    sure = torch.ones(1, 2, requires_grad=True)
    combined(sure, 1, told=True).sum().backward()
    assert sure.grad.tolist() == [[0.5, 0.5]]


@pytest.mark.slow
def test_a_run_without_tail_tuning_is_finished_after_its_integer_stage(tmp_path):
    text = (GOOD + TRAINING).replace("tail_epochs = 2", "tail_epochs = 0").replace("float_epochs = 3", "float_epochs = 1\nconsistency = 0.3")
    path = write(tmp_path, text)
    assert train.main([path, "--runs", str(tmp_path), "--threads", "1"]) == 0
    stored = torch.load(tmp_path / "tiny" / "integer" / "checkpoint.pt", weights_only=True)["heads"]
    _, heads = weaklink.load_networks(tmp_path / "tiny", load_config(path), hold_out(load_dataset("digits"), 200))
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


def test_half_of_the_images_are_cut_to_a_level(tmp_path, monkeypatch):
    def watched(signs, ber, prefix, *rest):
        prefixes.append(prefix)
        return transmit(signs, ber, prefix, *rest)

    config, prefixes = load_config(write(tmp_path, GOOD + TRAINING)), []
    _, heads = weaklink.build(config, 10)
    monkeypatch.setattr(weaklink_stages, "transmit", watched)
    torch.manual_seed(0)
    batch = Batch(torch.zeros(2000, 8, 8, 3, dtype=torch.uint8), torch.arange(2000) % 10, None)
    CodecLoss(config, heads.eval(), twin=False)(Sent(torch.ones(2000, 64), None, batch))
    shares = {int(level): float((prefixes[0] == level).float().mean()) for level in prefixes[0].unique()}
    assert shares == pytest.approx({16: 0.25, 64: 0.75}, abs=0.05)


def test_the_gradient_of_centers_passes_the_channel(tmp_path):
    config = load_config(write(tmp_path, CENTERS))
    encoder, heads = weaklink.build(config, 10)
    latents = torch.randn(6, 2, 4, 4, requires_grad=True)
    batch = Batch(torch.zeros(6, 8, 8, 3, dtype=torch.uint8), torch.arange(6), None)
    signs, drift = transmitted(latents, encoder.centers, 32)
    assert float(drift.detach().abs().max()) == pytest.approx(0, abs=1e-6)
    CodecLoss(config, heads, twin=False)(Sent(signs, None, batch, drift)).backward()
    assert latents.grad.abs().sum() > 0 and encoder.centers.values.grad.abs().sum() > 0


def test_no_gradient_of_the_twin_reaches_encoder_and_centers(tmp_path):
    config = load_config(write(tmp_path, CENTERS))
    encoder, heads = weaklink.build(config, 10)
    latents = torch.randn(6, 2, 4, 4, requires_grad=True)
    signs, _ = transmitted(latents, encoder.centers, 32)
    received = transmit(signs, torch.full((6,), 0.1), torch.full((6,), 64), config.channel)
    CodecLoss(config, heads, twin=True)._twin_s_answer(received).square().sum().backward()
    assert latents.grad is None and all(centers.values.grad is None for centers in (encoder.centers, heads.blind.centers))
    assert heads.blind.embed.weight.grad.abs().sum() > 0


def test_symbols_to_signs_and_back():
    symbols = torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8)
    assert symbol_signs(symbols, 2).tolist() == [[-1, -1, -1, 1, 1, -1, 1, 1]]
    assert symbol_signs(symbols[:, :2], 1).tolist() == [[-1, 1]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("levels = [8, 32]", "levels = [8, 16]", "yields 32 symbols, the longest level has 16; .*fewer by less than a plane of 16"),
        ("latent_channels = 2", "latent_channels = 1\nrepeated = 1", r"\[encoder\] repeated is 1, \[edge\] repeated is 0"),
        ("levels = [8, 32]", "levels = [8, 48]", "yields 32 symbols"),
        ("[edge]\nbits = 2", "[edge]\nbits = 1", r"\[encoder\] bits is 2, \[edge\] bits is 1"),
        ("bits = 2\nblocks", 'bits = 2\nindex_map = "grey"\nblocks', "index_map is 'grey'"),
    ],
)
def test_centers_that_do_not_fit_are_refused(tmp_path, old, new, message):
    config = load_config(write(tmp_path, CENTERS.replace(old, new)))
    with pytest.raises(ConfigError, match=message):
        weaklink.check_fit(config, load_dataset("digits"))
