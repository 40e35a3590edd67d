"""Reflection over gRPC: what anybody who may call it sends as often and as badly as they like."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edge_server.service import SERVICE
from tests.edge_server.conftest import running, until
from tests.edge_server.test_service import refused

INFO = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
LIST = reflection_pb2.ServerReflectionRequest(list_services="")


async def test_services_are_listed_and_described(bundle_root: Path):
    async with running(bundle_root) as (_, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        described = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
        unknown = reflection_pb2.ServerReflectionRequest(file_containing_symbol="none.Such")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([LIST, described, unknown]))
        listed, file, missing = [reply async for reply in call]
        names = {each.name for each in listed.list_services_response.service}
        assert names == {SERVICE, "inference.GRPCInferenceService", "grpc.health.v1.Health", INFO.split("/")[1]}
        assert any(b"InferRequest" in one for one in file.file_descriptor_response.file_descriptor_proto)
        assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_bytes_that_are_no_message_are_refused_without_a_line_in_the_log(
    bundle_root: Path, caplog: pytest.LogCaptureFixture
):
    async with running(bundle_root) as (server, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        caplog.clear()
        call = channel.stream_stream(INFO)(iter([LIST.SerializeToString(), b"\xff\xff"]))
        assert await call.read()
        error = await refused(call.read())
        assert error.code().name == "INVALID_ARGUMENT" and "ServerReflectionRequest" in error.details()
        await until(lambda: server._streams.total() == 0)
        assert not caplog.messages


async def test_a_caller_has_so_many_streams(bundle_root: Path):
    async with running(bundle_root, stream_limit=2) as (server, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        calls = [channel.stream_stream(INFO)() for _ in range(3)]
        for call in calls[:2]:
            await call.write(LIST.SerializeToString())
            assert await call.read()
        await calls[2].write(LIST.SerializeToString())
        error = await refused(calls[2].read())
        assert error.code().name == "RESOURCE_EXHAUSTED" and "2 streams open; allowed: up to 2" in error.details()
        for call in calls:
            call.cancel()
        await until(lambda: server._streams.total() == 0)
