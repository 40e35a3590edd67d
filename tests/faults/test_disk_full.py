"""No room left on the disk: the server says so, serves on, and catches up once there is room."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from semantic_codec.bundle import load_bundle
from semantic_codec.keyed import DeviceKey
from semantic_codec.keyed_reply import read_keyed_reply
from semantic_codec.reply import ReplyStatus
from tests.faults.clients import blocking_stub, infer_request, keyed_frame, udp_socket
from tests.faults.edge import Edge, wait_until
from tests.semantic_codec.test_key_file import ONE, secret

pytestmark = pytest.mark.timeout(600)  # on a machine that is busy with something else, too

KEY = DeviceKey.from_hex(ONE)
FRAMES = 400
RECORD_BYTES = 12  # of the replay file


def test_disk_full_at_the_replay_file(bundle_root: Path, tmp_path: Path, figures):
    """Writing fails from the hundredth record on; every frame is answered, replays are still refused, and once there is
    room the file holds what the window must remember."""
    keys, bundle = secret(tmp_path / "keys.toml", f'7 = "{ONE}"\n'), load_bundle(bundle_root / "toy" / "2")
    settings = {"keys": keys, "replay_file": tmp_path / "window"}
    room = 100 * RECORD_BYTES + 5  # the last write is cut short, as on a disk
    with Edge(tmp_path, bundle_root, **settings) as edge, udp_socket(edge) as device:
        # Only the server's main process, and only after its start: its log has to go somewhere.
        hard = resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE)[1]
        log_size = len(edge.log())
        resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE, (room, hard))
        answered = 0
        for sequence in range(FRAMES):
            device.send(keyed_frame(bundle, sequence, KEY))
            reply = read_keyed_reply(device.recv(1024), 7, KEY)
            answered += (reply.sequence, reply.status) == (sequence, ReplyStatus.ANSWERED)
        device.send(keyed_frame(bundle, FRAMES - 1, KEY))
        wait_until(lambda: edge.frames()["replayed"] == 1, "the replay is refused")
        window = (tmp_path / "window").stat().st_size
        assert (answered, window <= room) == (FRAMES, True)
        resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        # What was lost in between is in the file again, without a restart and without further frames.
        wait_until(lambda: "window is written again" in edge.log()[log_size:], "the server says that it recovered")
        assert edge.stop() == 0
        assert "the replay window is not written" in edge.log()[log_size:] and "Traceback" not in edge.log()
    with Edge(tmp_path, bundle_root, **settings) as edge, udp_socket(edge) as device:
        for sequence in range(FRAMES - 64, FRAMES):
            device.send(keyed_frame(bundle, sequence, KEY))
        wait_until(lambda: edge.frames()["replayed"] == 64, "the window outlived the full disk and the restart")
    figures(frames=FRAMES, answered=answered, replays_taken=0)


def test_disk_full_under_the_log(bundle_root: Path, tmp_path: Path, figures):
    """Not one line of the log can be written."""
    with Edge(tmp_path, bundle_root, stderr=Path("/dev/full"), log_level="debug") as edge, blocking_stub(edge) as stub:
        answers = [stub.Infer(infer_request()) for _ in range(50)]
        assert all(answer.results for answer in answers)
        assert edge.requests() == {"ok": 50}
        assert edge.stop() == 0
    figures(requests=50, answered=len(answers))
