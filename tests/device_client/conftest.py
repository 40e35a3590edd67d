"""A real edge and a real link emulator as processes, over a bundle small enough to make in a moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from channel_emulator.control_client import call
from semantic_codec.bundle import Bundle, load_bundle
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.encoder_format import FULL, RELU, EncoderProgram, IntegerLayer, LayerShape
from semantic_codec.nn.edge import EdgeConfig, EdgeNetwork
from weaklink.processes import Service

LEVELS = (16, 32, 64)  # symbols of 1 bit: 2, 4 and 8 bytes
CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Codec "tiny": 8x8 images, 64 bits, ten classes, random weights, and a recording of 600 random images."""
    return load_bundle(make_tiny(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """uint8 (600, 8, 8, 3)."""
    return random_images()


@pytest.fixture(scope="session")
def edge(tiny: Bundle) -> Iterator[dict[str, str]]:
    """Addresses of an edge that serves the codec."""
    root = str(tiny.folder.parents[1])
    ports = ["--grpc-port", "0", "--udp-port", "0", "--http-port", "0", "--threads", "1"]
    with Service(["serve", *ports, "--bundles", root]) as service:
        yield service.ready


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """Control address of a link emulator."""
    with Service(["emulate", "--control-port", "0"]) as service:
        yield service.ready["control"]


@pytest.fixture
def link(emulator: str, request: pytest.FixtureRequest):
    """``link(kind, upstream, up=[...], down=[...], seed=0)`` -> the address of a new link; all are removed at the end."""
    names = []

    def create(kind: str, upstream: str, **settings) -> str:
        names.append(f"link{len(names)}")
        return call(emulator, "POST", "/links", {"name": names[-1], "kind": kind, "upstream": upstream, **settings})["listen"]

    yield create
    for name in names:
        call(emulator, "DELETE", f"/links/{name}")


def random_images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (600, 8, 8, 3), dtype=np.uint8)


def random_program() -> EncoderProgram:
    """3x8x8 -> 8x4x4 -> 16x2x2 latents of one bit."""
    rng = np.random.default_rng(2)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-20, 21, shape).astype(np.int8)

    first = IntegerLayer(
        LayerShape(FULL, 3, 2, RELU, 3, 8),
        weights(8, 3, 3, 3),
        bias=np.zeros(8, np.int32),
        multiplier=np.full(8, 5, np.uint16),
        shift=np.full(8, 9, np.uint8),
    )
    last = IntegerLayer(
        LayerShape(FULL, 3, 2, 0, 8, 16),
        weights(16, 3, 3, 8),
        thresholds=rng.integers(-1500, 1500, (16, 1)).astype(np.int32),
        index_map=np.array([0, 1], np.uint8),
    )
    return EncoderProgram(8, 8, 1, (first, last))


def make_tiny(root: Path) -> Path:
    torch.manual_seed(3)
    config = EdgeConfig(width=32, blocks=1, condition=8)
    network = EdgeNetwork(LEVELS[-1], {"animal": len(CLASSES)}, config)
    for head in network.heads.values():
        head.weight.data *= 8  # else all classes are about as likely, and no two answers differ
    folder = root / "tiny" / "1"
    folder.mkdir(parents=True)
    encoder = random_program().to_bytes()
    (folder / "encoder.bin").write_bytes(encoder)
    symbols = IntegerEncoder.from_bytes(encoder).encode(random_images())
    labels = np.random.default_rng(4).integers(0, len(CLASSES), len(symbols))
    np.savez(folder / "recording.npz", bitstreams=np.packbits(symbols, axis=1), labels=labels)
    safetensors.torch.save_file(
        {key: tensor.to(torch.bfloat16) for key, tensor in network.state_dict().items()}, folder / "edge.safetensors"
    )
    manifest = {
        "schema_version": 1,
        "name": "tiny",
        "version": 1,
        "codec_id": 9,
        "family": "weaklink",
        "tasks": [{"name": "animal", "classes": CLASSES}],
        "height": 8,
        "width": 8,
        "symbols": LEVELS[-1],
        "bits_per_symbol": 1,
        "levels": LEVELS,
        "ber_min": 0.0,
        "ber_max": 0.2,
        "blind_ber": 0.02,
        "files": {
            file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in ("encoder.bin", "edge.safetensors")
        },
        "edge": asdict(config),
        "calibration": {"ber": [0.0, 0.1], "temperature": [[1.0, 2.0], [1.1, 1.9], [1.2, 1.8]]},
        "encoder": {},
        "accuracy": [],
        "training": {},
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder
