"""Shared by all tests: the repository's root, and the command line as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# A machine that is busy with something else must not fail a property.
settings.register_profile("weaklink", deadline=None)
settings.load_profile("weaklink")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def run_weaklink() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``python -m weaklink ARGUMENTS`` in a process of its own and returns it with its output, never raising."""

    def run(*arguments: str, cwd: Path = ROOT, timeout: float = 60, **environment: str):
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        return subprocess.run(
            [sys.executable, "-m", "weaklink", *arguments],
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    return run
