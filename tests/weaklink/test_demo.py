"""The demo from end to end, as a user runs it, on codecs that are quick to serve."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.device_client.tiny import make_tiny
from weaklink.demo import GRPC_BERS, UDP_BERS, main

ROOT = Path(__file__).parents[2]
FRAMES = 150


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random codecs in the places of the trained ones."""
    root = tmp_path_factory.mktemp("bundles")
    for codec_id, name in enumerate(("digits", "cifar10"), start=1):
        make_tiny(root, name, codec_id)
    return str(root)


def test_the_demo_prints_one_table_and_writes_picture_and_json(bundles, tmp_path, run_weaklink):
    file = tmp_path / "demo.json"
    done = run_weaklink(
        *("demo", "--frames", str(FRAMES), "--out", str(tmp_path), "--json", str(file)), WEAKLINK_BUNDLES=bundles
    )
    assert done.returncode == 0, done.stderr
    assert "What to try next" in done.stdout and str(tmp_path / "demo.png") in done.stdout
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.format == "PNG" and picture.width > 800
    rows = json.loads(file.read_text())["rows"]
    cells = [(row["codec"], row["transport"], row["ber"]) for row in rows]
    udp, grpc = ([("cifar10", way, ber) for ber in bers] for way, bers in (("udp", UDP_BERS), ("grpc", GRPC_BERS)))
    assert cells == [*udp, *grpc, ("digits", "udp", 0.01)]
    for row in rows:
        assert row["images"] == FRAMES
        assert row["true_ber"] == pytest.approx(row["ber"], rel=0.6, abs=1e-12)
        assert 0 <= row["accuracy_percent"] <= row["accuracy_answered_percent"] <= 100
        if row["transport"] == "udp":
            assert row["on_air_bytes"] == 26
            assert 0 <= row["header_loss_percent"] <= 5 or row["ber"] == 0.1
            assert row["estimated_ber"] == pytest.approx(row["ber"], rel=0.5, abs=2e-3)
        else:
            assert row["estimated_ber"] == pytest.approx(row["ber"]) and row["lost"] == 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the children through Linux's /proc")
def test_sigterm_stops_the_children_too(bundles):
    demo = subprocess.Popen(
        [sys.executable, "-m", "weaklink", "demo"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "WEAKLINK_BUNDLES": bundles},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (started := children(demo.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    demo.send_signal(signal.SIGTERM)
    assert demo.wait(30) == 143
    assert started
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []


def test_what_cannot_work_is_refused_before_anything_starts(bundles, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WEAKLINK_BUNDLES", str(tmp_path))
    assert main([]) == 2
    assert "there is no bundle 'cifar10'" in capsys.readouterr().err
    monkeypatch.setenv("WEAKLINK_BUNDLES", bundles)
    for wrong in (["--frames", "0"], ["--seed", "-5"]):
        assert main(wrong) == 2
        assert f"{wrong[0]} is {wrong[1]};" in capsys.readouterr().err


def test_a_codec_given_by_its_folder_is_served(bundles, tmp_path, run_weaklink):
    elsewhere, file = make_tiny(tmp_path / "mine", "parts", 9), tmp_path / "demo.json"
    done = run_weaklink(*("demo", "--frames", "5", "--codec", str(elsewhere), "--out", str(tmp_path), "--json", str(file)), WEAKLINK_BUNDLES=bundles)
    assert done.returncode == 0, done.stderr
    answered = {(row["codec"], row["images"] - row["lost"]) for row in json.loads(file.read_text())["rows"] if row["ber"] == 0}
    assert answered == {("parts", 5)}
