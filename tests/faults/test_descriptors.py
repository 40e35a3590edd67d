"""No file descriptor is free: who is connected is served on, and so is everybody once there are some."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from semantic_codec.bundle import load_bundle
from semantic_codec.keyed import DeviceKey
from semantic_codec.keyed_reply import read_keyed_reply
from semantic_codec.reply import ReplyStatus
from semantic_codec.serial_framing import add_sync
from tests.faults.clients import blocking_stub, infer_request, keyed_frame, udp_socket
from tests.faults.edge import PATIENCE_S, Edge, wait_until
from tests.semantic_codec.test_key_file import ONE, TWO, secret

pytestmark = pytest.mark.timeout(600)  # on a machine that is busy with something else, too
KEY = DeviceKey.from_hex(ONE)
SPARE = 20
CONNECTIONS = 150
CALLS = 40


def test_file_descriptors_exhausted(bundle_root: Path, tmp_path: Path, figures):
    keys, bundle = secret(tmp_path / "keys.toml", f'7 = "{ONE}"\n'), load_bundle(bundle_root / "toy" / "2")
    with ExitStack() as stack:
        edge = stack.enter_context(Edge(tmp_path, bundle_root, keys=keys))
        device, stub = stack.enter_context(udp_socket(edge)), stack.enter_context(blocking_stub(edge))
        stub.Infer(infer_request())
        answered, sequence = 0, 0

        def serve_the_connected() -> int:
            nonlocal sequence
            done = 0
            for _ in range(CALLS):
                done += bool(stub.Infer(infer_request(), timeout=PATIENCE_S).results)
                device.send(keyed_frame(bundle, sequence, KEY))
                reply = read_keyed_reply(device.recv(1024), 7, KEY)
                done += (reply.sequence, reply.status) == (sequence, ReplyStatus.ANSWERED)
                sequence += 1
            return done

        base = edge.descriptors()
        limit = base + SPARE
        resource.prlimit(edge.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        with ExitStack() as crowd:
            for number in range(CONNECTIONS):
                sock = crowd.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(edge.address(("http", "grpc", "serial")[number % 3]))
            wait_until(lambda: edge.descriptors() >= limit, "the crowd has taken every descriptor")
            busy = edge.cpu_s()
            secret(keys, f'7 = "{ONE}"\n8 = "{TWO}"\n')  # cannot be opened now
            answered += serve_the_connected()
            wait_until(lambda: "keys not reloaded" in edge.log(), "the server says that it cannot read the keys")
            busy = edge.cpu_s() - busy
        wait_until(lambda: edge.descriptors() <= base + 2, "the crowd's descriptors are free again")
        answered += serve_the_connected()
        wait_until(lambda: "keys reloaded" in edge.log(), "the keys are read now that it can be")
        with blocking_stub(edge) as new:
            answered += bool(new.Infer(infer_request(), timeout=PATIENCE_S).results)
        with socket.create_connection(edge.address("serial"), timeout=PATIENCE_S) as line:
            line.sendall(add_sync(keyed_frame(bundle, 0, DeviceKey.from_hex(TWO), device=8)))
            wait_until(lambda: edge.frames()["ok"] == 2 * CALLS + 1 or edge.frames()["unknown_device"], "the line is heard")
        assert answered == 4 * CALLS + 1
        assert edge.frames()["ok"] == 2 * CALLS + 1, "the keys were read once there was a descriptor for them"
        requests = edge.requests()
        assert requests == {"ok": 4 * CALLS + 3}
        assert edge.stop() == 0
        assert "Traceback" not in edge.log()
    figures(limit=limit, connections=CONNECTIONS, requests=4 * CALLS + 3, answered=requests["ok"], cpu_s=round(busy, 2))
