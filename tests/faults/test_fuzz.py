"""Random and mutated input: the committed corpus, a slice of what ``make fuzz-edge`` runs, and all of it over the wire."""

from __future__ import annotations

import http.client
import json
import math
import random
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.oip.grpc_api import SERVICE as OPEN_INFERENCE
from edge_server.service import SERVICE
from tests.faults.clients import PAYLOAD, infer_request, udp_socket
from tests.faults.edge import PATIENCE_S, Edge, wait_until
from tests.faults.fuzz import CORPUS, Targets, corpus, extend, fuzz, main, mutations
from weaklink.v1 import edge_pb2

pytestmark = pytest.mark.timeout(600)  # on a machine that is busy with something else, too
TARGETS = sorted(path.name for path in CORPUS.iterdir())
SLICE = 2_000
OVER_THE_WIRE = {"frames": 5_000, "messages": 1_000, "bodies": 300}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Targets:
    return Targets(tmp_path_factory.mktemp("bundles"))


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(targets: Targets, name: str):
    for data in corpus(name):
        assert targets.by_name[name]([data])


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of(targets: Targets, name: str, figures):
    outcomes = fuzz(targets.by_name[name], corpus(name), SLICE, random.Random(name), None)
    figures(inputs=SLICE, failures=0, outcomes=dict(outcomes))


def test_every_valid_example_is_in_the_corpus(targets: Targets):
    assert {name: set(examples) for name, examples in targets.examples().items()} == {
        name: {(path).read_bytes() for path in (CORPUS / name).glob("valid-*")} for name in TARGETS
    }


def test_a_run_in_parts_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.faults.fuzz.PART", 100)
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    assert main(["replies", "manifests", "--count", "300", "--json", str(whole)]) == 0
    for count in ("100", "300"):
        assert main(["manifests", "replies", "--count", count, "--json", str(parts), "--resume"]) == 0
    assert main(["manifests", "replies", "--count", "500", "--seconds", "0", "--json", str(parts), "--resume"]) == 0
    rows = [[row | {"seconds": 0} for row in json.loads(file.read_text())["rows"]] for file in (whole, parts)]
    assert rows[0] == rows[1] and [row["inputs"] for row in rows[0]] == [300, 300]


def test_what_fails_is_counted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.faults.fuzz.FINDINGS", tmp_path)
    monkeypatch.setattr("tests.faults.fuzz.PART", 100)

    def target(inputs: list[bytes]) -> Counter:
        assert b"\xff" not in b"".join(inputs)
        return Counter(ok=len(inputs))

    row = {"target": "replies", "inputs": 0, "failures": 0, "seconds": 0.0, "outcomes": {}}
    extend(row, target, 300, 0, math.inf)
    assert row["inputs"] == 300 and row["failures"] == 3
    assert all(b"\xff" in path.read_bytes() for path in (tmp_path / "replies").iterdir())


REQUESTS = st.builds(
    edge_pb2.InferRequest,
    request_id=st.text(max_size=70),
    bitstream=st.one_of(st.just(PAYLOAD), st.binary(max_size=80)),
    ber_estimate=st.one_of(st.none(), st.floats()),
    codec=st.sampled_from(["", "toy", "other", "\0"]),
    version=st.integers(0, 2**32 - 1) | st.just(0),
    level=st.none() | st.integers(0, 4) | st.integers(0, 2**32 - 1),
    device=st.text(max_size=70),
    sequence=st.integers(0, 2**32 - 1),
    tasks=st.lists(st.sampled_from(["shape", "colour", "other", ""]), max_size=4),
    top_k=st.integers(0, 12) | st.integers(0, 2**32 - 1),
    encoder_hash=st.binary(max_size=9),
    erased=st.lists(
        st.builds(
            edge_pb2.BitRange,
            first_bit=st.integers(0, 70) | st.integers(0, 2**32 - 1),
            bit_count=st.integers(0, 70) | st.integers(0, 2**32 - 1),
        ),
        max_size=4,
    ),
)


@given(request=REQUESTS)
def test_any_well_formed_request_has_one_outcome(targets: Targets, request):
    assert targets.by_name["requests"]([request.SerializeToString()]).total() == 1


@pytest.fixture(scope="module")
def edge(bundle_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with Edge(tmp_path_factory.mktemp("edge"), bundle_root, deadline_s=PATIENCE_S) as edge:
        yield edge
        assert edge.get("/readyz")
        assert edge.stop() == 0 and "Traceback" not in edge.log()


def inputs(*names: str) -> Iterator[bytes]:
    return mutations([data for name in names for data in corpus(name)], random.Random(0))


def counted_once(counted: int, sent: int, transport: str) -> bool:
    """Of the Open Inference Protocol each image counts: a mutated batch may hold more than one."""
    return counted >= sent if transport.startswith("oip") else counted == sent


def test_mutated_frames_over_udp(edge: Edge, figures):
    count, sent = OVER_THE_WIRE["frames"], 0
    before, frames = edge.frames(), inputs("open_frames", "keyed_frames")
    with udp_socket(edge) as device:
        device.setblocking(False)
        while sent < count:
            for data in islice(frames, 250):
                device.send(data)
                sent += 1
            # Not more at once than the kernel holds: what it drops, nobody can count.
            wait_until(lambda: (edge.frames() - before).total() >= sent, "each datagram has an outcome")
    ended = edge.frames() - before
    assert ended.total() == count and not ended["internal"]
    figures(datagrams=count, outcomes=dict(ended))


def test_mutated_bytes_on_a_serial_line(edge: Edge, figures):
    before = edge.frames()
    noise = b"".join(islice(inputs("serial"), 500))
    with socket.create_connection(edge.address("serial"), timeout=PATIENCE_S) as line:
        line.sendall(noise)
        line.sendall(corpus("serial")[0])
        wait_until(lambda: (edge.frames() - before).total() > 0, "frames among the noise are found")
    assert not (edge.frames() - before)["internal"]
    figures(bytes=len(noise))


@pytest.mark.parametrize(
    "transport, method, target",
    [("grpc", f"/{SERVICE}/Infer", "requests"), ("oip-grpc", f"/{OPEN_INFERENCE}/ModelInfer", "tensors")],
)
def test_mutated_messages_over_grpc(edge: Edge, transport: str, method: str, target: str, figures):
    count, ended = OVER_THE_WIRE["messages"], 0
    before, codes = edge.requests(transport), {}
    with grpc.insecure_channel(edge.at["grpc"]) as channel:
        infer = channel.unary_unary(method)  # bytes in, bytes out
        for data in islice(inputs(target), count):
            try:
                infer(data, timeout=PATIENCE_S)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
            codes[code] = codes.get(code, 0) + 1
            ended += 1
    counted = edge.requests(transport) - before
    assert ended == count and counted_once(counted.total(), count, transport) and not counted["internal"]
    assert set(codes) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
    figures(messages=count, codes=codes)


@pytest.mark.parametrize(
    "transport, path, target", [("http", "/v1/infer", "json"), ("oip-http", "/v2/models/toy/infer", "tensors_json")]
)
def test_mutated_bodies_over_http(edge: Edge, transport: str, path: str, target: str, figures):
    count, before, statuses = OVER_THE_WIRE["bodies"], edge.requests(transport), {}
    client = http.client.HTTPConnection(*edge.address("http"), timeout=PATIENCE_S)
    for data in islice(inputs(target), count):
        client.request("POST", path, body=data)
        answer = client.getresponse()
        answer.read()
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
    client.close()
    counted = edge.requests(transport) - before
    assert counted_once(counted.total(), count, transport) and not counted["internal"] and set(statuses) <= {200, 400, 404, 412, 413}
    figures(bodies=count, statuses=statuses)


def test_bytes_that_are_no_protocol(edge: Edge, figures):
    """At the doors of gRPC and HTTP; both go on."""
    rng, count = random.Random(1), 40
    for door in ("grpc", "http"):
        for _ in range(count):
            with socket.create_connection(edge.address(door), timeout=PATIENCE_S) as sock:
                sock.sendall(rng.randbytes(200) + b"\r\n\r\n")
    with grpc.insecure_channel(edge.at["grpc"]) as channel:
        infer = channel.unary_unary(f"/{SERVICE}/Infer")
        assert infer(infer_request().SerializeToString(), timeout=PATIENCE_S)
    assert edge.get("/readyz")
    figures(connections=2 * count)
