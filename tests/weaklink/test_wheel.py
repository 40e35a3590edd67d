"""A wheel carries the packages and the bundles, found from any working directory, and neither tests nor deploy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(built), str(source)], check=True, timeout=100, stdin=subprocess.DEVNULL)
    return next(built.glob("weaklink-*.whl"))


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {
        "weaklink", "semantic_codec", "device_client", "channel_emulator", "edge_server", "codec_training", "benchmarks",
        "bundles",
    }  # fmt: skip
    committed = {str(path.relative_to(ROOT)) for path in (ROOT / "bundles").rglob("*") if path.is_file()}
    assert committed and committed <= set(names)


def test_an_installed_copy_finds_its_bundles_from_any_folder(wheel, tmp_path):
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, timeout=100, stdin=subprocess.DEVNULL)
    environment = {name: value for name, value in os.environ.items() if name != "WEAKLINK_BUNDLES"}
    listed = subprocess.run(
        [sys.executable, str(target / "bin" / "weaklink"), "codecs", "--json", "codecs.json"],
        cwd=elsewhere, env=environment | {"PYTHONPATH": str(target)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    assert "digits" in listed.stdout and "cifar10" in listed.stdout
    assert str(target / "bundles") in (elsewhere / "codecs.json").read_text()
