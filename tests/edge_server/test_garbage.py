"""A request that ended leaves nothing that only the garbage collector would find: under load it would take a third of the time."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.edge_server.conftest import grpc_stub, running
from tests.edge_server.test_service import request as grpc_request
from tests.edge_server.test_timed_http import connected, request

COUNT = 100


async def garbage_of(ask: Callable[[], Awaitable]) -> int:
    """Objects in cycles that so many requests leave."""
    await ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(COUNT):
            await ask()
        return gc.collect()
    finally:
        gc.enable()


async def test_no_door_leaves_a_cycle_of_each_request(bundle_root: Path):
    async with running(bundle_root) as (_, at), connected(at) as peer, grpc_stub(at["grpc"]) as stub:

        async def over_http() -> None:
            peer.writer.write(request())
            assert (await peer.answer())[0] == 200

        async def refused_over_http() -> None:
            peer.writer.write(request(b"{"))
            assert (await peer.answer())[0] == 400

        async def over_grpc() -> None:
            assert (await stub.Infer(grpc_request())).results

        left = {ask.__name__: await garbage_of(ask) for ask in (over_http, refused_over_http, over_grpc)}
        assert max(left.values()) < COUNT, left
