"""The whole comparison on the digits bundle, small; and its picture rows with a network that learned for a moment."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.rivals import command, receiver
from benchmarks.rivals.channels import Condition
from benchmarks.rivals.codes import CLASSES
from benchmarks.rivals.contest import Contest, Rival, rivals
from benchmarks.rivals.fec import DECIDED, READINGS
from benchmarks.rivals.images import ImageFormat
from benchmarks.rivals.picture_rows import measure_pictures
from benchmarks.rivals.receiver import damage, fine_tune, load_receiver
from benchmarks.rivals.store import Store
from codec_training.datasets import Dataset, Split, hold_out, load_dataset
from codec_training.teacher import Teacher, TeacherConfig, answers, predict, train_teacher
from semantic_codec.bundle import find_bundle, load_recording
from semantic_codec.errors import ConfigError

pytest.importorskip("sionna", reason="the extra bench is not installed")


@pytest.fixture
def contest():
    return Contest(find_bundle("digits"), load_recording(find_bundle("digits")), draws=3, seed=0, threads=1)


@pytest.mark.slow
def test_a_run_on_few_images_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "CONDITIONS", (Condition("bsc", 0.0), Condition("bsc", 0.1), Condition("erasures", erased=0.2)))
    path, page = tmp_path / "rivals.json", tmp_path / "page.md"
    page.write_text("before\n<!-- tables -->\n<!-- end of tables -->\nafter\n")
    arguments = ["--bundles", "digits", "--images", "60", "--validation-images", "50", "--draws", "1", "--threads", "1", "--json", str(path)]
    arguments += ["--runs", str(tmp_path), "--docs", str(page), "--plot", str(tmp_path / "plot.png")]
    assert command.main(arguments) == 0
    shown, first = capsys.readouterr().out, json.loads(path.read_text())["rows"]
    assert "| **ours**, 8 B |" in page.read_text() and page.read_text().endswith("after\n") and "**ours**, 8 B" in shown
    genie = next(row for row in first if row.get("family") == "genie")
    copied = next(row for row in first if f"{row.get('family')}, {row.get('variant')}" == genie["chosen"] and row["ber"] == genie["ber"])
    assert genie["accuracy_percent"] == copied["accuracy_percent"]
    assert {row["receiver"] for row in first if row.get("family") == "jpeg" and row["accuracy_percent"] is None} == {"as trained", "fine-tuned"}
    monkeypatch.setattr(Contest, "tried", lambda *_: pytest.fail("measured again"))
    assert command.main(arguments) == 0
    assert json.loads(path.read_text())["rows"] == first


def test_pictures_go_to_the_network_of_their_data_set(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(command.CodeRows, "measure", lambda *_: None)
    monkeypatch.setattr(Contest, "ours", lambda *_: np.ones((1, 60)))
    monkeypatch.setattr(command, "measure_pictures", lambda store, base, test, run, *_: asked.append(run))
    arguments = ["--bundles", "digits", "--images", "60", "--runs", str(tmp_path), "--pictures"]
    monkeypatch.setattr(command, "verdicts", lambda rows, manifests: [])
    monkeypatch.setattr(command, "markdown", lambda rows, found: "")
    for trainings in (["digits_only_8", "cifar10_three_levels"], ["cifar10_three_levels"]):
        assert command.main([*arguments, *trainings]) == 0
    assert asked == [tmp_path / "digits_only_8", tmp_path / "digits"]


def test_rows_of_bundles_that_are_not_named_stay(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rivals.json"
    others = [{"key": "0", "bundle": "elsewhere", "images": 60, "draws": 1}, {"bundle": "elsewhere", "verdict": "one"}]
    path.write_text(json.dumps({"rows": [*others, {"key": "1", "bundle": "digits"}]}))
    row = {"bundle": "digits", "dataset": "digits", "family": "local", "variant": "", "channel": "bsc", "ber": 0.0, "payload_bytes": 2}
    monkeypatch.setattr(command, "compare", lambda _, store, arguments: store.row(row, lambda: {"accuracy_percent": 90.0}))
    monkeypatch.setattr(command, "verdicts", lambda rows, manifests: [])
    monkeypatch.setattr(command, "markdown", lambda rows, found: "")
    assert command.main(["--bundles", "digits", "--json", str(path)]) == 0
    assert [(row["bundle"], row.get("key")) for row in json.loads(path.read_text())["rows"][1:]] == [("elsewhere", "0"), ("elsewhere", None)]
    with pytest.raises(ConfigError, match="images 50, draws 3"):
        command.main(["--bundles", "digits", "--json", str(path), "--images", "50"])


def test_wrong_numbers_are_refused():
    with pytest.raises(ConfigError, match="draws 0"):
        command.main(["--draws", "0"])
    with pytest.raises(ConfigError, match="--seed is -1"):
        command.main(["--seed", "-1"])


def test_ours_is_what_the_evaluation_says(contest):
    manifest = find_bundle("digits").manifest
    for row in manifest.accuracy:
        if row["level"] == 2 and row["ber"] in (0.0, 0.1):
            measured = 100 * contest.ours(row["payload_bytes"], Condition("bsc", row["ber"])).mean()
            assert measured == pytest.approx(row["accuracy_percent"], abs=0.2)


def test_a_code_that_corrects_everything_gives_the_error_free_level(contest):
    right, decoded = contest.rival(Rival("convolutional-k7", 2, 8), Condition("bsc", 1e-2), [DECIDED] * CLASSES)
    assert decoded == 1 and (right == contest.ours(2, Condition("bsc"))).all()


def test_words_are_read_in_the_way_that_gives_most_right_answers(contest):
    rival, condition = Rival("ldpc-5g", 4, 8), Condition("bsc", 0.1)
    tried = contest.tried(rival, condition)
    every = {name: contest.rival(rival, condition, [name] * CLASSES)[0][0].mean() for name in READINGS}
    assert tried.accuracy >= max(every.values()) > min(every.values())
    assert contest.rival(rival, condition, tried.readings)[0][0].mean() == pytest.approx(tried.accuracy)


def test_words_that_are_certain_are_read_as_decided(contest):
    tried = contest.tried(Rival("convolutional-k7", 2, 8), Condition("bsc", 1e-3))
    assert set(tried.readings) == {"decided", "systematic"} and tried.accuracy == contest.ours(2, Condition("bsc")).mean()


def test_the_bound_lies_between_the_clean_level_and_the_damaged_one(contest):
    condition = Condition("bsc", 0.1)
    right, decoded = contest.bound(Rival("normal-approximation", 4, 8), condition)
    clean, hurt = contest.ours(4, Condition("bsc")).mean(), contest.ours(4, condition).mean()
    assert 0 < decoded < 1 and min(clean, hurt) <= right.mean() <= max(clean, hurt)


def test_a_last_byte_that_symbols_do_not_fill_is_hit_like_the_others(contest):
    manifest, partial = contest.bundle.manifest, copy.copy(contest)
    longest = replace(manifest.levels[-1], symbols=60)
    partial.bundle = replace(contest.bundle, manifest=replace(manifest, symbols=60, levels=(*manifest.levels[:-1], longest)))
    (flips, erased), (whole, _) = (next(each._hits(Condition("bsc", 0.1), 64)) for each in (partial, contest))
    assert flips.shape == erased.shape and (flips == whole).all()


def test_bits_behind_a_level_s_last_symbol_are_not_answered(contest, monkeypatch):
    manifest, partial, heard = contest.bundle.manifest, copy.copy(contest), []
    shortest = replace(manifest.levels[0], symbols=12)  # of 16 bits
    partial.bundle = replace(contest.bundle, manifest=replace(manifest, levels=(shortest, *manifest.levels[1:])))
    partial._engine = SimpleNamespace(probabilities=lambda soft, *_: heard.append(soft) or {"label": np.zeros((len(soft), 10))})
    partial.ours(2, Condition("bsc", 0.1))
    assert all((np.abs(soft[:, :12]) > 0).all() and not soft[:, 12:].any() for soft in heard) and heard


def test_no_rival_carries_less_than_the_shortest_level():
    found = rivals(find_bundle("digits"), ("ldpc-5g", "convolutional-k7", "repetition"))
    assert min(rival.info_bytes for rival in found) == 2 and {rival.coded_bytes for rival in found} == {4, 8}
    assert Rival("ldpc-5g", 6, 8) in found and Rival("repetition", 4, 8) in found
    assert not {Rival("convolutional-k7", 6, 8), Rival("repetition", 6, 8)} & set(found)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder of a training run with a teacher of enlarged digits that has seen one epoch, and its data set."""
    folder, digits = tmp_path_factory.mktemp("run"), hold_out(load_dataset("digits"), 200)
    large = [Split(part.images[:500].repeat(4, 1).repeat(4, 2), part.labels[:500]) for part in (digits.train, digits.test, digits.validation)]
    dataset = Dataset("large digits", digits.classes, *large)
    train_teacher(dataset, TeacherConfig(epochs=1, batch=100, widths=(8, 16, 16), margin=1), folder / "teacher")
    return folder, dataset


def test_rows_of_pictures(run, monkeypatch):
    folder, dataset = run
    formats = (ImageFormat("jpeg", 50), ImageFormat("webp", 50))
    monkeypatch.setattr("benchmarks.rivals.picture_rows.FORMATS", formats)
    store, test = Store(None, 0), dataset.test.take(np.arange(50))
    measure_pictures(store, {"draws": 1, "seed": 0, "bundle": "digits"}, test, folder, len(dataset.classes), 0.0)
    rows = {(row["family"], row["variant"], row["receiver"], row["ber"]): row for row in store.rows}
    clean = rows["jpeg", "quality 50, 4:2:0", "as trained", 0.0]
    assert clean["file_on_air_bytes"] > clean["on_air_bytes"] > 18
    repeated = rows["jpeg", "quality 50, 4:2:0, repeated until whole", "as trained", 0.05]
    assert repeated["accuracy_percent"] == clean["accuracy_percent"] and repeated["on_air_bytes"] > 5 * clean["on_air_bytes"]
    coded = [rows["webp", "quality 50, ideal code of rate 0.5", "as trained", ber] for ber in (0.0, 0.05, 0.2)]
    accuracy = [row["accuracy_percent"] for row in coded]
    assert accuracy == sorted(accuracy, reverse=True) and accuracy[0] > accuracy[2] and coded[2]["decoded_percent"] < 1
    assert rows["raw", "flips and all", "as trained", 0.0]["on_air_bytes"] == 32 * 32 * 3 + 18
    assert rows["jpeg", "", "fine-tuned", 0.0]["accuracy_percent"] is None


def test_rows_of_pictures_stay_where_their_network_is_gone(run, tmp_path, monkeypatch):
    folder, dataset = run
    monkeypatch.setattr("benchmarks.rivals.picture_rows.FORMATS", (ImageFormat("jpeg", 50), ImageFormat("webp", 50)))
    measured = (dataset.test.take(np.arange(50)), folder, len(dataset.classes), 0.0)
    base, first = {"draws": 1, "seed": 0, "bundle": "digits"}, Store(tmp_path / "rivals.json", 0)
    measure_pictures(first, base, *measured)
    first.close([])
    second, other = Store(tmp_path / "rivals.json", 0), Store(tmp_path / "rivals.json", 0)
    measure_pictures(second, base, measured[0], tmp_path, *measured[2:])
    measure_pictures(other, base | {"bundle": "other"}, measured[0], tmp_path, *measured[2:])
    assert second.rows == first.rows and len(other.rows) == 5 and all(row["accuracy_percent"] is None for row in other.rows)


def test_fine_tuning_starts_from_the_teacher_and_is_found_again(run, tmp_path):
    folder, dataset = run
    model = load_receiver(folder / "teacher", len(dataset.classes))
    small = replace(dataset, train=dataset.train.take(np.arange(500)))
    fine_tune(model, small, 1, 0, tmp_path / "receiver")
    found = load_receiver(tmp_path / "receiver", len(dataset.classes))
    assert isinstance(found, Teacher)
    assert (found.head.weight == model.head.weight).all()
    with pytest.raises(ConfigError, match="began as"):  # it has learned since
        fine_tune(model, small, 2, 0, tmp_path / "receiver")


def test_a_receiver_of_classes_that_a_mirror_exchanges_is_shown_none_mirrored(run, tmp_path, monkeypatch):
    dataset, folder = run[1], tmp_path / "teacher"
    few = replace(dataset, train=dataset.train.take(np.arange(120)))
    train_teacher(few, TeacherConfig(epochs=1, batch=60, widths=(8, 16, 16), margin=1), folder, mirror=False)
    mirrors = []
    monkeypatch.setattr(receiver, "crop", lambda images, offsets, mirrored, size: mirrors.append(mirrored) or images[:, :32, :32])
    fine_tune(load_receiver(folder, len(few.classes)), few, 1, 0, tmp_path / "receiver")
    found = load_receiver(tmp_path / "receiver", len(few.classes))
    assert not found.mirror and mirrors and not any(each.any() for each in mirrors)
    assert (answers(found, few.test.images) == predict(found, few.test.images).argmax(1).numpy()).all()


def test_there_is_no_receiver_where_nothing_was_trained(tmp_path):
    assert load_receiver(tmp_path, 10) is None


def test_damage_leaves_some_pictures_untouched(run):
    images = run[1].train.images[:200]
    seen = damage(images, np.random.default_rng(0))
    untouched = (seen == images).all(axis=(1, 2, 3)).mean()
    assert 0.02 < untouched < 0.4 and np.abs(seen.astype(int) - images).mean() < 25
