"""What every gRPC service of the edge does with its messages: refused ones become statuses, by the one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from semantic_codec.errors import InvalidRequest, TooLarge, WeaklinkError

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
    await context.abort(grpc.StatusCode[error.grpc_status], str(error))
