"""A device installs NumPy and gRPC, nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BLOCKED = ("torch", "torchvision", "PIL", "numba", "jsonschema", "prometheus_client", "fastapi", "safetensors", "cryptography")


def run(code: str, *blocked: str) -> subprocess.CompletedProcess[str]:
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys\n{block}{code}"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_everything_imports_and_parses_without_the_edges_packages():
    modules = "device, feedback, grpc_transport, samples, serial_transport, udp_transport, __main__"
    done = run(f"from device_client import {modules}\nprint(__main__.parser().format_help())", *BLOCKED)
    assert done.returncode == 0, done.stderr
    assert "--recording" in done.stdout


def test_raw_frames_need_no_grpc():
    done = run("import device_client.__main__, device_client.udp_transport", *BLOCKED, "grpc", "google.protobuf")
    assert done.returncode == 0, done.stderr


def test_images_without_pillow_name_the_extra(tmp_path):
    image = tmp_path / "photo.png"
    image.write_bytes(b"")
    code = f"from device_client.samples import read_image\nread_image({str(image)!r})"
    done = run(code, "PIL")
    assert done.returncode == 1
    assert "ConfigError" in done.stderr and "pip install 'weaklink[images]'" in done.stderr
