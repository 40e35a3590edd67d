"""Ends of streams, over real connections."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

from edge_server.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    SETTINGS,
    frame,
    window_update,
)
from edge_server.http2.headers import write_headers
from edge_server.service import SERVICE
from tests.edge_server.conftest import grpc_stub, running, sample, until
from tests.edge_server.test_service import refused, request


async def test_a_stream_whose_messages_make_the_door_fail_ends(bundle_root: Path, monkeypatch):
    async with running(bundle_root, stream_limit=1) as (server, at), grpc_stub(at["grpc"]) as stub:
        with monkeypatch.context() as broken:
            broken.setattr(server._calls, "submit_all", lambda *given: 1 / 0)
            error = await refused(stub.InferStream(iter([request()])).read())
            assert error.code().name == "INTERNAL"
        assert (await stub.InferStream(iter([request()])).read()).codec == "toy"


async def test_a_stream_that_ended_says_and_counts_everything_once_although_its_peer_takes_it_slowly(bundle_root: Path):
    head = [(":method", "POST"), (":path", f"/{SERVICE}/InferStream"), ("content-type", "application/grpc")]
    first = request(codec="none", request_id="first").SerializeToString()
    too_large = struct.pack(">BI", 0, 5 << 20) + b"its beginning"
    async with running(bundle_root) as (server, at):
        read, write = await asyncio.open_connection(*at["grpc"].split(":"))
        write.write(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)))
        write.write(frame(HEADERS, END_HEADERS, 1, write_headers(head)))
        write.write(frame(DATA, 0, 1, struct.pack(">BI", 0, len(first)) + first + too_large))
        counted = {"transport": "grpc", "codec": "unknown", "outcome": "too_large"}
        await until(lambda: sample(server, "weaklink_requests_total", **counted) > 0)
        write.write(window_update(1, 1) * 9 + window_update(1, 60_000))
        answers, flags = b"", 0
        async with asyncio.timeout(30):
            while not flags & END_STREAM:
                high, low, kind, flags, stream = HEAD.unpack(await read.readexactly(HEAD.size))
                payload = await read.readexactly(high << 8 | low)
                answers += payload if kind == DATA else b""
                flags = flags if stream else 0
        assert answers.count(b"first") == 1 and sample(server, "weaklink_requests_total", **counted) == 1
        write.close()
