"""Clients that are killed in the middle of their streams: their work ends, counted, and nobody else notices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.clients import blocking_stub, infer_request
from tests.faults.edge import PATIENCE_S, ROOT, Edge, wait_until

pytestmark = pytest.mark.timeout(600)  # on a machine that is busy with something else, too
STREAMS = 16
KILLED = 3
HONEST = 300
MANY = dict.fromkeys(("queue_limit", "device_in_flight"), STREAMS * 300)  # so that nothing is refused

# Streams that never end, whose answers nobody reads; a line on stdout once requests are on their way.
CLIENT = f"""
import sys, time
import grpc
from weaklink.v1 import edge_pb2, edge_pb2_grpc

def requests():
    while True:
        yield edge_pb2.InferRequest(bitstream=bytes(8), codec="toy", device="gone")

channel = grpc.insecure_channel(sys.argv[1])
stub = edge_pb2_grpc.EdgeInferenceStub(channel)
streams = [stub.InferStream(requests()) for _ in range({STREAMS})]
next(streams[0])
print("streaming", flush=True)
time.sleep(600)
"""


def test_clients_that_vanish_mid_stream(bundle_root: Path, tmp_path: Path, figures):
    with Edge(tmp_path, bundle_root, engines=1, deadline_s=PATIENCE_S, **MANY) as edge:
        with blocking_stub(edge) as stub:
            stub.Infer(infer_request(), timeout=PATIENCE_S)
            base, answered = edge.descriptors(), 1
            for _ in range(KILLED):
                child = subprocess.Popen(
                    [sys.executable, "-c", CLIENT, edge.at["grpc"]], cwd=ROOT, stdout=subprocess.PIPE
                )
                assert child.stdout.readline() == b"streaming\n"
                child.kill()
                child.wait()
                child.stdout.close()
                for answer in stub.InferStream(iter([infer_request(request_id=str(n)) for n in range(HONEST)])):
                    answered += bool(answer.results)
            wait_until(lambda: edge.samples()["weaklink_queue_depth", ()] == 0, "nothing waits any more")
            wait_until(lambda: edge.descriptors() <= base, "the killed clients' connections are closed")
            ends = edge.requests()
            assert edge.requests() == ends, "and nothing more is counted"
        assert set(ends) <= {"ok", "cancelled"}
        assert answered == 1 + KILLED * HONEST and ends["ok"] >= answered
        assert edge.stop() == 0 and "Traceback" not in edge.log()
    figures(killed=KILLED, streams=KILLED * STREAMS, honest=answered, answered=answered, cancelled=ends["cancelled"])
