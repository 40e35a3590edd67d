"""A codec small enough to make in a moment: 8x8 images, 64 bits, ten classes, random weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from semantic_codec.encoder import IntegerEncoder
from semantic_codec.encoder_format import FULL, RELU, EncoderProgram, IntegerLayer, LayerShape
from semantic_codec.nn.edge import EdgeConfig, EdgeNetwork

LEVELS = (16, 32, 64)  # symbols of 1 bit: 2, 4 and 8 bytes
CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay")


def random_images() -> np.ndarray:
    """uint8 (600, 8, 8, 3)."""
    return np.random.default_rng(1).integers(0, 256, (600, 8, 8, 3), dtype=np.uint8)


def random_program(seed: int = 2) -> EncoderProgram:
    """3x8x8 -> 8x4x4 -> 16x2x2 latents of one bit."""
    rng = np.random.default_rng(seed)

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


def make_tiny(root: Path, name: str = "tiny", codec_id: int = 9) -> Path:
    """A bundle folder with random weights, and a recording of the random images with random labels."""
    torch.manual_seed(3)
    config = EdgeConfig(width=32, blocks=1, condition=8)
    network = EdgeNetwork(LEVELS[-1], {"animal": len(CLASSES)}, config)
    for head in network.heads.values():
        head.weight.data *= 8  # else all classes are about as likely, and no two answers differ
    folder = root / name / "1"
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
        "name": name,
        "version": 1,
        "codec_id": codec_id,
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
