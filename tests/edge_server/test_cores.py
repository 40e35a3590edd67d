"""Cores that a process may keep busy, and how the engines' threads share them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edge_server.cores import usable_cores
from edge_server.settings import Settings


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "unreadable\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_a_container_s_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores(tmp_path) == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason=f"no affinity on {sys.platform}")
def test_this_process_has_a_core():
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "cores, engines, threads",
    [(1, 1, 1), (2, 1, 1), (4, 1, 3), (16, 1, 15), (1, 0, 1), (2, 0, 1), (16, 0, 15), (2, 2, 1), (4, 2, 1), (16, 3, 5), (4, 8, 1)],
)
def test_one_core_is_the_server_s_and_the_engines_share_the_others(
    monkeypatch: pytest.MonkeyPatch, cores: int, engines: int, threads: int
):
    monkeypatch.setattr("edge_server.settings.usable_cores", lambda: cores)
    assert Settings(engines=engines).compute_threads == threads
    assert Settings(engines=engines, threads=7).compute_threads == 7
