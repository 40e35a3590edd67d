"""``grpc.health.v1.Health``, which anybody may call: grpcio's, with messages read and streams bounded as everywhere else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from edge_server.grpc_messages import abort, checked, parser, peer, serialize
from edge_server.stream_limit import StreamLimit
from semantic_codec.errors import WeaklinkError


class HealthService(health.aio.HealthServicer):
    """``streams``: how many an address may have; those who watch are among them."""

    def __init__(self, streams: StreamLimit, max_message_bytes: int):
        super().__init__()
        self._streams, self._limit = streams, max_message_bytes

    def register(self, server: grpc.aio.Server) -> None:
        """Own deserializer: grpcio's would log the stack for each message that is none."""
        parse = parser(health_pb2.HealthCheckRequest, self._limit)
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(_answering(self.Check), parse, serialize),
            "Watch": grpc.unary_stream_rpc_method_handler(_answering(self._watch), parse, serialize),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(health.SERVICE_NAME, handlers),))

    async def _watch(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> None:
        owner = peer(context)
        self._streams.enter(owner)
        try:
            await self.Watch(request, context)
        finally:
            self._streams.leave(owner)


def _answering(handle: Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]):
    async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await handle(checked(request), context)
        except WeaklinkError as error:
            await abort(context, error)

    return answer
