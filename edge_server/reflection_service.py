"""``grpc.reflection.v1alpha.ServerReflection``: grpcio's, with messages read and streams bounded as everywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from edge_server.grpc_messages import abort, checked, counted_stream, parser, serialize
from edge_server.stream_limit import StreamLimit
from semantic_codec.errors import WeaklinkError


class ReflectionService(reflection.aio.ReflectionServicer):
    """``services``: full names of what is described, beside this one; ``streams``: how many a caller may have."""

    def __init__(self, services: Iterable[str], streams: StreamLimit, max_message_bytes: int):
        super().__init__((*services, reflection.SERVICE_NAME))
        self._streams, self._limit = streams, max_message_bytes

    def register(self, server: grpc.aio.Server) -> None:
        parse = parser(reflection_pb2.ServerReflectionRequest, self._limit)
        handler = grpc.stream_stream_rpc_method_handler(self._answer, parse, serialize)
        handlers = {"ServerReflectionInfo": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, handlers),))

    async def _answer(self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        async with counted_stream(self._streams, requests, context):
            try:
                async for response in self.ServerReflectionInfo(_all_checked(requests), context):
                    yield response
            except WeaklinkError as error:
                await abort(context, error)


async def _all_checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield checked(request)
