from __future__ import annotations

import json

import pytest

from benchmarks import serial


def test_writes_a_row_for_every_measurement(tmp_path, capsys):
    path = tmp_path / "serial.json"
    assert serial.main(["--frames", "30", "--noise-bytes", "3000", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["context"]["seed"] == serial.SEED
    assert {row["measurement"] for row in result["rows"]} == set(serial.COLUMNS)
    for row in result["rows"]:
        if row["measurement"] == "found" and row["ber"] <= 0.01:
            assert row["found_percent"] == 100 and row["wrong_frames"] == 0
    assert "byte_insertion" in capsys.readouterr().out


def test_refuses_no_frames_and_shows_help(capsys):
    for flag in ("--frames", "--noise-bytes"):
        with pytest.raises(SystemExit) as refused:
            serial.main([flag, "0"])
        assert refused.value.code == 2 and f"{flag} is 0; allowed: 1 or more" in capsys.readouterr().err
    with pytest.raises(SystemExit) as helped:
        serial.main(["--help"])
    assert helped.value.code == 0 and "--noise-bytes" in capsys.readouterr().out
