"""More than an edge node can answer, through every door: nothing is lost unseen, and memory stays where it was."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks import overload
from semantic_codec.errors import ConfigError

MORE_MEMORY_MB = 150
"""What the queue, thousands of connections, the frames that wait and the answers that are remembered may take."""
NEEDS_H2LOAD = pytest.mark.skipif(shutil.which("h2load") is None, reason="the load generator h2load (nghttp2-client) is not installed")


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a machine that is busy with something else, too
@pytest.mark.parametrize("door", ["stream", "udp", pytest.param("http", marks=NEEDS_H2LOAD)])
def test_ten_times_the_capacity(door: str, tmp_path, monkeypatch):
    monkeypatch.setattr(overload, "RAMP_S", 1.0)
    path, page = tmp_path / "overload.json", tmp_path / "page.md"
    page.write_text("before\n<!-- overload -->\n<!-- end of overload -->\nafter\n")
    arguments = ["--doors", door, "--bundles", "cifar10", "--seconds", "2", "--capacity-seconds", "1"]
    assert overload.main([*arguments, "--json", str(path), "--docs", str(page)]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert row["requests"]["ok"] and set(row["requests"]) <= {"ok", "queue_full", "deadline_exceeded"}
    if door == "udp":
        assert sum(row["frames"].values()) == row["sent"], "every frame has one outcome"
        # A duplicate is one of the frames that a fast sender sends again before as many as are remembered were read.
        assert set(row["frames"]) <= {"ok", "overflow", "rate_limited", "dropped_by_kernel", "duplicate"}
        assert row["goodput_share_beside_sender"] == row["goodput_per_s"] / row["capacity_beside_sender_per_s"]
    assert row["memory_most_mb"] < row["memory_start_mb"] + MORE_MEMORY_MB
    assert page.read_text().count("| `cifar10` |") == len(overload.DOORS) and page.read_text().count("not measured") == len(overload.DOORS) - 1
    print({name: row[name] for name in ("capacities_per_s", "asked_per_s", "goodput_per_s", "goodput_share", "requests")})


def test_rows_of_what_is_not_measured_stay(tmp_path):
    path = tmp_path / "overload.json"
    assert overload.kept_rows(path, lambda row: True) == []
    path.write_text(json.dumps({"rows": [{"door": "udp"}, {"door": "http"}]}))
    assert overload.kept_rows(path, lambda row: row["door"] == "udp") == [{"door": "http"}]


def test_numbers_that_cannot_be():
    with pytest.raises(ConfigError, match="negative or 0"):
        overload.main(["--times", "0"])
