"""The table of codecs on the digits bundle and on what is not there, small."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks.codecs import command, rows
from benchmarks.codecs.plots import pareto
from benchmarks.codecs.rows import seed_means, taken_over
from benchmarks.codecs.tables import markdown
from benchmarks.rivals.channels import Condition
from benchmarks.rivals.contest import Contest
from codec_training import export, train
from codec_training.config import load_config
from semantic_codec.bundle import find_bundle
from semantic_codec.errors import ConfigError

FEW = (Condition("bsc", 0.0), Condition("bsc", 0.05), Condition("erasures", erased=0.2))


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(command, "CONDITIONS", FEW)


def test_a_run_on_few_images_goes_on_where_it_was(few, tmp_path, monkeypatch, capsys):
    path, page = tmp_path / "codecs.json", tmp_path / "page.md"
    codec = {"key": "0", "bundle": "elsewhere", "accuracy_percent": 1.0}
    other = [codec, {"bundle": "elsewhere", "variant": rows.BASE, "accuracy_percent": 2.0}]
    path.write_text(json.dumps({"rows": other}))
    page.write_text("before\n<!-- tables -->\n<!-- end of tables -->\nafter\n")
    arguments = ["--codecs", "digits", "cifar100_semanticnn_mobilenet", "--quick", "--images", "60", "--threads", "1", "--runs", str(tmp_path)]
    arguments += ["--json", str(path), "--docs", str(page), "--plots", str(tmp_path)]
    assert command.main(arguments) == 0
    shown, first = capsys.readouterr().out, json.loads(path.read_text())["rows"]
    assert first[-2:] == other, "what was not asked for stays"
    del first[-2:]
    measured = [row for row in first if row["accuracy_percent"] is not None]
    assert {row["bundle"] for row in measured} == {"digits", "digits-blind"} and len(measured) == 2 * 3 * len(FEW)
    assert all({*rows.COLUMNS} <= row.keys() for row in measured)
    assert "`cifar100_semanticnn_mobilenet` (semanticnn), not trained" in shown and "Nothing of it was measured yet." in shown
    assert page.read_text().endswith("after\n") and "`digits-blind` (weaklink), 2 B" in page.read_text()
    assert {file.name for file in tmp_path.glob("*.png")} == {"codecs-ber.png", "codecs-bytes.png", "codecs-macs.png"}
    monkeypatch.setattr(Contest, "ours", lambda *_: pytest.fail("measured again"))
    assert command.main(arguments) == 0
    assert json.loads(path.read_text())["rows"] == [*first, *other]


def test_rows_stay_where_their_bundle_does_not(few, tmp_path, capsys):
    path = tmp_path / "codecs.json"
    row = {"dataset": "cifar10", "family": "weaklink", "variant": "32 B", "channel": "bsc", "ber": 0.0, "erased": 0.0, "payload_bytes": 32,
           "on_air_bytes": 50, "interval_percent": 0.5, "seeds": 1, "images": 60, "draws": 1}  # fmt: skip
    kept = [{**row, "key": str(number), "bundle": f"cifar10_30{end}", "accuracy_percent": 70.0} for number, end in enumerate(("", "-blind", "-seed1"))]
    path.write_text(json.dumps({"rows": kept}))
    command.main(["--codecs", "cifar10_30", "--stored", "--images", "60", "--draws", "1", "--runs", str(tmp_path), "--json", str(path)])
    *rest, mean = json.loads(path.read_text())["rows"]
    assert rest == kept and (mean["seeds"], mean["bundle"]) == (2, "cifar10_30")
    assert "not trained" not in capsys.readouterr().out


def test_rows_of_other_seeds_stay_where_only_the_first_training_is_there(few, tmp_path):
    path = tmp_path / "codecs.json"
    asked = ["--codecs", "digits", "--quick", "--images", "40", "--threads", "1", "--runs", str(tmp_path), "--json", str(path)]
    command.main(asked)
    rows = json.loads(path.read_text())["rows"]
    seeds = [{**row, "bundle": "digits-seed1", "key": f"1{row['key']}"} for row in rows if row.get("bundle") == "digits" and row.get("family") == "weaklink"]
    mean = {**seeds[0], "bundle": "elsewhere", "seeds_deviation_percent": 0.5}
    path.write_text(json.dumps({"rows": [*rows, *seeds, mean]}))
    command.main(asked)
    found = json.loads(path.read_text())["rows"]
    assert [row for row in found if row["bundle"] == "digits-seed1"] == seeds and mean in found
    assert len([row for row in found if row["bundle"] == "digits" and row["seeds"] == 2]) == len(seeds)


def test_another_seed_is_a_row_of_its_own_and_part_of_the_mean(few, tmp_path, capsys):
    """A second training is played by a copy of the first, and its bits by the same recording."""
    digits = find_bundle("digits")
    copy = tmp_path / "digits-seed1" / "bundles" / "digits-seed1" / "1"
    shutil.copytree(digits.folder, copy)
    manifest = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**manifest, "name": "digits-seed1"}))
    command.main(["--codecs", "digits", "--seeds", "2", "--quick", "--images", "40", "--threads", "1", "--runs", str(tmp_path), "--json", str(tmp_path / "codecs.json")])
    found = json.loads((tmp_path / "codecs.json").read_text())["rows"]
    means = [row for row in found if row["seeds"] == 2]
    assert len(means) == 3 * len(FEW) and all(row["seeds_deviation_percent"] == 0 for row in means)
    assert "`digits` (weaklink), 8 B, mean of 2 trainings" in capsys.readouterr().out


def test_the_mean_of_trainings_and_their_scatter():
    common = {"payload_bytes": 8, "channel": "bsc", "ber": 0.0, "erased": 0.0, "variant": "8 B", "interval_percent": 0.5}
    group = [{**common, "bundle": f"codec{end}", "accuracy_percent": accuracy} for end, accuracy in (("", 80.0), ("-seed1", 82.0), ("-blind", 10.0))]
    bursts = [{**group[0], "burst_bits": bits} for bits in (16, 64)]
    (mean,) = seed_means([*group, *bursts], "codec")
    assert (mean["accuracy_percent"], mean["seeds"]) == (81.0, 2)
    assert mean["seeds_deviation_percent"] == pytest.approx(2**0.5)


def test_ablations_with_several_trainings_show_their_means():
    row = {"dataset": "digits", "family": "weaklink", "variant": "8 B", "channel": "bsc", "ber": 0.0, "payload_bytes": 8, "on_air_bytes": 26, "seeds": 1}
    twins = [{**row, "bundle": f"digits_no_noise{end}", "accuracy_percent": 90.0} for end in ("", "-blind", "-seed1")]
    mean = {**twins[0], "variant": "8 B, mean of 2 trainings", "accuracy_percent": 91.0, "seeds": 2, "seeds_deviation_percent": 0.5}
    alone = {**row, "bundle": "digits_hard_bits", "accuracy_percent": 80.0}
    text = markdown([*twins, mean, alone])
    assert "`digits_no_noise` (weaklink), 8 B, mean of 2 trainings | 8 | 26 |" in text and "91.00" in text and "90.00" not in text
    assert "`digits_hard_bits` (weaklink), 8 B | 8 | 26 |" in text


def test_training_comes_before_measuring_from_every_seed(few, tmp_path, monkeypatch):
    asked = []

    def trained(argv):
        asked.append((argv[0], argv[argv.index("--seed") + 1] if "--seed" in argv else "0"))
        if argv[0] == "cifar10":
            raise export.TooLargeToShip("it has 9 bytes", allowed="8", fix="none")

    monkeypatch.setattr(train, "main", trained)
    monkeypatch.setattr(command, "measure", lambda *_: [])
    assert command.main(["--codecs", "cifar10", "--train", "--seeds", "2", "--runs", str(tmp_path)]) == 0
    assert asked == [("cifar10", seed) for seed in "01"]


def test_a_configuration_of_ones_own_stands_in_the_table_under_its_codec_s_name(few, tmp_path):
    (tmp_path / "own.toml").write_text('extends = "digits"\n')
    path = tmp_path / "codecs.json"
    asked = ["--codecs", str(tmp_path / "own.toml"), "--quick", "--images", "60", "--threads", "1", "--runs", str(tmp_path), "--json", str(path)]
    assert command.main(asked) == 0
    found = json.loads(path.read_text())["rows"]
    assert {row["bundle"] for row in found if row["accuracy_percent"] is not None} == {"digits", "digits-blind"}


def test_a_pattern_names_all_configurations_that_fit():
    assert rows.named(["digits_only_?", "no_such*", "cifar10"]) == ["digits_only_2", "digits_only_4", "digits_only_8", "no_such*", "cifar10"]


def test_a_seed_trains_under_a_name_of_its_own():
    config = train.with_seed(load_config("digits"), 3)
    assert (config.codec.name, config.training.seed) == ("digits-seed3", 3)


def test_rows_of_a_bundle_that_has_changed_are_not_taken_over():
    shown = [{"bundle": "codec", "bundle_files": {"encoder.bin": "new"}}]
    old = {"family": "ldpc-5g", "bundle": "codec", "variant": "4 B in 8 B", "bundle_files": {"encoder.bin": "old"}, "accuracy_percent": 1.0}
    same = {**old, "bundle_files": {"encoder.bin": "new"}, "accuracy_percent": 2.0}
    picture = {"family": "jpeg", "bundle": "codec", "variant": "quality 20", "receiver": "as trained", "accuracy_percent": 3.0}
    other = {**picture, "bundle": "elsewhere"}
    assert [row["accuracy_percent"] for row in taken_over([old, same, picture, other], shown)] == [2.0, 3.0]


def test_what_a_rival_was_not_measured_on_says_so():
    row = {"dataset": "cifar10", "family": "ldpc-5g", "bundle": "codec", "variant": "4 B in 8 B", "channel": "bsc", "ber": 0.0, "erased": 0.0, "payload_bytes": 8, "on_air_bytes": 26}
    text = markdown([{**row, "accuracy_percent": 80.0}, {**row, "ber": 0.1, "accuracy_percent": None}, {**row, "variant": "other", "accuracy_percent": None}])
    assert "| LDPC, 4 B in 8 B | 8 | 26 |" in text and "not measured" in text and "other" not in text


def test_the_front_has_no_point_that_another_one_beats():
    assert pareto([(1, 50), (2, 49), (3, 60), (3, 55), (2, 51)]) == [(1, 50), (2, 51), (3, 60)]


def test_a_quick_look_leaves_the_file_of_the_whole_run_and_its_page(few, tmp_path):
    path, page = tmp_path / "codecs.json", tmp_path / "page.md"
    path.write_text(json.dumps({"rows": [{"key": "0", "bundle": "digits", "images": 10_000, "draws": 3, "accuracy_percent": 1.0}]}))
    page.write_text("<!-- tables -->\n<!-- end of tables -->\n")
    before = path.read_bytes(), page.read_bytes()
    with pytest.raises(ConfigError, match="images 1000, draws 1: .* has rows of 10000 and 3"):
        command.main(["--codecs", "digits", "--quick", "--json", str(path), "--docs", str(page)])
    assert (path.read_bytes(), page.read_bytes()) == before


def test_a_prefix_without_a_level_has_a_row_where_protection_is_asked_of(few, tmp_path, capsys):
    path = tmp_path / "codecs.json"
    command.main(["--codecs", "digits", "--protection", "digits", "--quick", "--images", "40", "--threads", "1", "--runs", str(tmp_path), "--json", str(path)])
    found = [row for row in json.loads(path.read_text())["rows"] if row["variant"] == "1 B, no level"]
    assert {row["bundle"] for row in found} == {"digits"} and len(found) == len(FEW)
    assert "`digits` (weaklink), 1 B, no level | 1 | 19 |" in capsys.readouterr().out


def test_wrong_numbers_are_refused():
    with pytest.raises(ConfigError, match="seeds 0"):
        command.main(["--seeds", "0"])
