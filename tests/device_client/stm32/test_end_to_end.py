"""An emulated STM32 on a noisy serial line to the real edge: every byte, and as right as the evaluation says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks import device
from benchmarks.emulated_board import emulated_board
from codec_training.datasets import load_dataset
from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import find_bundle
from semantic_codec.encoder import IntegerEncoder
from tests.conftest import ROOT
from tests.device_client.stm32.conftest import need

BER, LEVEL, WAIT_MS = 0.01, 2, 300


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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_digits_over_a_noisy_line(tmp_path):
    """The whole test split; `weaklink evaluate` gives the accuracy to compare with, at the same BER and level."""
    for tool in device.TOOLS:
        need(tool)
    bundle, split = find_bundle("digits"), load_dataset("digits").test
    encoder = IntegerEncoder.from_bytes(bundle.encoder_bin)
    streams = pack_symbols(encoder.encode(split.images), encoder.bits_per_symbol)
    firmware = device.build(bundle, tmp_path, "f405")
    ports = [f"--{name}-port=0" for name in ("grpc", "udp", "http", "serial")]
    answered = right = 0
    with (
        service("serve", *ports, "--bundles", str(bundle.folder.parents[1])) as edge,
        service("emulate", "--control-port=0") as emulator,
        emulated_board("f405", firmware, f"tcp:{add_link(emulator['control'], edge['serial'])}") as board,
    ):
        for number, (image, stream, label) in enumerate(zip(split.images, streams, split.labels, strict=True)):
            found, _, reply = board.infer(image.tobytes(), 7, number, LEVEL, WAIT_MS)
            assert found == stream.tobytes()
            answered += reply is not None and reply.status == 0
            right += reply is not None and reply.status == 0 and reply.class_index == label
    rows = bundle.manifest.accuracy
    expected = next(row["accuracy_percent"] for row in rows if row["level"] == LEVEL and row["ber"] == BER)
    assert answered >= 0.97 * len(split.images)
    # Three standard errors of so many images, the split being the same.
    margin = 300 * np.sqrt(expected / 100 * (1 - expected / 100) / answered)
    assert 100 * right / answered == pytest.approx(expected, abs=margin)
