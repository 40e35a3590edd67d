"""Health over gRPC, which anybody may call, and so as often and as badly as they like."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge_server.grpc_door import OPEN_LIMIT
from edge_server.http2.frames import DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, frame
from edge_server.http2.headers import write_headers
from tests.edge_server.conftest import running, until
from tests.edge_server.test_service import refused

CHECK = "/grpc.health.v1.Health/Check"


async def test_bytes_that_are_no_message_are_refused_without_a_line_in_the_log(
    bundle_root: Path, caplog: pytest.LogCaptureFixture
):
    async with running(bundle_root) as (_, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        caplog.clear()
        for call in (channel.unary_unary(CHECK)(b"\xff\xff"), channel.unary_stream(CHECK[:-5] + "Watch")(b"\xff\xff").read()):
            error = await refused(call)
            assert error.code().name == "INVALID_ARGUMENT" and "grpc.health.v1.HealthCheckRequest" in error.details()
        error = await refused(channel.unary_unary(CHECK[:-5] + "List")(b""))
        assert error.code().name == "UNIMPLEMENTED"
        assert not caplog.messages


async def test_who_watches_has_a_stream_open(bundle_root: Path):
    async with running(bundle_root, stream_limit=2) as (server, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        health, asked = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
        watches = [health.Watch(asked) for _ in range(2)]
        for watch in watches:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        error = await refused(health.Watch(asked).read())
        assert error.code().name == "RESOURCE_EXHAUSTED" and "2 streams open; allowed: up to 2" in error.details()
        assert (await health.Check(asked)).status == health_pb2.HealthCheckResponse.SERVING
        for watch in watches:
            watch.cancel()
        await until(lambda: server._streams.total() == 0)
        assert (await health.Watch(asked).read()).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("size", [OPEN_LIMIT + 1, 4 << 20])
async def test_what_anybody_may_call_takes_no_long_messages_not_even_half_of_one(bundle_root: Path, size: int):
    async with running(bundle_root) as (_, at):
        read, write = await asyncio.open_connection(*at["grpc"].split(":"))
        head = [(":method", "POST"), (":path", CHECK), ("content-type", "application/grpc")]
        write.write(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, write_headers(head)))
        write.write(frame(DATA, 0, 1, struct.pack(">BI", 0, size)))
        async with asyncio.timeout(30):
            assert b"allowed: up to 4096" in await read.readuntil(b"4096")
        write.close()
