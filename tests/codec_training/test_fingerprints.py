"""What a stage depends on: settings of its own and of earlier stages, and the training images."""

from dataclasses import replace

import numpy as np
import pytest

from codec_training.config import as_table, load_config
from codec_training.datasets import Dataset, Split
from codec_training.families import find_family
from codec_training.families.split import STAGES as SPLIT_STAGES
from codec_training.fingerprints import fingerprints, is_claimed

STAGES = {"first": (), "second": ("training.float_", "training.learning_rate", "channel."), "third": ("training.tail_",)}
SPLIT = Split(np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3), np.array([0, 1, 0, 1]))
DATASET = Dataset("four", ("a", "b"), SPLIT, SPLIT)


def changed(config, dataset=DATASET) -> list[str]:
    """The stages that have to be trained anew."""
    before, after = fingerprints(load_config("digits"), DATASET, STAGES), fingerprints(config, dataset, STAGES)
    return [stage for stage in STAGES if before[stage] != after[stage]]


@pytest.mark.parametrize(
    ("table", "changes", "stages"),
    [
        ("codec", {"name": "other", "codec_id": 40, "blind_ber": 0.1, "dataset": "folder:moved"}, []),
        ("training", {"tail_epochs": 99}, ["third"]),
        ("training", {"learning_rate": 0.5}, ["second", "third"]),
        ("channel", {"ber_max": 0.1}, ["second", "third"]),
        ("training", {"seed": 7}, ["first", "second", "third"]),
        ("encoder", {"blocks": ()}, ["first", "second", "third"]),
    ],
)
def test_a_setting_counts_from_the_stage_that_claims_it(table, changes, stages):
    config = load_config("digits")
    assert changed(replace(config, **{table: replace(getattr(config, table), **changes)})) == stages


def test_all_stages_depend_on_the_training_images_labels_and_classes():
    config = load_config("digits")
    assert changed(config, replace(DATASET, name="moved", test=SPLIT.take(np.arange(2)))) == []
    for other in (
        replace(DATASET, train=Split(SPLIT.images[::-1], SPLIT.labels)),
        replace(DATASET, train=Split(SPLIT.images, SPLIT.labels[::-1])),
        replace(DATASET, classes=("b", "a")),
    ):
        assert changed(config, other) == list(STAGES)


@pytest.mark.parametrize("name", ["digits", "cifar100_semanticnn_mobilenet", "cifar100_aecnn_mobilenet"])
def test_what_the_families_claim_are_settings(name):
    config = load_config(name)
    family = find_family(config.codec.family)
    stages = getattr(family, "STAGES", None) or family.split.STAGES
    names = [f"{table}.{key}" for table, value in as_table(config).items() for key in value or {}]
    for stage, claimed in stages.items():
        assert hasattr(config.training, f"{stage}_epochs")
        unknown = [claim for claim in claimed if not any(is_claimed(name, (claim,)) for name in names)]
        assert unknown in ([], ["training.recipe"])


def test_families_on_one_network_have_one_base():
    names = [f"cifar100_{family}_mobilenet" for family in ("semanticnn", "adjscc", "bottlenetpp", "deepcod", "aecnn")]
    prints = [fingerprints(load_config(name), DATASET, SPLIT_STAGES) for name in names]
    assert [each["base"] for each in prints] == [prints[0]["base"]] * len(prints)
    assert all(each["autoencoder"] != prints[0]["autoencoder"] for each in prints[1:])
