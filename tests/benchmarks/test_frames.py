from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import frames


def test_writes_a_row_for_every_measurement(tmp_path, capsys):
    path = tmp_path / "frames.json"
    assert frames.main(["--frames", "60", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["context"]["seed"] == frames.SEED
    assert {row["measurement"] for row in result["rows"]} == set(frames.COLUMNS)
    for row in result["rows"]:
        if row["measurement"] == "header" and row["ber"] < 0.05 and row["channel"] == "bsc":
            assert row["header_read_percent"] == 100
    assert "gilbert-elliott" in capsys.readouterr().out


def test_bursts_have_the_stated_mean_and_length():
    errors = frames.bursts(np.random.default_rng(1), (4000, 400))
    assert errors.mean() == pytest.approx(0.01, rel=0.1)
    # The next bit is wrong too where the burst goes on, 15/16, and its flip comes out so, 1/2.
    again = (errors[:, 1:] & errors[:, :-1]).sum() / errors[:, :-1].sum()
    assert again == pytest.approx(15 / 32, rel=0.05)


def test_refuses_no_frames_and_shows_help(capsys):
    with pytest.raises(SystemExit) as refused:
        frames.main(["--frames", "0"])
    assert refused.value.code == 2 and "allowed: 1 or more" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        frames.main(["--seed", "-1"])
    assert refused.value.code == 2 and "--seed is -1; allowed: 0 or more" in capsys.readouterr().err
    with pytest.raises(SystemExit) as helped:
        frames.main(["--help"])
    assert helped.value.code == 0 and "--frames" in capsys.readouterr().out
