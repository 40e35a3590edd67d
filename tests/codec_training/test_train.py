"""A whole training, as a user runs it, on a tiny codec."""

import hashlib
import json
import shlex
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from codec_training import evaluate, export, train
from codec_training.checkpoint import load_checkpoint
from codec_training.config import load_config
from codec_training.datasets import hold_out, load_dataset
from codec_training.families import weaklink
from semantic_codec.bundle import Recording, find_bundle, load_bundle, load_recording
from semantic_codec.errors import ConfigError, NotFound
from semantic_codec.nn.encoder import FloatEncoder
from tests.codec_training.test_config import GOOD

TRAINING = """
[edge]
grid = [4, 4]
width = 32
blocks = 1
[training]
trunk_epochs = 0
float_epochs = 3
integer_epochs = 1
tail_epochs = 2
batch = 100
views = 2
margin = 1
mirror = false
distil = 0.0
validation = 200
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train") / "with a blank"
    folder.mkdir()
    config = folder / "tiny.toml"
    config.write_text(GOOD + TRAINING)
    assert train.main([str(config), "--runs", str(folder), "--threads", "1"]) == 0
    return folder, config


def test_training_writes_a_bundle_and_its_blind_twin(trained):
    folder, _ = trained
    bundle = load_bundle(folder / "tiny" / "bundles" / "tiny" / "1")
    twin = load_bundle(folder / "tiny" / "bundles" / "tiny-blind" / "1")
    assert twin.encoder_bin == bundle.encoder_bin and twin.manifest.edge["aware"] is False
    assert [level.payload_bytes for level in bundle.manifest.levels] == [2, 8]
    assert len(load_recording(bundle).labels) == 450
    clean = [row["accuracy_percent"] for row in bundle.manifest.accuracy if row["ber"] == 0]
    assert len(clean) == 2 and min(clean) > 20  # ten classes: guessing gives 10
    assert "| 2 B |" in (bundle.folder / "card.md").read_text()


def test_a_finished_run_resumes_without_an_epoch_and_exports_the_same_bytes(trained, capsys):
    folder, config = trained
    before = load_bundle(folder / "tiny" / "bundles" / "tiny" / "1")
    assert train.main([str(config), "--runs", str(folder), "--threads", "1", "--data", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "epoch" not in printed and printed.startswith("1147 training, 200 validation, 450 test images of 10 classes\n")
    measure = shlex.split(printed.splitlines()[-1].removeprefix("next: weaklink evaluate "))
    assert evaluate.main([*measure, "--ber", "0"]) == 0
    assert export.main([str(config), "--runs", str(folder), "--bundles", str(folder / "again")]) == 0
    assert load_bundle(folder / "again" / "tiny" / "1").manifest.files == before.manifest.files


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("views = 2", "views = 2\nlearning_rate = 0.5", "training.learning_rate 0.006, now 0.5"),
        ("validation = 200", "validation = 100", "training.validation 200, now 100; images "),
    ],
)
def test_a_run_of_other_settings_is_neither_resumed_nor_exported(trained, tmp_path, old, new, difference):
    folder, config = trained
    path = tmp_path / "tiny.toml"
    path.write_text(config.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=f"float was trained with {difference}"):
        train.main([str(path), "--runs", str(folder), "--threads", "1"])
    with pytest.raises(ConfigError, match=f"integer was trained with {difference}"):
        export.main([str(path), "--runs", str(folder), "--bundles", str(tmp_path)])


def test_the_trunk_learns_alone_and_the_codec_goes_on_from_it(trained, tmp_path, capsys):
    path = tmp_path / "trunk.toml"
    path.write_text(trained[1].read_text().replace("trunk_epochs = 0\nfloat_epochs = 3", "trunk_epochs = 4\nfloat_epochs = 1").replace('"tiny"', '"trunk"', 1))
    assert train.main([str(path), "--runs", str(tmp_path), "--threads", "1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trunk epoch")]
    assert len(lines) == 4 and float(lines[-1].split("probe ")[1]) > 20  # ten classes: guessing gives 10
    config = load_config(str(path))
    fresh, trunk, codec = weaklink.build(config, 10)[0], FloatEncoder(config.encoder), FloatEncoder(config.encoder)
    assert load_checkpoint(tmp_path / "trunk" / "trunk", encoder=trunk) == 4
    assert load_checkpoint(tmp_path / "trunk" / "float", encoder=codec) == 1
    weights = [torch.cat([p.detach().flatten() for p in encoder.parameters()]) for encoder in (fresh, trunk, codec)]
    assert torch.dist(weights[2], weights[1]) < torch.dist(weights[2], weights[0])


def test_other_settings_of_the_last_stage_leave_the_earlier_ones_as_they_are(trained, tmp_path, capsys):
    folder, config = trained
    shutil.copytree(folder / "tiny", tmp_path / "tiny", ignore=shutil.ignore_patterns("tail", "bundles"))
    path = tmp_path / "tiny.toml"
    path.write_text(config.read_text().replace("tail_epochs = 2", "tail_epochs = 1"))
    assert train.main([str(path), "--runs", str(tmp_path), "--threads", "1"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if " epoch " in line] == ["tail epoch 1/1"]


@pytest.fixture(scope="module")
def behind(trained, tmp_path_factory):
    """The tail trained on behind the encoder of ``trained``, with a level more: folder and configuration."""
    folder = tmp_path_factory.mktemp("behind")
    config = folder / "tiny.toml"
    config.write_text(BEHIND.format(config=trained[1], bundle=trained[0] / "tiny" / "bundles" / "tiny" / "1"))
    assert train.main([str(config), "--runs", str(folder), "--threads", "1"]) == 0
    return folder, config


BEHIND = """
extends = "{config}"
[codec]
version = 2
levels = [16, 32, 64]
[training]
bundle = "{bundle}"
distil = 0.7
tail_epochs = 3
"""


def test_a_tail_learns_on_behind_a_bundle_s_encoder(trained, behind, capsys):
    first = load_bundle(trained[0] / "tiny" / "bundles" / "tiny" / "1")
    second, twin = (load_bundle(behind[0] / "tiny" / "bundles" / name / "2") for name in ("tiny", "tiny-blind"))
    assert second.encoder_bin == twin.encoder_bin == first.encoder_bin and second.edge_data != first.edge_data
    assert [level.payload_bytes for level in second.manifest.levels] == [2, 4, 8]
    assert second.manifest.training["bundle"] == first.manifest.training
    assert (load_recording(second).bitstreams == load_recording(first).bitstreams).all()
    clean = [{row["level"]: row["accuracy_percent"] for row in bundle.manifest.accuracy if row["ber"] == 0} for bundle in (first, second)]
    assert clean[1][2] > clean[0][1]  # on the whole payload
    assert sorted(path.name for path in (behind[0] / "tiny").iterdir()) == ["bundles", "tail", "tensorboard"]
    assert train.main([str(behind[1]), "--runs", str(behind[0]), "--threads", "1"]) == 0
    assert "epoch" not in capsys.readouterr().out


def test_a_bundle_is_not_overwritten_by_what_is_trained_behind_it(trained, behind, tmp_path):
    bundles = trained[0] / "tiny" / "bundles"
    config = tmp_path / "tiny.toml"
    config.write_text(behind[1].read_text().replace("version = 2\n", ""))
    before = {path: path.read_bytes() for path in bundles.rglob("*") if path.is_file()}
    for command in (train, export):
        with pytest.raises(ConfigError, match="version is 1, which in .* is .training. bundle '.*' itself; allowed: another; fix: set version to 2"):
            command.main([str(config), "--runs", str(behind[0]), "--bundles", str(bundles)])
    assert {path: path.read_bytes() for path in bundles.rglob("*") if path.is_file()} == before


def test_a_tail_does_not_go_on_behind_another_bundle(trained, behind, tmp_path):
    other = shutil.copytree(trained[0] / "tiny" / "bundles" / "tiny" / "1", tmp_path / "tiny" / "1")
    shutil.copytree(behind[0] / "tiny", tmp_path / "runs" / "tiny")
    config = tmp_path / "tiny.toml"
    config.write_text(BEHIND.format(config=trained[1], bundle=other))
    assert train.main([str(config), "--runs", str(tmp_path / "runs"), "--threads", "1"]) == 0  # where it lies is all the same
    twin = trained[0] / "tiny" / "bundles" / "tiny-blind" / "1" / "edge.safetensors"
    manifest = json.loads((other / "bundle.json").read_text())
    manifest["files"]["edge.safetensors"] = hashlib.sha256(twin.read_bytes()).hexdigest()
    (other / "bundle.json").write_text(json.dumps(manifest))
    shutil.copy(twin, other)
    with pytest.raises(ConfigError, match="tail was trained with bundle {.*}, now {"):
        train.main([str(config), "--runs", str(tmp_path / "runs"), "--threads", "1"])


@pytest.mark.parametrize(
    ("table", "message"),
    [("[encoder]\nstem_channels = 4", r"\[encoder\] .* does not fit \[training\] bundle '.*', which has"), ("[edge]\nwidth = 16", r"\[edge\] .*16"),
     ("[encoder]\nlatent_channels = 8\n[codec]\nlevels = [128]", r"\[encoder\]")],
)
def test_a_bundle_that_does_not_fit_is_refused_before_training(trained, tmp_path, table, message):
    path = tmp_path / "tiny.toml"
    path.write_text(f'extends = "{trained[1]}"\n[training]\nbundle = "{trained[0] / "tiny" / "bundles" / "tiny" / "1"}"\n{table}\n')
    with pytest.raises(ConfigError, match=message):
        train.main([str(path), "--runs", str(tmp_path)])
    path.write_text(path.read_text().replace("tiny/1", "tiny/7"))
    with pytest.raises(NotFound, match="there is no bundle '.*tiny/7', behind which tiny is trained; .*fix: train that one first"):
        train.main([str(path), "--runs", str(tmp_path)])


def test_tensorboard_logs_are_written(trained):
    folder, _ = trained
    assert list((folder / "tiny" / "tensorboard").glob("events.out.tfevents.*"))


def test_export_of_an_unfinished_run_says_what_is_missing(tmp_path):
    with pytest.raises(NotFound, match="holds 0 integer epochs"):
        export.main(["digits", "--runs", str(tmp_path)])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("stem_channels = 8", "stem_channels = 8\nstem_kernel = 2", r"^\[encoder\]: layer shape .*kernel=2.*; allowed: kernel 1, 3, 5 or 7.*fix: correct \[encoder\]$"),
     ("stem_channels = 8", "stem_channels = 8\nstem_stride = 8", r"^\[encoder\]: layer shape .*stride=8"),
     ("stem_channels = 8", "stem_channels = 8\nstem_kernel = 301", r"^\[encoder\]: .*; allowed: what encoder.bin has room for"),
     ("height = 8", "height = 9", "the encoder takes 9x8 images"), ("[16, 64]", "[16, 128]", "yields 64 symbols"), ("[4, 4]", "[2, 8]", "last map is"),
     ("batch = 100", "batch = 1200", r"\[training\] batch is 1200; allowed: at most 1147"), ("margin = 1", "margin = 8", "margin is 8; allowed: 0 to 7"),
     ("distil = 0.0\nvalidation = 200", "validation = 200\n[teacher]\nbatch = 2000", r"\[teacher\] batch is 2000")],
)
def test_a_configuration_that_does_not_fit_is_refused_before_training(tmp_path, old, new, message):
    config = tmp_path / "tiny.toml"
    config.write_text((GOOD + TRAINING).replace(old, new))
    with pytest.raises(ConfigError, match=message):
        train.main([str(config), "--runs", str(tmp_path)])


def test_evaluate_reproduces_the_table_of_the_bundle(tmp_path):
    target = tmp_path / "digits.json"
    plot = tmp_path / "digits.png"
    assert evaluate.main(["digits", "--recording", "--json", str(target), "--plot", str(plot)]) == 0
    rows = json.loads(target.read_text())["rows"]
    for row, kept in zip(rows, find_bundle("digits").manifest.accuracy, strict=True):
        assert row["ber"] == kept["ber"] and row["accuracy_percent"] == pytest.approx(kept["accuracy_percent"], abs=0.25)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_data_set_and_the_recording_give_the_same(tmp_path):
    targets = [tmp_path / name for name in ("recording.json", "data_set.json")]
    common = ["digits", "--ber", "0", "0.05", "--draws", "1", "--json"]
    evaluate.main([*common, str(targets[0]), "--recording"])
    evaluate.main([*common, str(targets[1]), "--data-set", "digits"])
    first, second = (json.loads(target.read_text())["rows"] for target in targets)
    assert first == second


def test_a_twin_without_its_codec_is_told_how_it_is_evaluated():
    with pytest.raises(NotFound, match="digits-blind has no recording; .*fix: name digits, .* before it, or add --data-set digits$"):
        evaluate.main(["digits-blind"])


def digits_again(folder, labels=None):
    """A copy of the bundle digits, whose recording has other labels where some are given."""
    target = shutil.copytree(find_bundle("digits").folder, folder / "digits" / "1")
    if labels is not None:
        np.savez_compressed(target / "recording.npz", bitstreams=load_recording(find_bundle("digits")).bitstreams, labels=labels)
    return str(target)


def test_bundles_of_one_name_and_version_are_told_apart_by_their_folders(tmp_path):
    folders = [digits_again(tmp_path / name) for name in ("first", "second")]
    arguments = ["--ber", "0", "0.1", "--draws", "1", "--json", str(tmp_path / "rows.json")]
    assert evaluate.main([*folders, *arguments]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {(row["bundle"], row["version"]) for row in rows} == {(str(tmp_path / name / "digits"), 1) for name in ("first", "second")}
    assert evaluate.main([folders[0], folders[0], *arguments]) == 0
    assert {row["bundle"] for row in json.loads((tmp_path / "rows.json").read_text())["rows"]} == {"digits"}


def test_recordings_of_different_images_are_not_compared(tmp_path):
    labels = load_recording(find_bundle("digits")).labels[::-1].astype(np.uint16)
    arguments = ["digits", digits_again(tmp_path, labels), "--ber", "0"]
    with pytest.raises(ConfigError, match="the recordings of .* and .* are of different images; .*fix: add --data-set NAME"):
        evaluate.main(arguments)
    assert evaluate.main([*arguments, "--data-set", "digits"]) == 0


def save_digits(folder, names):
    """The test split as images in folders of class names."""
    for index, (image, label) in enumerate(zip(load_dataset("digits").test.images, load_dataset("digits").test.labels)):
        for part in ("train", "test"):
            if names[label]:
                target = folder / part / names[label] / f"{index}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(target)


def test_classes_of_a_data_set_are_the_bundle_s_by_name(tmp_path):
    save_digits(tmp_path / "some", [str(label) if label in (3, 8) else "" for label in range(10)])
    assert evaluate.main(["digits", "--ber", "0", "--json", str(tmp_path / "rows.json"), "--data-set", f"folder:{tmp_path / 'some'}"]) == 0
    assert min(row["accuracy_percent"] for row in json.loads((tmp_path / "rows.json").read_text())["rows"]) > 80
    save_digits(tmp_path / "named", ["", "", "", "3", "", "", "", "", "eight", ""])
    with pytest.raises(ConfigError, match="has the class 'eight', which digits cannot name; allowed: its 10: 0, 1, "):
        evaluate.main(["digits", "--ber", "0", "--data-set", f"folder:{tmp_path / 'named'}"])


def test_images_of_another_size_are_refused():
    with pytest.raises(ConfigError, match="the images are 9x7; allowed: 8x8, which digits learned on; fix: resize them first"):
        evaluate.record(find_bundle("digits"), np.zeros((2, 7, 9, 3), np.uint8), np.zeros(2, np.int64))


@pytest.mark.parametrize(("arguments", "message"), [(["--ber", "0.6"], "--ber is 0.6"), (["--draws", "0"], "--draws is 0"), (["--seed", "-1"], "--seed is -1")])
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        evaluate.main(["digits", *arguments])


@pytest.mark.parametrize("name", ["plot", "plot.foo"])
def test_a_plot_of_no_kind_is_refused_before_the_measurement(tmp_path, monkeypatch, name):
    monkeypatch.setattr(evaluate, "evaluate", None)
    with pytest.raises(ConfigError, match=f"the plot is .*{name}; allowed: a name that ends in .*.png"):
        evaluate.main(["digits", "--plot", str(tmp_path / name)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--plot", "--json"])
def test_a_folder_in_the_place_of_a_file_ends_before_the_measurement(tmp_path, monkeypatch, flag):
    monkeypatch.setattr(evaluate, "evaluate", None)
    with pytest.raises(ConfigError, match="cannot write .*: Is a directory"):
        evaluate.main(["digits", flag, str(tmp_path)])


@pytest.mark.parametrize("flag", ["--plot", "--json"])
def test_a_folder_that_cannot_be_made_ends_before_the_measurement(tmp_path, monkeypatch, flag):
    monkeypatch.setattr(evaluate, "evaluate", None)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        evaluate.main(["digits", flag, str(tmp_path / "file" / "rows.png")])


@pytest.mark.parametrize("flag", ["--bundles", "--runs"])
def test_folders_that_cannot_be_made_end_before_training(tmp_path, monkeypatch, flag):
    monkeypatch.setattr(weaklink, "train", None)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        train.main(["digits", "--runs", str(tmp_path), flag, str(tmp_path / "file")])


@pytest.mark.parametrize(("flag", "most"), [("--threads", 1024), ("--seed", 2**32 - 1)])
def test_numbers_that_cannot_be_are_refused_before_anything_is_written(tmp_path, flag, most):
    for value in (-1, most + 1):
        with pytest.raises(ConfigError, match=f"{flag} is {value}; allowed: 0 to {most}"):
            train.main(["digits", "--runs", str(tmp_path), flag, str(value)])
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_seed_is_exported_by_that_seed(tmp_path):
    for arguments, name in (([], "digits"), (["--seed", "3"], "digits-seed3")):
        with pytest.raises(NotFound, match=f"{name} holds 0 integer epochs"):
            export.main(["digits", "--runs", str(tmp_path), *arguments])
    with pytest.raises(SystemExit):
        export.main(["digits", "--target", "c", "--seed", "3"])


def test_labels_of_the_recording_are_the_test_split():
    from codec_training.datasets import load_dataset

    assert (load_recording(find_bundle("digits")).labels == load_dataset("digits").test.labels).all()
    assert np.bincount(load_recording(find_bundle("digits")).labels).min() > 0


def test_rows_cost_the_header_too():
    bundle = find_bundle("digits")
    recording = load_recording(bundle)
    rows = evaluate.evaluate(bundle, Recording(recording.bitstreams[:50], recording.labels[:50]), bers=(0.0,))
    assert [row["on_air_bytes"] for row in rows] == [18 + level.payload_bytes for level in bundle.manifest.levels]


class Told(torch.nn.Module):
    """Answers with what it is told of each bit."""

    def forward(self, soft: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"label": soft}


def test_calibration_sees_the_prefix_alone():
    manifest = {"tasks": [{"name": "label"}], "levels": [4, 8], "bits_per_symbol": 1}
    logits = export._logits(Told(), manifest)(np.ones((3, 8), np.uint8), 0, 0.1)
    assert logits.tolist() == [pytest.approx([0.8] * 4 + [0] * 4)] * 3
