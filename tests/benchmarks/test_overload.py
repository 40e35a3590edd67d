"""More than an edge node can answer: nothing is lost unseen, and memory stays where it was."""

from __future__ import annotations

import json

import pytest

from benchmarks import overload
from semantic_codec.errors import ConfigError

MORE_MEMORY_MB = 100
"""What the queue, the frames that wait and the answers that are remembered may take."""


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a machine that is busy with something else, too
def test_ten_times_the_capacity(tmp_path):
    path, page = tmp_path / "overload.json", tmp_path / "page.md"
    page.write_text("before\n<!-- overload -->\n<!-- end of overload -->\nafter\n")
    assert overload.main(["--minutes", "0.2", "--seconds", "3", "--json", str(path), "--docs", str(page)]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert sum(row["frames"].values()) == row["sent"], "every frame has one outcome"
    assert sum(row["requests"].values()) == row["frames"]["ok"], "and so has every request"
    assert set(row["requests"]) <= {"ok", "queue_full", "deadline_exceeded"} and row["requests"]["ok"]
    # A duplicate is one of the frames that a fast sender sends again before as many as are remembered were read.
    assert set(row["frames"]) <= {"ok", "overflow", "rate_limited", "dropped_by_kernel", "duplicate"}
    assert row["memory_most_mb"] < row["memory_start_mb"] + MORE_MEMORY_MB
    assert page.read_text().count("| `cifar10` |") == 1
    print({name: row[name] for name in ("capacities_per_s", "offered_per_s", "goodput_per_s", "goodput_share", "frames", "requests")})


def test_numbers_that_cannot_be():
    with pytest.raises(ConfigError, match="negative or 0"):
        overload.main(["--times", "0"])
