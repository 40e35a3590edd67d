"""Connections of one address and in all, over both doors; and as many files as there may be."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from pathlib import Path

import pytest

from edge_server.connection_limit import ConnectionLimit
from edge_server.sockets import OTHER_FILES, most_connections
from tests.edge_server.conftest import grpc_stub, running, until
from tests.edge_server.http2.memory import MemoryTransport
from tests.edge_server.test_life import process
from tests.edge_server.test_service import request

GREETING = {"grpc": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", "http": b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"}


async def is_served(at: dict[str, str], door: str, stack: contextlib.AsyncExitStack) -> bool:
    """Whether one more connection, which stays open, is answered."""
    host, _, port = at[door].rpartition(":")
    read, write = await asyncio.open_connection(host, int(port))
    stack.callback(write.close)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(30):
            write.write(GREETING[door])
            return await read.read(9) != b""
    return False


@pytest.mark.parametrize("setting", ["address_limit", "connection_limit"])
async def test_connections_beyond_the_limit_are_closed_until_others_are(
    bundle_root: Path, caplog: pytest.LogCaptureFixture, setting: str
):
    async with running(bundle_root, **{setting: 4}) as (server, at), contextlib.AsyncExitStack() as others:
        async with contextlib.AsyncExitStack() as first:
            for door in ("grpc", "http"):
                assert await is_served(at, door, first) and await is_served(at, door, others)
            for door in ("grpc", "http") * 3:
                assert not await is_served(at, door, others)
        await until(lambda: len(server._connections._open) == 2)
        assert await is_served(at, "http", others)
        async with grpc_stub(at["grpc"]) as stub:
            assert (await stub.Infer(request())).codec == "toy"
    lines = [line for line in caplog.messages if "connections closed at once" in line]
    assert len(lines) == 1 and setting.replace("_", "-") in lines[0]
    assert not server._connections._open and not server._connections._of


def test_addresses_of_one_network_are_one_customer():
    limit = ConnectionLimit(most_of_one=2)

    def enters(host: str) -> bool:
        transport = MemoryTransport()
        transport._extra["peername"] = (host, 1)
        entered = limit.enter(transport, transport)
        assert transport.aborted is not entered
        return entered

    assert enters("2001:db8::1") and enters("2001:db8::ffff:2") and not enters("2001:db8::3")
    assert enters("2001:db8:0:1::1") and enters("192.0.2.1") and enters("::ffff:192.0.2.1") and not enters("192.0.2.1")


async def test_the_server_may_open_as_many_files_as_this_machine_lets_it(bundle_root: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most_connections() <= soft - OTHER_FILES or soft < 2 * OTHER_FILES
    starting = process(bundle_root)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
        assert most_connections() == 616
        child, _ = await starting.__aenter__()
        assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await starting.__aexit__(None, None, None)
