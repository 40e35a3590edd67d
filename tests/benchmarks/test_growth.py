from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import growth
from semantic_codec.errors import ConfigError


def test_the_table(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(growth, "WARM_UP_S", 0.2)
    file, page = tmp_path / "growth.json", tmp_path / "page.md"
    page.write_text("before\n<!-- growth -->\n<!-- end of growth -->\nafter\n")
    small = ["--devices", "3", "--bundles", "2", "--queue-s", "0.5", "--seconds", "0.5", "--turns", "2"]
    assert growth.main([*small, "--json", str(file), "--docs", str(page)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(row["grows"], row["count"]) for row in rows] == [
        ("devices", 3), ("bundles, one asked", 2), ("bundles, all asked", 2), ("seconds of a full queue", 0.5)
    ]  # fmt: skip
    assert all(row["answered_per_s"] > 0 and row["memory_mb"] > 10 for row in rows)
    assert all(row["server_cpu_us_per_request"] > 0 for row in rows)
    assert not any(row["refused_per_s"] for row in rows[:-1])  # of the last one's the more stay with their sender
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after") and len(lines) == 4 + 2 + len(rows)
    assert lines[4].startswith(f"| devices | 3 | {rows[0]['answered_per_s']:,.0f} | 0 | ")


def test_what_cannot_be(tmp_path: Path):
    with pytest.raises(ConfigError, match="bundles"):
        growth.main(["--bundles", "64", "--json", str(tmp_path / "x.json")])
