"""`make help` is complete, and the commands of CI and README exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def make(*arguments: str, timeout: float = 30) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=timeout
    ).stdout


def test_help_lists_every_target_with_its_line():
    listed = re.findall(r"^  make (\S+) +\S", make("help"), re.MULTILINE)
    assert listed == re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, re.MULTILINE)


def test_no_target_shows_the_help():
    assert make() == make("help")


def test_all_tests_are_the_fast_the_slow_and_the_compose_ones():
    marks = re.findall(r'-m "?(not slow and not compose|slow|compose)"? ', make("--dry-run", "test"))
    assert marks == ["not slow and not compose", "slow", "compose"]


def test_a_missing_python_is_named(tmp_path):
    (tmp_path / "Makefile").write_text(MAKEFILE)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    ended = subprocess.run(
        ["make", "install", "PYTHON=python0.0"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 2
    assert "error: no python0.0 on PATH; fix: " in ended.stderr


@pytest.mark.timeout(700)
def test_firmware_builds_both_boards(tmp_path):
    for tool in ("arm-none-eabi-gcc", "arm-none-eabi-size"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}, which is not on PATH")
    (stamp := tmp_path / "installed").touch()  # this interpreter has the package already
    made = tmp_path / "firmware"
    make("firmware", "CODEC=digits", f"FIRMWARE={made}", f"RUN={sys.executable}", f"STAMP={stamp}", timeout=600)
    for board in ("f405", "m7"):
        assert (made / "build" / f"weaklink-{board}.elf").read_bytes().startswith(b"\x7fELF")


@pytest.mark.parametrize("name", [".ci/run"])
def test_scripts_are_executable(name):
    assert os.access(ROOT / name, os.X_OK)
