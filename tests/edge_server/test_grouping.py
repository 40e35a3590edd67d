"""Messages of a stream that travel together are answered as single calls are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from tests.edge_server.conftest import grpc_stub, running, sample, until
from tests.edge_server.test_service import Gate
from weaklink.v1 import edge_pb2, edge_pb2_grpc

LONG, SHORT = bytes(range(8)), bytes(range(2))
VARIANTS = (
    {},
    {"ber_estimate": 0.0},
    {"ber_estimate": 0.05},
    {"ber_estimate": 0.5, "device": "known", "sequence": 3},
    {"device": "known", "sequence": 4},
    {"device": "unknown", "sequence": 5},
    {"codec": ""},
    {"version": 1},
    {"level": 2},
    {"bitstream": SHORT},
    {"bitstream": SHORT, "level": 2},
    {"bitstream": SHORT, "level": 9},
    {"bitstream": bytes(7)},
    {"ber_estimate": 0.6},
    {"ber_estimate": float("nan")},
    {"codec": "nobody's"},
    {"version": 99},
    {"tasks": ["shape"]},
    {"tasks": ["none"]},
    {"top_k": 2},
    {"top_k": 99},
    {"erased": [edge_pb2.BitRange(first_bit=0, bit_count=3)]},
    {"encoder_hash": bytes(8)},
    {"device": "x" * 65},
    {"bitstream": bytes(70_000)},
)
COPIES = 4


def requests() -> dict[str, edge_pb2.InferRequest]:
    """Several of each variant, in turns, by id."""
    return {
        f"{number}-{copy}": edge_pb2.InferRequest(
            **({"request_id": f"{number}-{copy}", "bitstream": LONG, "codec": "toy"} | fields)
        )
        for copy in range(COPIES)
        for number, fields in enumerate(VARIANTS)
    }


def shown(answer: edge_pb2.InferResponse) -> dict:
    """What does not depend on the moment."""
    return {
        "ids": (answer.device, answer.sequence),
        "used": (answer.codec, answer.version, answer.level, answer.ber_source, answer.ber_used),
        "advice": (answer.HasField("advice"), answer.advice.level),
        "classes": [[(result.task, top.index, top.label) for top in result.top] for result in answer.results],
    }


def confidences(answer: edge_pb2.InferResponse) -> list[float]:
    return [top.confidence for result in answer.results for top in result.top]


async def alone(stub: edge_pb2_grpc.EdgeInferenceStub, request: edge_pb2.InferRequest) -> edge_pb2.InferResponse | str:
    try:
        return await stub.Infer(request)
    except grpc.aio.AioRpcError as error:
        return error.code().name


@pytest.mark.parametrize("max_batch", [3, 64])
async def test_a_stream_answers_as_single_calls_do(bundle_root: Path, max_batch: int):
    async with running(bundle_root, max_batch=max_batch) as (server, at), grpc_stub(at["grpc"]) as stub:
        asked = requests()
        expected = {name: await alone(stub, request) for name, request in asked.items()}
        answered = [answer async for answer in stub.InferStream(iter(asked.values()))]
        refused = [answer.error.status for answer in answered if answer.HasField("error")]
        assert sorted(refused) == sorted(answer for answer in expected.values() if isinstance(answer, str))
        right = [answer for answer in answered if not answer.HasField("error")]
        assert len({answer.request_id for answer in right}) == len(right)
        for answer in right:
            single = expected[answer.request_id]
            assert shown(answer) == shown(single)
            assert confidences(answer) == pytest.approx(confidences(single), abs=1e-3)
            assert answer.times.total_ms >= answer.times.tail_ms > 0 and answer.times.queue_ms >= 0
        outcomes = server.metrics.totals(server.metrics.requests)
        assert sum(outcomes.values()) == 2 * len(asked) and outcomes["ok"] == 2 * len(right)
        assert sample(server, "weaklink_confidence_count", codec="toy", task="shape") == 2 * len(right)


async def test_the_rest_of_a_stream_that_is_given_up_is_not_computed(bundle_root: Path):
    async with running(bundle_root) as (server, at), grpc_stub(at["grpc"]) as stub:
        gate = Gate(server)
        first = asyncio.ensure_future(stub.Infer(edge_pb2.InferRequest(bitstream=LONG, codec="toy")))
        await until(lambda: sample(server, "weaklink_batch_size_count") == 1)
        call = stub.InferStream()
        for _ in range(50):
            await call.write(edge_pb2.InferRequest(bitstream=LONG, codec="toy"))
        await until(lambda: sample(server, "weaklink_queue_depth") == 50)
        call.cancel()
        await until(lambda: not server._streams.total())
        gate.open()
        await first
        await until(lambda: sample(server, "weaklink_queue_depth") == 0)
        outcomes = server.metrics.totals(server.metrics.requests)
        assert outcomes == {"ok": 1, "cancelled": 50} and sample(server, "weaklink_batch_size_count") == 1
