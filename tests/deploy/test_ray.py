"""The Ray Serve application on two nodes: routing by device, and one node killed under load."""

from __future__ import annotations

import collections
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from edge_server.tokens import make_token, token_hash
from semantic_codec.errors import ConfigError
from tests.conftest import ROOT
from weaklink.v1 import edge_pb2, edge_pb2_grpc

pytest.importorskip("ray", reason="Ray is not installed; deploy/ray/README.md says how")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CODEC, BITSTREAM = "digits", bytes(8)
DEVICES = [f"camera-{number}" for number in range(24)]
LOADERS = 6
PATIENCE_S = 60
PAUSE_S = 0.2  # before a request is sent again
GATEWAY, CAMERA = make_token("*"), make_token(DEVICES[0])
PATIENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A machine that is busy with something else must not fail a health check.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "2",
    # As deploy/ray/README.md advises.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
HEALTH = "/ray.serve.RayServeAPIService/Healthz"
CHANNEL = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)]


def by(token: str) -> dict:
    """Options of a call that shows this token."""
    return {"timeout": PATIENCE_S, "metadata": (("authorization", f"Bearer {token}"),)}


CALL = by(GATEWAY)


class RayCluster:
    """`tests/deploy/ray_cluster.py`, and what to tell it."""

    def __init__(self, tokens: Path, log):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0)), second.bind(("127.0.0.1", 0))
            ports = first.getsockname()[1], second.getsockname()[1]
        self.address = f"127.0.0.1:{ports[0]}"
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.deploy.ray_cluster", *map(str, ports), str(tokens)],
            cwd=ROOT,
            env=os.environ | PATIENT | {"PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def tell(self, command: str) -> None:
        """Returns once the cluster did it."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == command + "\n"

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(120)
        self.process.stdout.close()

    def stub(self) -> edge_pb2_grpc.EdgeInferenceStub:
        """A channel of its own each: the nodes' proxies share the port, and the kernel gives a connection to one.

        As a load balancer does, it waits for the proxy's health: one that has just started knows no application.
        """
        channel = grpc.insecure_channel(self.address, CHANNEL)
        healthy = channel.unary_unary(HEALTH)
        while True:
            try:
                healthy(b"", timeout=PATIENCE_S, wait_for_ready=True)
                return edge_pb2_grpc.EdgeInferenceStub(channel)
            except grpc.RpcError:
                time.sleep(PAUSE_S)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[RayCluster]:
    folder = tmp_path_factory.mktemp("ray")
    tokens = folder / "tokens.toml"
    tokens.touch(0o600)
    tokens.write_text(f'[devices]\n"*" = "{token_hash(GATEWAY)}"\n{DEVICES[0]} = "{token_hash(CAMERA)}"\n')
    with (folder / "log").open("w+") as log:
        cluster = RayCluster(tokens, log)
        try:
            cluster.tell("wait 2")
            yield cluster
        finally:
            cluster.close()
            log.seek(0)
            print(log.read()[-4000:])


def request(device: str, sequence: int) -> edge_pb2.InferRequest:
    return edge_pb2.InferRequest(codec=CODEC, bitstream=BITSTREAM, device=device, sequence=sequence)


def remembered(stub, sequence: int) -> set[str]:
    """Devices whose answer of this sequence the edge can still judge."""
    asked = {device: edge_pb2.FeedbackRequest(device=device, sequence=sequence, true_class=0) for device in DEVICES}
    return {device for device, feedback in asked.items() if stub.Feedback(feedback, **CALL).matched}


def test_state_follows_the_device_over_both_replicas(cluster):
    """Asked over one connection and judged over another: what was answered is known wherever the question enters."""
    for device in DEVICES:
        cluster.stub().Infer(request(device, 1), **CALL)
    assert remembered(cluster.stub(), 1) == set(DEVICES)
    asked = iter([request(device, sequence) for sequence in (2, 3, 4) for device in DEVICES])
    answers = list(cluster.stub().InferStream(asked, **CALL))
    assert len(answers) == 3 * len(DEVICES) and not [answer.error for answer in answers if answer.HasField("error")]
    for sequence in (2, 3, 4):
        assert remembered(cluster.stub(), sequence) == set(DEVICES)


def test_refusals_keep_their_status_and_reason(cluster):
    with pytest.raises(grpc.RpcError) as refused:
        cluster.stub().Infer(edge_pb2.InferRequest(codec="unheard-of"), **CALL)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND and "unheard-of" in refused.value.details()
    bad = [request("a", 1), edge_pb2.InferRequest(codec=CODEC, bitstream=b"123", sequence=2), request("b", 3)]
    answers = {each.sequence: each.error.status for each in cluster.stub().InferStream(iter(bad), **CALL)}
    assert answers == {1: "", 2: "INVALID_ARGUMENT", 3: ""}


@pytest.mark.parametrize(
    ("token", "device", "status"),
    [("", DEVICES[0], "UNAUTHENTICATED"), (CAMERA, DEVICES[1], "PERMISSION_DENIED"), (CAMERA, DEVICES[0], "OK")],
    ids=["none", "another device's", "its own"],
)
def test_tokens_are_asked_for(cluster, token, device, status):
    try:
        cluster.stub().Infer(request(device, 5), **by(token))
        code = grpc.StatusCode.OK
    except grpc.RpcError as error:
        code = error.code()
    assert code.name == status


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own
@pytest.mark.parametrize(("args", "named"), [({"udp_port": 1, "insecure": True}, "udp_port"), ({}, "tokens")])
def test_args_that_mean_nothing_or_let_everybody_in_are_refused(args, named):
    from edge_server.ray_serve import application

    with pytest.raises(ConfigError, match=named):
        application(args)


@dataclass(frozen=True)
class Attempt:
    """One call: when it began and ended, whose it was, and the name of its gRPC status."""

    began: float
    ended: float
    device: str
    status: str


class Load:
    """Requests one after another on each of some connections; what was UNAVAILABLE is sent again until it is not."""

    def __init__(self, cluster: RayCluster):
        self._cluster, self._attempts, self._lock, self._stop = cluster, [], threading.Lock(), threading.Event()
        self.requests = 0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(LOADERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        stub, mine, sequence = self._cluster.stub(), DEVICES[number::LOADERS], 10
        while not self._stop.is_set():
            sequence += 1
            for device in mine:
                with self._lock:
                    self.requests += 1
                while self._attempt(stub, device, sequence) == "UNAVAILABLE":
                    time.sleep(PAUSE_S)

    def _attempt(self, stub, device: str, sequence: int) -> str:
        began = time.monotonic()
        try:
            stub.Infer(request(device, sequence), **CALL)
            status = "OK"
        except grpc.RpcError as error:
            status = error.code().name
        with self._lock:
            self._attempts.append(Attempt(began, time.monotonic(), device, status))
        return status

    @property
    def attempts(self) -> list[Attempt]:
        with self._lock:
            return list(self._attempts)

    def wait_until_all_answered(self, moment: float) -> float:
        """The first time at which every device had an answer to a request that began after `moment`."""
        while True:
            first: dict[str, float] = {}
            for attempt in self.attempts:
                if attempt.status == "OK" and attempt.began > moment:
                    first.setdefault(attempt.device, attempt.ended)
            if len(first) == len(DEVICES):
                return max(first.values())
            time.sleep(0.05)


def test_a_killed_node_costs_its_devices_their_state_and_a_retry(cluster):
    stub = cluster.stub()
    for device in DEVICES:
        stub.Infer(request(device, 6), **CALL)
    with Load(cluster) as load:
        started = load.wait_until_all_answered(time.monotonic())
        load.wait_until_all_answered(started)
        killed = time.monotonic()
        cluster.tell("kill")
        dead = time.monotonic()
        recovered = load.wait_until_all_answered(dead)
        cluster.tell("wait 1")
        settled = time.monotonic()
        load.wait_until_all_answered(load.wait_until_all_answered(settled))
        ended = time.monotonic()
    outcomes = collections.Counter(attempt.status for attempt in load.attempts)
    lost = [attempt for attempt in load.attempts if attempt.status != "OK"]
    longest = max(attempt.ended - attempt.began for attempt in load.attempts)
    before = sum(started <= attempt.ended < killed for attempt in load.attempts) / (killed - started)
    after = sum(settled <= attempt.ended < ended for attempt in load.attempts) / (ended - settled)
    print(
        f"{load.requests} requests, attempts {dict(outcomes)}, the last failure "
        f"{max((attempt.ended for attempt in lost), default=killed) - killed:.1f} s after the kill, the longest "
        f"attempt {longest:.1f} s; every device answered anew {recovered - killed:.1f} s after the kill (which took "
        f"{dead - killed:.1f} s); {before:.0f} requests/s before, {after:.0f} after, on one node"
    )
    assert set(outcomes) <= {"OK", "UNAVAILABLE"}, lost
    assert outcomes["OK"] == load.requests
    assert not [attempt for attempt in lost if attempt.ended < killed or attempt.began > settled]
    kept = remembered(cluster.stub(), 6)
    assert kept and kept < set(DEVICES), "one node's devices were to be forgotten, the other's kept"

    cluster.tell("add")
    cluster.tell("wait 2")
    for device in DEVICES:
        stub.Infer(request(device, 7), **CALL)
    assert remembered(cluster.stub(), 7) == set(DEVICES)
