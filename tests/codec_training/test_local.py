"""The device alone: a linear layer on the features of a bundle's encoder, in integers."""

import json

import numpy as np
import pytest

from codec_training import local
from codec_training.datasets import load_dataset
from semantic_codec.bundle import find_bundle
from semantic_codec.encoder_format import EncoderProgram


def test_a_bundle_of_ours(tmp_path):
    file = tmp_path / "local.json"
    assert local.main(["digits", "digits-blind", "--json", str(file)]) == 0
    row, twin = json.loads(file.read_text())["rows"]
    bundle = find_bundle("digits")
    assert row["encoder_hash"] == bundle.manifest.files["encoder.bin"]
    assert row["images"] == 450 and 85 < row["accuracy_percent"] < 99
    assert twin == row | {"bundle": "digits-blind"}  # the twin has the same encoder


def test_a_bundle_that_is_not_there_is_named(capsys):
    with pytest.raises(SystemExit):
        local.main(["digitz"])
    assert "there is no bundle 'digitz'" in capsys.readouterr().err


def test_rounded_weights_answer_as_the_regression_does():
    rng = np.random.default_rng(1)
    centers = rng.integers(-400, 400, (4, 12))
    labels = rng.integers(0, 4, 2000)
    features = centers[labels] + rng.integers(-150, 150, (2000, 12))
    layer = local.fit(features, labels, 0.1)
    assert layer.weight.dtype == np.int8 and np.abs(layer.weight).max() == 127 and layer.bias.dtype == np.int64
    assert (layer.answer(features) == labels).mean() > 0.99
    answers = layer.answer(rng.integers(-500, 500, (100, 12)))
    assert answers.shape == (100,) and set(answers) <= {0, 1, 2, 3}


def test_two_classes_are_told_apart():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 500)
    features = np.where(labels[:, None], 300, -300) + rng.integers(-100, 100, (500, 6))
    assert (local.fit(features, labels, 0.1).answer(features) == labels).all()


def test_features_are_what_the_last_layer_sees():
    bundle = find_bundle("digits")
    program, split = EncoderProgram.from_bytes(bundle.encoder_data), load_dataset("digits").test.take(np.arange(5))
    features = local.pooled(program, split)
    assert features.shape == (5, program.layers[-1].shape.inputs) and features.dtype == np.int64
