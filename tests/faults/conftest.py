"""The bundle and the figures that the fault tests share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.edge_server.conftest import make_bundle

FIGURES = "WEAKLINK_FAULT_FIGURES"
"""Environment variable: a file that gets one JSON object per line and fault."""


@pytest.fixture(scope="session")
def bundle_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small codec, ``toy``, in versions 1 and 2."""
    root = tmp_path_factory.mktemp("bundles")
    make_bundle(root, version=1)
    make_bundle(root, version=2)
    return root


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``figures(name=value, ...)``: prints what was measured (pytest -rP shows it) and keeps it for the table."""

    def tell(**values: object) -> None:
        row = {"fault": request.node.name.removeprefix("test_").replace("_", " "), **values}
        print(json.dumps(row))
        if FIGURES in os.environ:
            with open(os.environ[FIGURES], "a") as file:
                file.write(json.dumps(row) + "\n")

    return tell
