"""Bodies of HTTP requests, and of refusals; clients that do not wait for theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import Request

from semantic_codec.errors import InvalidRequest, TooLarge, Unauthenticated, WeaklinkError

Headers = Sequence[tuple[bytes, bytes]]

ON_GONE = "weaklink.on_gone"
"""In a request's scope: a set of what is called when its connection is lost."""


async def read_body(request: Request, limit: int) -> bytes:
    """The body, given up as soon as it is seen to be longer than ``limit`` bytes: TooLarge. InvalidRequest: it is compressed."""
    check_uncompressed(request.scope)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise too_long(limit)
    return bytes(body)


def check_uncompressed(scope: Mapping[str, Any]) -> None:
    """InvalidRequest: the body of the request is compressed, which a bitstream of a level's length would not show."""
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            encoding = value[:40].decode("latin-1")
            raise InvalidRequest(f"content-encoding is {encoding!r}", allowed="identity", fix="send it uncompressed")


def too_long(limit: int) -> TooLarge:
    return TooLarge(
        f"the body has more than {limit} bytes",
        allowed=f"up to {limit}",
        fix="send fewer images per request, or raise --max-message-bytes",
    )


def parse_json(body: bytes) -> Any:
    """The value in UTF-8 JSON. ValueError: it is none, is too deep, or has text that no UTF-8 could hold (half of a surrogate
    pair), which would fail later, wherever it is first written."""
    text = body.decode()
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


@contextmanager
def told_when_gone(request: Request, tell: Callable[[], object]) -> Iterator[None]:
    """Within, ``tell()`` is called where the client goes away."""
    calls: set[Callable[[], object]] = request.scope.get(ON_GONE, set())
    calls.add(tell)
    try:
        yield
    finally:
        calls.discard(tell)


def refusal_body(path: str, error: WeaklinkError) -> dict[str, Any]:
    """Below /v2 as the Open Inference Protocol has it, ours elsewhere."""
    if path == "/v2" or path.startswith("/v2/"):
        return {"error": str(error)}
    return {"error": {"status": error.grpc_status, "message": str(error)}}


def refusal(path: str, error: WeaklinkError) -> tuple[Headers, bytes]:
    """Headers, but for the length, and body of a refusal."""
    headers = [(b"content-type", b"application/json")]
    if isinstance(error, Unauthenticated):
        headers += [(b"www-authenticate", b"Bearer"), (b"www-authenticate", b'Basic realm="weaklink"')]
    return headers, json.dumps(refusal_body(path, error)).encode()
