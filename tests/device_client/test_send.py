"""``weaklink send`` as a user calls it, against a real edge."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from device_client.__main__ import main

KEYS = {
    "payload_bytes",
    "on_air_bytes",
    "ber",
    "accuracy_percent",
    "accuracy_answered_percent",
    "lost",
    "latency_p50_ms",
    "latency_p99_ms",
    "requests_per_s",
}


@pytest.fixture
def send(tiny, edge, capsys):
    """Runs the command with the tiny codec against the edge; returns (status, stdout, stderr)."""

    def run(*arguments: str, way: str = "udp", to: str | None = None):
        # Patient, unless told otherwise: no test may fail because the machine is busy.
        fixed = ["--codec", str(tiny.folder), "--transport", way, "--to", to or edge[way], "--timeout", "20"]
        status = main([*fixed, *arguments])
        return (status, *capsys.readouterr())

    return run


def metric(edge: dict[str, str], name: str) -> float:
    """Sum over all label sets."""
    with urllib.request.urlopen(f"http://{edge['http']}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))


@pytest.mark.parametrize(("way", "on_air"), [("udp", 26), ("grpc", None)])
def test_a_recording_becomes_a_table_and_json(way, on_air, send, tmp_path):
    file = tmp_path / "table.json"
    status, out, _ = send("--recording", "--device-id", "90", "--json", str(file), way=way)
    assert status == 0 and "accuracy_percent" in out
    written = json.loads(file.read_text())
    (row,) = written["rows"]
    assert written["context"]["seed"] == 0 and KEYS <= row.keys()
    assert (row["images"], row["lost"], row["payload_bytes"], row["ber"]) == (600, 0, 8, None)
    assert row["accuracy_percent"] == row["accuracy_answered_percent"]
    assert on_air is None or row["on_air_bytes"] == on_air


def test_level_count_flips_and_lost_frames_show_in_the_row(send, tmp_path):
    file = tmp_path / "table.json"
    options = ["--level", "0", "--count", "40", "--loop", "--ber", "0.2", "--retries", "0", "--timeout", "2"]
    status, _, _ = send("--recording", "--device-id", "91", *options, "--json", str(file))
    (row,) = json.loads(file.read_text())["rows"]
    assert status == 0
    assert (row["images"], row["level"], row["payload_bytes"], row["on_air_bytes"], row["ber"]) == (40, 0, 2, 20, 0.2)
    assert row["lost"] > 5  # a BER of 0.2 is beyond what raw frames are for
    assert row["accuracy_percent"] <= row["accuracy_answered_percent"]


def test_images_are_answered_one_by_one(send, tmp_path, images, tiny):
    for n, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        Image.fromarray(images[n]).save(tmp_path / name / "photo.png")
    status, out, _ = send(str(tmp_path), way="grpc")
    assert status == 0
    for name in ("ant", "bee"):
        (line,) = [line for line in out.splitlines() if line.startswith(str(tmp_path / name / "photo.png: "))]
        assert line.split(": ")[1].split()[0] in tiny.manifest.tasks[0].classes
    assert "accuracy_percent" in out


def test_an_image_that_cannot_be_read_ends_the_run_with_what_was_sent(send, tmp_path, images):
    file, broken = tmp_path / "table.json", tmp_path / "c.png"
    for n, name in enumerate("abd"):
        Image.fromarray(images[n]).save(tmp_path / f"{name}.png")
    broken.write_text("not an image")
    status, out, err = send(str(tmp_path), "--json", str(file), "--device-id", "95")
    assert status == 2 and err.startswith(f"error: {broken} cannot be read")
    assert str(tmp_path / "b.png: ") in out and "latency_p50_ms" in out and "d.png" not in out
    assert [(row["images"], row["lost"]) for row in json.loads(file.read_text())["rows"]] == [(2, 0)]


def test_nothing_but_an_image_that_cannot_be_read_is_no_table(send, tmp_path):
    (tmp_path / "broken.png").write_text("not an image")
    status, out, err = send(str(tmp_path))
    assert (status, out) == (2, "") and "broken.png cannot be read" in err


@pytest.mark.parametrize("way", ["udp", "grpc"])
def test_feedback_reaches_the_edges_accuracy_metrics(way, send, edge):
    before = metric(edge, "weaklink_predictions_total")
    status, _, _ = send("--recording", "--count", "50", "--device-id", "92", "--feedback", edge["grpc"], way=way)
    assert status == 0
    assert metric(edge, "weaklink_predictions_total") - before == 50


def test_feedback_that_reaches_nobody_is_a_warning(send):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, _, err = send("--recording", "--count", "5", "--device-id", "94", "--feedback", address)
    assert status == 0
    assert f"warning: 5 of 5 feedbacks to {address} failed; the last: the edge at {address} cannot be reached" in err


def test_a_loop_at_a_steady_rate_reports_and_stops_on_sigterm(tiny, edge, tmp_path):
    file = tmp_path / "table.json"
    device = subprocess.Popen(
        [sys.executable, "-m", "weaklink", "send", "--recording", "--loop", "--codec", str(tiny.folder)]
        + ["--to", edge["udp"], "--rate", "100", "--timeout", "20", "--status-every", "0.3", "--device-id", "93", "--json", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    lines = [device.stderr.readline() for _ in range(3)]
    device.send_signal(signal.SIGTERM)
    out, err = device.communicate(timeout=20)
    assert device.returncode == 0, err
    assert all("sent, 0 lost, accuracy" in line for line in lines)
    (row,) = json.loads(file.read_text())["rows"]
    assert row["images"] > 20 and row["lost"] == 0
    assert row["requests_per_s"] < 130
    assert "requests_per_s" in out


@pytest.mark.parametrize(("way", "kind"), [("udp", socket.SOCK_DGRAM), ("grpc", socket.SOCK_STREAM)])
def test_an_unreachable_edge_is_one_clear_line_and_status_2(way, kind, send):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    status, _, err = send("--recording", "--timeout", "0.2", "--retries", "1", way=way, to=address)
    assert status == 2
    assert err.startswith("error: none of the first") and address in err and "fix: start `weaklink serve`" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to send"),
        (["photo.png", "--recording"], "given together"),
        (["nowhere.png"], "nowhere.png"),
        (["--recording", "--level", "7"], "level 7"),
        (["--recording", "--ber", "0.7"], "0 to 0.5"),
        (["--recording", "--ber", "nan"], "0 to 0.5"),
        (["--recording", "--ber-estimate", "0.1"], "--transport grpc"),
        (["--recording", "--rate", "0"], "--rate is 0.0"),
        (["--recording", "--count", "-1"], "--count is -1"),
        (["--recording", "--window", "100"], "1 to 64"),
        (["--recording", "--device-id", "70000"], "0 to 65535"),
        (["--recording", "--to", "somewhere"], "HOST:PORT"),
        (["--recording", "--feedback", "somewhere"], "HOST:PORT"),
        (["--recording", "--codec", "tinny"], "no bundle 'tinny'"),
        (["--recording", "--to", "127.0.0.1:9", "--json", str(Path(__file__) / "table.json")], "cannot write"),
    ],
)
def test_what_cannot_work_is_refused_with_the_fix(arguments, words, send):
    status, _, err = send(*arguments)
    assert status == 2
    assert err.startswith("error: ") and words in err and "fix: " in err


def test_a_ber_estimate_outside_its_range_is_refused(send):
    status, _, err = send("--recording", "--ber-estimate", "0.7", way="grpc")
    assert status == 2 and "0 to 0.5" in err
