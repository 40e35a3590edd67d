"""Traces, as a real OTLP receiver gets them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from edge_server.oip.grpc_api import SERVICE as OPEN_INFERENCE
from semantic_codec.bundle import Bundle
from tests.edge_server.conftest import grpc_stub, running
from tests.edge_server.test_gateway import PAYLOAD, frame, radio
from tests.faults.clients import tensor_request
from weaklink.v1 import edge_pb2

PARENT = "00f067aa0ba902b7"
STAGES = ["queue", "decode", "tail"]


def traceparent(number: int, sampled: bool = True) -> tuple[tuple[str, str], ...]:
    """Of a trace whose id is this number."""
    return (("traceparent", f"00-{number:032x}-{PARENT}-{int(sampled):02x}"),)


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """An OpenTelemetry collector, as far as spans go."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.spans: list[trace_pb2.Span] = []

    def Export(self, request, context):  # noqa: N802, the contract's name
        for resource in request.resource_spans:
            self.services |= {one.value.string_value for one in resource.resource.attributes if one.key == "service.name"}
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, **attributes: str) -> trace_pb2.Span:
        """The one request's span that has these, dots of their names left out."""
        (found,) = [
            span
            for span in self.spans
            if attributes.items() <= {one.key.removeprefix("weaklink."): one.value.string_value for one in span.attributes}.items()
        ]
        return found


@pytest.fixture
def collector() -> Iterator[tuple[Receiver, str]]:
    receiver, server = Receiver(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield receiver, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


async def test_every_request_is_a_span_of_its_caller_s_trace(
    bundle_root: Path, bundle: Bundle, collector: tuple[Receiver, str]
):
    receiver, endpoint = collector
    async with running(bundle_root, otlp_endpoint=endpoint) as (_, at):
        async with (
            grpc_stub(at["grpc"]) as stub,
            grpc.aio.insecure_channel(at["grpc"]) as channel,
            httpx.AsyncClient(base_url=f"http://{at['http']}", trust_env=False) as http,
            radio(at["udp"]) as device,
        ):
            request = edge_pb2.InferRequest(bitstream=PAYLOAD, codec="toy", request_id="r1", ber_estimate=0.01)
            await stub.Infer(request, metadata=traceparent(1))
            assert [one async for one in stub.InferStream(iter([edge_pb2.InferRequest()] * 2), metadata=traceparent(2))]
            infer = channel.unary_unary(f"/{OPEN_INFERENCE}/ModelInfer")
            await infer(tensor_request(PAYLOAD).SerializeToString(), metadata=traceparent(3))
            octets = {"content-type": "application/octet-stream"} | dict(traceparent(4))
            assert (await http.post("/v1/infer?codec=toy", content=PAYLOAD, headers=octets)).status_code == 200
            await stub.Infer(request, metadata=traceparent(5, sampled=False))
            device.send(frame(bundle))
            assert await device.reply()
    assert receiver.services == {"weaklink-edge"}
    roots = [span for span in receiver.spans if span.name == "weaklink.infer"]
    children = {span.span_id: [one for one in receiver.spans if one.parent_span_id == span.span_id] for span in roots}
    assert sorted(int.from_bytes(span.trace_id) for span in roots)[:5] == [1, 2, 2, 3, 4], "5 is not sampled"
    assert len(roots) == 6
    first = receiver.of(request_id="r1", transport="grpc", codec="toy", outcome="ok")
    assert (first.trace_id.hex(), first.parent_span_id.hex()) == (f"{1:032x}", PARENT)
    assert first.kind == trace_pb2.Span.SPAN_KIND_SERVER
    stages = sorted(children[first.span_id], key=lambda span: span.start_time_unix_nano)
    assert sorted(span.name for span in stages) == sorted(STAGES)
    for stage in stages:
        assert stage.trace_id == first.trace_id
        assert first.start_time_unix_nano <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= first.end_time_unix_nano + 1000, "within rounding"
    refused = [span for span in roots if int.from_bytes(span.trace_id) == 2]
    for span in refused:
        assert span.status.code == trace_pb2.Status.STATUS_CODE_ERROR and "bitstream has 0 bytes" in span.status.message
        assert not children[span.span_id]
    assert receiver.of(transport="oip-grpc").trace_id.hex() == f"{3:032x}"
    alone = receiver.of(transport="udp", device="7")
    assert not alone.parent_span_id and len(children[alone.span_id]) == len(STAGES)


async def test_a_collector_that_is_not_there_costs_no_request(bundle_root: Path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with running(bundle_root, otlp_endpoint=endpoint) as (_, at), grpc_stub(at["grpc"]) as stub:
            for _ in range(3):
                assert (await stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD, codec="toy"))).results


async def test_a_disabled_sdk_costs_no_request(bundle_root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with running(bundle_root, otlp_endpoint="http://127.0.0.1:9") as (_, at), grpc_stub(at["grpc"]) as stub:
        assert (await stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD, codec="toy"))).results


def test_without_the_extra_the_start_says_what_to_install():
    """In an interpreter that lacks the package; all but the endpoint works there."""
    script = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from edge_server.__main__ import main\n"
        "sys.exit(main(['--otlp-endpoint', 'http://127.0.0.1:4317', '--engines', '0', '--http-port', '0']))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert ended.returncode == 2 and "pip install 'weaklink[traces]'" in ended.stderr
