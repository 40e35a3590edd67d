"""Streams of the protocol: bounded, each request's caller checked, and nothing left behind by who goes away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from edge_server.oip.in_order import in_order
from edge_server.tokens import Role
from tests.edge_server.conftest import grpc_stub, running, sample, until
from tests.edge_server.test_service import Gate
from tests.edge_server.test_tokens import Made
from weaklink.oip import open_inference_pb2 as pb
from weaklink.v1 import edge_pb2


def request(number: int = 0, device: str = "", size: int = 8) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="toy", id=str(number), raw_input_contents=[bytes(size)])
    made.inputs.add(name="bitstream", datatype="UINT8", shape=[1, size])
    if device:
        made.parameters["device"].string_param = device
    return made


@contextlib.asynccontextmanager
async def streams(address: str):
    """Opens a stream at each call."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )


async def test_a_stream_is_read_no_further_than_its_window_and_cancelled_as_a_whole(bundle_root: Path):
    async with running(bundle_root, stream_window=4) as (server, at), streams(at["grpc"]) as open_stream:
        gate = Gate(server)
        stream = open_stream()
        for number in range(12):
            await stream.write(request(number))
        await until(lambda: sample(server, "weaklink_batch_size_count") + sample(server, "weaklink_queue_depth") == 4)
        stream.cancel()
        await until(lambda: not server._streams.total())
        gate.open()
        labels = {"transport": "oip-grpc", "codec": "toy"}
        ended = lambda outcome: sample(server, "weaklink_requests_total", outcome=outcome, **labels)  # noqa: E731
        await until(lambda: ended("ok") + ended("cancelled") == 4)
        assert ended("cancelled") >= 3, "all but what the engine had begun"


async def test_as_many_streams_as_a_caller_may_have(bundle_root: Path):
    async with running(bundle_root, stream_limit=1) as (server, at), streams(at["grpc"]) as open_stream:
        first = open_stream()
        await first.write(request(1))
        assert (await first.read()).infer_response.id == "1"
        second = open_stream(iter([request(2)]), metadata=[("weaklink-peer", "somebody.else")])
        with pytest.raises(grpc.aio.AioRpcError, match="127.0.0.1 has 1 streams open") as refused:
            await second.read()
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        counted = {"transport": "oip-grpc", "codec": "unknown", "outcome": "limit_reached"}
        assert sample(server, "weaklink_requests_total", **counted) == 1
        await first.done_writing()
        assert await first.read() is grpc.aio.EOF
        async for answer in open_stream(iter([request(2)])):
            assert answer.infer_response.id == "2"


async def test_streams_of_our_own_contract_count_as_well(bundle_root: Path):
    async with (
        running(bundle_root, stream_limit=1) as (_, at),
        streams(at["grpc"]) as open_stream,
        grpc_stub(at["grpc"]) as stub,
    ):
        ours = stub.InferStream()
        await ours.write(edge_pb2.InferRequest(bitstream=bytes(8), codec="toy"))
        assert (await ours.read()).codec == "toy"
        with pytest.raises(grpc.aio.AioRpcError, match="127.0.0.1 has 1 streams open"):
            await open_stream(iter([request()])).read()
        await ours.done_writing()
        assert await ours.read() is grpc.aio.EOF
        theirs = open_stream()
        await theirs.write(request())
        assert (await theirs.read()).infer_response.id == "0"
        with pytest.raises(grpc.aio.AioRpcError, match="127.0.0.1 has 1 streams open"):
            await stub.InferStream().read()


async def test_a_stream_speaks_for_its_token_s_device(bundle_root: Path, tmp_path: Path):
    made = Made(tmp_path / "tokens.toml", (Role.DEVICES, "7"))
    async with running(bundle_root, tokens=made.path) as (_, at), streams(at["grpc"]) as open_stream:
        stream = open_stream(iter([request(1, "7"), request(2, "8"), request(3, size=9999)]), metadata=made.metadata("7"))
        told = [answer async for answer in stream]
        assert [bool(answer.error_message) for answer in told] == [False, True, True]
        assert [answer.infer_response.id for answer in told] == ["1", "2", "3"]
        assert "speaks for device '8'" in told[1].error_message
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await open_stream().read()
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_message_that_cannot_be_read_has_an_answer(bundle_root: Path):
    async with running(bundle_root) as (server, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b"\xff", b"\xff"]))
        told = [pb.ModelStreamInferResponse.FromString(answer) async for answer in stream]
        assert ["cannot be parsed" in answer.error_message for answer in told] == [True, True]
        refused = sample(server, "weaklink_requests_total", transport="oip-grpc", codec="unknown", outcome="invalid_request")
        assert refused == 2


async def test_a_name_that_is_given_twice_is_refused(bundle_root: Path):
    outputs, inputs = request(), request()
    for _ in range(2000):
        outputs.outputs.add(name="probabilities")
    inputs.inputs.add(name="bitstream", datatype="UINT8", shape=[1, 8])
    inputs.raw_input_contents.append(bytes(8))
    async with running(bundle_root) as (_, at), streams(at["grpc"]) as open_stream:
        answers = [answer.error_message async for answer in open_stream(iter([outputs, inputs]))]
    assert "output 'probabilities' is given 2000 times" in answers[0] and "input 'bitstream' is given 2 times" in answers[1]


async def test_what_ends_the_requests_is_raised_behind_their_answers():
    async def requests() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ConnectionError("gone")

    async def later(number: int) -> int:
        await asyncio.sleep(0.02 / number)  # the second one first
        return number

    came = []
    with pytest.raises(ConnectionError):
        async for number in in_order(requests(), later, 8):
            came.append(number)
    assert came == [1, 2]
