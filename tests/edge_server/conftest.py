"""A real server on ephemeral ports, over bundles small enough to make in a moment."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import grpc
import numpy as np
import pytest
import safetensors.torch
import torch

from edge_server.server import EdgeServer
from edge_server.settings import Settings
from semantic_codec.bundle import Bundle, load_bundle
from semantic_codec.nn.edge import EdgeConfig, EdgeNetwork
from tests.device_client.tiny import random_program
from weaklink.v1 import edge_pb2_grpc

LEVELS = (16, 32, 64)  # symbols of 1 bit: 2, 4 and 8 bytes


def make_bundle(root: Path, name: str = "toy", version: int = 1, codec_id: int = 5, **changes) -> Path:
    """A bundle with random weights, two tasks and an accuracy table that favours level 1 up to a BER of 1e-2."""
    torch.manual_seed(codec_id * 100 + version)
    tasks = {"shape": 10, "colour": 3}
    config = EdgeConfig(width=32, blocks=1, condition=8)
    network = EdgeNetwork(LEVELS[-1], tasks, config)
    for head in network.heads.values():
        head.weight.data *= 8  # else all classes are about as likely, and no two answers differ
    folder = root / name / str(version)
    folder.mkdir(parents=True)
    (folder / "encoder.bin").write_bytes(random_program(codec_id * 100 + version).to_bytes())
    weights = {key: tensor.to(torch.bfloat16) for key, tensor in network.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "edge.safetensors")
    hashed = ("encoder.bin", "edge.safetensors")
    files = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in hashed}
    accuracy = [
        {"ber": ber, "level": level, "accuracy_percent": percent}
        for ber, row in ((0.0, (80, 90, 90.5)), (1e-2, (78, 89.6, 90.2)), (0.1, (60, 70, 88)))
        for level, percent in enumerate(row)
    ]
    manifest = {
        "schema_version": 1,
        "name": name,
        "version": version,
        "codec_id": codec_id,
        "family": "weaklink",
        "tasks": [{"name": task, "classes": [f"{task}-{n}" for n in range(count)]} for task, count in tasks.items()],
        "height": 8,
        "width": 8,
        "symbols": LEVELS[-1],
        "bits_per_symbol": 1,
        "levels": list(LEVELS),
        "ber_min": 0.0,
        "ber_max": 0.2,
        "blind_ber": 0.02,
        "files": files,
        "edge": asdict(config),
        "calibration": {"ber": [0.0, 0.1], "temperature": [[1.0, 2.0], [1.1, 1.9], [1.2, 1.8]]},
        "encoder": {},
        "accuracy": accuracy,
        "training": {},
        **changes,
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(autouse=True)
def no_lame_duck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_server.server.LAME_DUCK_S", 0.0)


@pytest.fixture(scope="session")
def bundle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One codec, ``toy``, in versions 1 and 2."""
    root = tmp_path_factory.mktemp("bundles")
    make_bundle(root, version=1)
    make_bundle(root, version=2)
    return root


@pytest.fixture(scope="session")
def bundle(bundle_root: Path) -> Bundle:
    """Version 2, the newest."""
    return load_bundle(bundle_root / "toy" / "2")


@pytest.fixture(scope="session")
def bitstreams() -> np.ndarray:
    """uint8 (100, 8): random bits at the longest level."""
    return np.random.default_rng(0).integers(0, 256, (100, LEVELS[-1] // 8), dtype=np.uint8)


@contextlib.asynccontextmanager
async def running(
    bundle_root: Path, clock: Callable[[], float] = time.monotonic, **settings
) -> AsyncIterator[tuple[EdgeServer, dict[str, str]]]:
    """A server on free ports and its addresses, drained at the end."""
    free = {"grpc_port": 0, "udp_port": 0, "http_port": 0, "engines": 0, "threads": 1}
    server = EdgeServer(Settings(bundles=(bundle_root,), **(free | settings)), clock=clock)
    addresses = await server.startup()
    try:
        yield server, asdict(addresses)
    finally:
        await server.shutdown()


@contextlib.asynccontextmanager
async def grpc_stub(address: str) -> AsyncIterator[edge_pb2_grpc.EdgeInferenceStub]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield edge_pb2_grpc.EdgeInferenceStub(channel)


async def until(condition: Callable[[], bool]) -> None:
    """TimeoutError where ``condition`` does not come true within 30 s."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def sample(server: EdgeServer, name: str, **labels: str) -> float:
    """A metric's value; 0 where it was never counted."""
    return server.metrics.registry.get_sample_value(name, labels) or 0.0


def has_ipv6() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
