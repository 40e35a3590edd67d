from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.runtimes import main
from semantic_codec.errors import ConfigError


def test_the_table_compares_with_eager_and_carries_its_context(tmp_path: Path, capsys: pytest.CaptureFixture):
    file = tmp_path / "runtimes.json"
    small = ["--codecs", "digits", "--runtimes", "eager-bf16", "--repeats", "1", "--images", "64"]
    assert main([*small, "--json", str(file)]) == 0
    assert "eager-bf16" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert {"commit", "machine", "versions", "date", "seed"} <= written["context"].keys()
    reference, rounded = written["rows"]
    assert (reference["runtime"], rounded["runtime"]) == ("eager", "eager-bf16")
    assert reference["max_confidence_difference"] == 0 < rounded["max_confidence_difference"] < 0.1
    assert all(reference[f"batch_{batch}_ms"] > 0 for batch in (1, 8, 64))
    assert reference["accuracy_percent"] > 80


def test_too_few_images_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="images 3"):
        main(["--images", "3", "--json", str(tmp_path / "x.json")])
