"""Interpreters, and boards: folders that stand for a board's file system."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.device_client.micropython import interpreters

BUNDLES = Path(__file__).parents[3] / "bundles"


@pytest.fixture(scope="session", params=["node", "binary"])
def interpreter(request) -> interpreters.Interpreter:
    """Each MicroPython that there is."""
    try:
        return getattr(interpreters, request.param)()
    except interpreters.Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def board(tmp_path) -> Path:
    """A board with the package and the `digits` bundle, as docs/micropython.md has them copied."""
    shutil.copytree(interpreters.PACKAGE, tmp_path / "weaklink", ignore=shutil.ignore_patterns("__pycache__"))
    install_bundle("digits", tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def board_module() -> Callable:
    """The device's modules under CPython, by name: far faster than MicroPython where many cases are tried."""
    # Under a name of its own, because the command line's package is also called weaklink.
    name = "weaklink_of_the_board"
    spec = importlib.util.spec_from_file_location(
        name, interpreters.PACKAGE / "errors.py", submodule_search_locations=[str(interpreters.PACKAGE)]
    )
    sys.modules[name] = importlib.util.module_from_spec(spec)
    # CPython frees memory without being told to, and collecting all that the tests have loaded takes long.
    importlib.import_module(f"{name}.plain").gc = SimpleNamespace(collect=lambda: None)
    return lambda module: importlib.import_module(f"{name}.{module}")


def install_bundle(name: str, board: Path) -> None:
    """Copy what a device needs of the newest bundle; skips the test where there is none."""
    versions = sorted((BUNDLES / name).glob("*/encoder.bin"), key=lambda path: int(path.parent.name))
    if not versions:
        pytest.skip(f"this checkout has no bundle {name}")
    (board / name).mkdir()
    for file in ("bundle.json", "encoder.bin"):
        shutil.copy(versions[-1].parent / file, board / name / file)
