"""What every gRPC service of the edge does with its messages: refused ones become statuses, by the one table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from edge_server.access import caller_name
from edge_server.http2.grpc_call import LONGEST_MESSAGE
from edge_server.stream_limit import StreamLimit
from semantic_codec.errors import InvalidRequest, LimitReached, TooLarge, WeaklinkError

PEER = "weaklink-peer"
"""Metadata of calls that the gRPC port passes on: the address of whoever called there."""


def peer(context: grpc.aio.ServicerContext) -> str:
    return next(value for key, value in context.invocation_metadata() if key == PEER)


def parser(message_type: Any, limit: int) -> Callable[[bytes], Any]:
    """A deserializer that returns, in place of a message that is longer than ``limit`` bytes or not of its type, the
    error: a handler then refuses it by name, and counts it."""

    def parse(data: bytes) -> Any:
        if len(data) > limit:
            return TooLarge(
                f"the message has {len(data)} bytes",
                allowed=f"up to {limit}",
                fix="send fewer images per message, or raise --max-message-bytes",
            )
        try:
            return message_type.FromString(data)
        except DecodeError as error:
            return InvalidRequest(
                f"the message cannot be parsed ({error})",
                allowed=message_type.DESCRIPTOR.full_name,
                fix=f"use the stubs of {message_type.DESCRIPTOR.file.name}",
            )

    return parse


def serialize(message: Any) -> bytes:
    return message.SerializeToString()


def checked(request: Any) -> Any:
    """The parsed message; raises what the parser found wrong with it."""
    if isinstance(request, WeaklinkError):
        raise request
    return request


async def abort(context: grpc.aio.ServicerContext, error: WeaklinkError) -> None:
    """End the call with the error's status."""
    await context.abort(grpc.StatusCode[error.grpc_status], str(error)[:LONGEST_MESSAGE])


@asynccontextmanager
async def counted_stream(
    streams: StreamLimit,
    requests: AsyncIterator[Any],
    context: grpc.aio.ServicerContext,
    refused: Callable[[WeaklinkError], object] = lambda error: None,
) -> AsyncIterator[None]:
    """One of its caller's streams while it lasts. Where they have enough, ``refused`` is told and the call ends."""
    owner = caller_name() or peer(context)
    try:
        streams.enter(owner)
    except LimitReached as too_many:
        refused(too_many)
        # Behind the first message: where a refusal comes while grpcio still writes one, its client tells INTERNAL.
        await anext(aiter(requests), None)
        await abort(context, too_many)
    try:
        yield
    finally:
        streams.leave(owner)
