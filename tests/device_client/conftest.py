"""A real edge and a real link emulator as processes, over a bundle small enough to make in a moment."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from channel_emulator.control_client import call
from semantic_codec.bundle import Bundle, load_bundle
from tests.device_client.tiny import make_tiny, random_images
from weaklink.processes import Service


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Codec "tiny", with a recording of 600 random images."""
    return load_bundle(make_tiny(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """uint8 (600, 8, 8, 3)."""
    return random_images()


@pytest.fixture(scope="session")
def edge(tiny: Bundle) -> Iterator[dict[str, str]]:
    """Addresses of an edge that serves the codec."""
    root = str(tiny.folder.parents[1])
    ports = ["--grpc-port", "0", "--udp-port", "0", "--http-port", "0", "--serial-port", "0", "--threads", "1"]
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
