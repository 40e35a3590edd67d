"""Which trace a request belongs to, as its caller says in a ``traceparent`` header (https://www.w3.org/TR/trace-context/).

Goes with the request in a context variable, from any door to :class:`~edge_server.inference.Inference`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc

TRACEPARENT: ContextVar[str] = ContextVar("traceparent", default="")
"""The header's value; empty where there is none, or none that can be read."""
HEADER = "traceparent"
_VALID = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id(traceparent: str) -> str:
    """The 32 digits that all of a trace has in common; empty where there is none."""
    return traceparent[3:35]


def enter(traceparent: str) -> None:
    """Make it that of the request. A value that cannot be read counts as none, as the standard says."""
    TRACEPARENT.set(traceparent if _VALID.fullmatch(traceparent) else "")


def enter_grpc(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """As :func:`enter`, with the metadata of a gRPC call."""
    enter(next((value for key, value in metadata if key == HEADER), ""))


def enter_http(scope: Mapping[str, Any]) -> None:
    """As :func:`enter`, with the headers of an HTTP request."""
    given = next((value for name, value in scope["headers"] if name == HEADER.encode()), b"")
    enter(given.decode("latin-1"))


class GrpcTraceContext(grpc.aio.ServerInterceptor):
    """For grpcio's server."""

    async def intercept_service(self, continuation, details: grpc.HandlerCallDetails):
        enter_grpc(details.invocation_metadata)
        return await continuation(details)


class HttpTraceContext:
    """ASGI middleware."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            enter_http(scope)
        await self._app(scope, receive, send)
