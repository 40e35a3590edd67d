"""A bundle that went bad on disk and is reloaded under load: what served goes on serving, and the reason is told."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.edge_server.conftest import make_bundle
from tests.faults.clients import blocking_stub, infer_request
from tests.faults.edge import PATIENCE_S, Edge, wait_until

pytestmark = pytest.mark.timeout(600)  # on a machine that is busy with something else, too
WEIGHTS, MANIFEST, ENCODER = "edge.safetensors", "bundle.json", "encoder.bin"


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def cut_in_half(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return cut


def zeros(folder: Path) -> None:
    """What a file system may leave of a file that was never synced."""
    (folder / MANIFEST).write_bytes(bytes((folder / MANIFEST).stat().st_size))


def no_encoder(folder: Path) -> None:
    (folder / ENCODER).unlink()


def no_tensors_but_the_right_hash(folder: Path) -> None:
    """Written wrong, not damaged later: only the runtime can tell."""
    (folder / WEIGHTS).write_bytes(b"\0" * 64)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][WEIGHTS] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


DAMAGES = (flip_a_bit, cut_in_half(WEIGHTS), cut_in_half(MANIFEST), zeros, no_encoder, no_tensors_but_the_right_hash)


def test_bundle_corrupted_on_disk_and_reloaded(tmp_path: Path, figures):
    root = tmp_path / "bundles"
    folder = make_bundle(root)
    shutil.copytree(folder, tmp_path / "good")
    with Edge(tmp_path, root, engines=1, deadline_s=PATIENCE_S) as edge, blocking_stub(edge) as stub:

        def confidence() -> float:
            return stub.Infer(infer_request()).results[0].top[0].confidence

        def reloads(outcome: str) -> float:
            return edge.samples()["weaklink_reloads_total", ("bundles", outcome)]

        def reload(outcome: str) -> None:
            expected = reloads(outcome) + 1
            edge.process.send_signal(signal.SIGHUP)
            wait_until(lambda: reloads(outcome) == expected, f"the reload is counted as {outcome}")

        right, answered, failed = confidence(), 0, []
        stop = threading.Event()

        def load() -> None:
            nonlocal answered
            while not stop.is_set():
                try:
                    assert confidence() == pytest.approx(right, abs=1e-6)
                    answered += 1
                except (AssertionError, grpc.RpcError) as error:
                    failed.append(error)

        loading = threading.Thread(target=load)
        loading.start()
        reasons = []
        try:
            for damage in DAMAGES:
                damage(folder)
                reload("failed")
                (refused,) = json.loads(edge.get("/readyz"))["refused"]
                reasons.append(refused["reason"])
                shutil.rmtree(folder)
                shutil.copytree(tmp_path / "good", folder)
            reload("ok")
        finally:
            stop.set()
            loading.join()
        assert not json.loads(edge.get("/readyz"))["refused"]
        assert not failed and answered
        assert set(edge.requests()) == {"ok"}
        assert edge.stop() == 0 and "Traceback" not in edge.log()
    assert all("; fix: " in reason for reason in reasons), reasons
    figures(damages=len(DAMAGES), answered_meanwhile=answered, failed=0)
