"""Emulated STM32s on noisy serial lines to the real edge: every byte, and as right as `weaklink evaluate` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks import device
from benchmarks.emulated_board import BoardReply, emulated_board
from codec_training.datasets import data_folder, load_dataset
from codec_training.evaluate import evaluate, record
from semantic_codec.bundle import find_bundle
from tests.conftest import ROOT
from tests.device_client.stm32.conftest import need

BER, BOARDS, WAIT_MS = 0.01, 2, 20_000
IMAGES = {"cifar10": 1000, "digits": 450}


@contextmanager
def service(*arguments: str) -> Iterator[dict[str, str]]:
    """A command of ours and what it says when it listens."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "weaklink", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def add_link(control: str, upstream: str) -> str:
    """A serial link with flips both ways; returns where it listens."""
    channel = [{"channel": "bsc", "ber": BER}]
    link = {"name": "line", "kind": "serial", "listen": "127.0.0.1:0", "upstream": upstream, "up": channel, "down": channel}
    request = urllib.request.Request(
        f"http://{control}/links", json.dumps(link).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)["listen"]


def data_set() -> str:
    """CIFAR-10 where it is at hand, else digits, which comes with scikit-learn."""
    has_cifar = any((data_folder(None) / name).exists() for name in ("cifar10_test.npz", "cifar-10-batches-py"))
    return "cifar10" if has_cifar else "digits"


def send_all(firmware: Path, line: str, number: int, images: np.ndarray, streams: np.ndarray, level: int) -> list[BoardReply | None]:
    """One board sends these images; its replies. AssertionError: a byte of a bitstream is not the reference's."""
    replies = []
    # In real time: counted instructions would make a wait for the edge longer than it is.
    with emulated_board("f405", firmware, f"tcp:{line}", timeout=120, shift=None) as board:
        for sequence, (image, stream) in enumerate(zip(images, streams, strict=True)):
            found, _, reply = board.infer(image.tobytes(), number, sequence, level, WAIT_MS)
            assert found == stream.tobytes(), f"image {sequence} of device {number}"
            replies.append(reply)
    return replies


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_images_over_a_noisy_line(tmp_path):
    for tool in device.TOOLS:
        need(tool)
    name = data_set()
    bundle, split = find_bundle(name), load_dataset(name).test.take(np.arange(IMAGES[name]))
    reference, level = record(bundle, split.images, split.labels), bundle.manifest.levels[-1].number
    firmware = device.build(bundle, tmp_path, "f405")
    ports = [f"--{each}-port=0" for each in ("grpc", "udp", "http", "serial")]
    parts = np.array_split(np.arange(len(split.labels)), BOARDS)
    with (
        service("serve", *ports, "--bundles", str(bundle.folder.parents[1])) as edge,
        service("emulate", "--control-port=0") as emulator,
        ThreadPoolExecutor(BOARDS) as pool,
    ):
        line = add_link(emulator["control"], edge["serial"])
        sent = [
            pool.submit(send_all, firmware, line, 7 + index, split.images[part], reference.bitstreams[part], level)
            for index, part in enumerate(parts)
        ]
        replies = [reply for each in sent for reply in each.result()]
    answered = np.array([reply is not None and reply.status == 0 for reply in replies])
    right = np.array([reply is not None and reply.class_index == label for reply, label in zip(replies, split.labels, strict=True)])
    assert answered.mean() >= 0.99
    (expected,) = (row["accuracy_percent"] for row in evaluate(bundle, reference, [BER]) if row["level"] == level)
    # Two standard errors of so many images; they are the same images, so only the flips differ.
    margin = 200 * np.sqrt(expected / 100 * (1 - expected / 100) / answered.sum())
    assert 100 * (right & answered).sum() / answered.sum() == pytest.approx(expected, abs=margin)
