"""Tables and the JSON beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from semantic_codec import report
from semantic_codec.errors import ConfigError


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "tracked").write_text("one")
    git(tmp_path, "add", "tracked")
    git(tmp_path, "commit", "-q", "-m", "one")
    return tmp_path


def test_commit_of_a_clean_checkout(checkout):
    (checkout / "untracked").write_text("results")
    assert report.git_state(checkout) == (git(checkout, "rev-parse", "HEAD"), False)


def test_a_changed_tracked_file_is_dirty(checkout):
    (checkout / "tracked").write_text("two")
    assert report.git_state(checkout)[1] is True


def test_a_folder_inside_another_checkout_is_unknown(checkout):
    inside = checkout / ".venv" / "site-packages"
    inside.mkdir(parents=True)
    assert report.git_state(inside) == ("unknown", False)


def test_without_git_the_commit_is_unknown(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert report.git_state(checkout) == ("unknown", False)


def test_context_has_what_makes_a_figure_repeatable():
    context = report.context(7)
    assert context.keys() == {"commit", "dirty", "machine", "versions", "date", "seed"}
    assert context["seed"] == 7
    assert context["versions"]["numpy"] == np.__version__
    assert abs((datetime.now(UTC) - datetime.fromisoformat(context["date"])).total_seconds()) < 60
    assert context["machine"].endswith(("core", "cores"))


def test_versions_import_nothing_heavy():
    script = "import sys; from semantic_codec import report; report.context(0); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=report.ROOT, timeout=60)


def test_json_holds_context_and_plain_rows(tmp_path):
    target = tmp_path / "made" / "rows.json"
    rows = [{"ber": np.float64(0.1), "frames": np.int64(3), "codec": "digits", "lost_percent": float("nan"),
             "levels": np.array([1, 2]), "folder": Path("a/b"), "pair": (1, None)}]  # fmt: skip
    report.write_json(target, rows, seed=1)
    written = json.loads(target.read_text())
    assert written["context"]["seed"] == 1
    assert written["rows"] == [
        {"ber": 0.1, "frames": 3, "codec": "digits", "lost_percent": None, "levels": [1, 2], "folder": "a/b",
         "pair": [1, None]}
    ]  # fmt: skip


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "rows.json", tmp_path):
        with pytest.raises(ConfigError, match=f"cannot write {path}"):
            report.write_json(path, [], seed=None)


def test_a_results_file_is_tried_without_a_trace(tmp_path):
    target = tmp_path / "made" / "rows.json"
    assert report.results_file(str(target)) == target
    assert not target.exists()
    target.write_text("rows of an earlier run")
    assert report.results_file(str(target)).read_text() == "rows of an earlier run"
    for wrong in (target / "rows.json", target.parent):
        with pytest.raises(ConfigError, match=f"cannot write {wrong}"):
            report.results_file(str(wrong))


def test_a_pipe_is_not_opened_before_there_is_something_to_write(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert report.results_file(str(tmp_path / "pipe")) == tmp_path / "pipe"  # without a reader, to open it would wait for one


def test_table_aligns_numbers_to_the_right(capsys):
    rows = [
        {"codec": "cifar10", "ber": 0.05, "accuracy_percent": np.float32(87.456)},
        {"codec": "digits", "ber": 0.001, "accuracy_percent": None},
        {"codec": "x", "ber": 0.0},
    ]
    report.print_table(rows, {"codec": "codec", "ber": "BER", "accuracy_percent": "accuracy %"})
    assert capsys.readouterr().out.splitlines() == [
        "codec      BER    accuracy %",
        "-------  -----  ------------",
        "cifar10   0.05         87.46",
        "digits   0.001  not measured",
        "x            0",
    ]


def test_table_of_no_rows_keeps_its_headings():
    assert report.format_table([], ["codec", "ber"]).splitlines() == ["codec  ber", "-----  ---"]
    assert report.format_table([{"a": 1, "b": [8, 16]}]).splitlines() == ["a  b", "-  ----", "1  8/16"]
