"""The log of a real server, line by line, and the formats of its lines."""

from __future__ import annotations

import json
import logging
import sys
import urllib.request
from contextvars import copy_context
from pathlib import Path

import grpc
import pytest

from edge_server import trace_context
from edge_server.http2.headers import HeaderReader, write_headers
from edge_server.log_format import JsonLines, TextLines, set_up_logs
from edge_server.trace_context import trace_id
from semantic_codec.bundle import Bundle
from tests.faults.clients import PAYLOAD, blocking_stub, infer_request, open_frame, tensor_request, udp_socket
from tests.faults.edge import PATIENCE_S, Edge

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def ask(edge: Edge, bundle: Bundle) -> None:
    """Six requests: one each over gRPC, a stream, HTTP, the Open Inference Protocol and UDP, and one that is refused."""
    with blocking_stub(edge) as stub, grpc.insecure_channel(edge.at["grpc"]) as channel:
        metadata = (("traceparent", TRACEPARENT),)
        stub.Infer(infer_request(request_id="a b", device="7", sequence=3, ber_estimate=0.01), metadata=metadata)
        assert list(stub.InferStream(iter([infer_request()]), metadata=metadata))
        with pytest.raises(grpc.RpcError):
            stub.Infer(infer_request(codec="none", request_id='"\n'))
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        tensors = tensor_request(PAYLOAD)
        tensors.id = "t1"
        infer(tensors.SerializeToString(), metadata=metadata, timeout=PATIENCE_S)
    headers = {"content-type": "application/octet-stream", "traceparent": "00-nonsense-01"}
    address = f"http://{edge.at['http']}/v1/infer?codec=toy&request_id=h1"
    with urllib.request.urlopen(urllib.request.Request(address, PAYLOAD, headers), timeout=PATIENCE_S) as answer:
        assert answer.status == 200
    with udp_socket(edge) as device:
        device.send(open_frame(bundle, 5))
        assert device.recv(64)


def test_every_line_is_json_and_every_request_has_one(bundle_root: Path, bundle: Bundle, tmp_path: Path):
    with Edge(tmp_path, bundle_root, engines=1, log_format="json", log_requests="all") as edge:
        ask(edge, bundle)
        assert edge.stop() == 0
        lines = [json.loads(line) for line in edge.log().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert any(line["message"] == "stopped" for line in lines)
    requests = {line.get("request_id"): line for line in lines if line["message"] == "request"}
    assert len(requests) == 6
    first = requests["a b"]
    assert (first["trace_id"], first["outcome"], first["transport"], first["codec"]) == (TRACE, "ok", "grpc", "toy")
    assert (first["version"], first["device"], first["sequence"], first["ber"]) == (2, "7", 3, 0.01)
    assert first["total_ms"] >= first["decode_ms"] and first["level"] == "info"
    assert requests[TRACE]["transport"] == "grpc", "a stream's request without an id of its own has its trace's"
    assert (requests["t1"]["transport"], requests["t1"]["trace_id"]) == ("oip-grpc", TRACE)
    assert requests["h1"]["transport"] == "http" and "trace_id" not in requests["h1"]
    assert (requests[None]["transport"], requests[None]["sequence"]) == ("udp", 5)
    refused = requests['"\n']
    assert (refused["outcome"], refused["level"]) == ("not_found", "warning") and "codec 'none'" in refused["error"]


def test_lines_of_failed_requests_only(bundle_root: Path, bundle: Bundle, tmp_path: Path):
    with Edge(tmp_path, bundle_root, log_requests="failed") as edge:
        ask(edge, bundle)
        assert edge.stop() == 0
        (line,) = [line for line in edge.log().splitlines() if "request_log: request " in line]
    assert ' WARNING edge_server.request_log: request request_id="\\"\\n" outcome=not_found transport=grpc ' in line


def test_no_lines_of_requests_unless_asked_for(bundle_root: Path, bundle: Bundle, tmp_path: Path):
    with Edge(tmp_path, bundle_root) as edge:
        ask(edge, bundle)
        assert edge.stop() == 0 and "request_id" not in edge.log()


def test_no_level_shows_the_tokens_of_calls(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    set_up_logs("text", "debug")
    header = ("authorization", "Bearer of-one-device")
    read: list[tuple[str, str]] = HeaderReader(list, lambda cost: None).read(write_headers([header]))
    assert read == [header] and "of-one-device" not in caplog.text


def test_an_exception_stays_on_its_line():
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        record = logging.makeLogRecord(
            {"msg": "failed on %d", "args": (3,), "levelname": "ERROR", "exc_info": sys.exc_info(), "request_ids": ["r1"]}
        )
    line = JsonLines().format(record)
    told = json.loads(line)
    assert "\n" not in line and told["message"] == "failed on 3" and told["request_ids"] == ["r1"]
    assert told["exception"].endswith("ValueError: bad\nvalue")
    first, *_, last = TextLines().format(record).splitlines()
    assert first.endswith('failed on 3 request_ids="[\'r1\']"') and last == "value"


@pytest.mark.parametrize(
    "given", ["", "00-nonsense-01", f"ff-{TRACE}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", TRACEPARENT + "\n"]
)
def test_what_is_no_traceparent_counts_as_none(given: str):
    def known(traceparent: str) -> str:
        trace_context.enter(traceparent)
        return trace_id(trace_context.TRACEPARENT.get())

    assert copy_context().run(known, given) == "" and copy_context().run(known, TRACEPARENT) == TRACE
