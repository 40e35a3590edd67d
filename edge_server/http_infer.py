"""``POST /v1/infer``, which is called far more often than all else on the HTTP port: from its bytes to those of its answer,
without a task, a middleware or FastAPI, each of which takes as long as everything that happens here."""

from __future__ import annotations

import base64
import contextvars
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from google.protobuf import json_format
from starlette.datastructures import QueryParams

from edge_server.http_body import Headers, check_uncompressed, parse_json, refusal, too_long
from edge_server.inference import Inference
from edge_server.jobs import Call, Job
from edge_server.messages import to_call, to_json_response
from semantic_codec.errors import InvalidRequest, WeaklinkError
from weaklink.v1 import edge_pb2

TRANSPORT = "http"
INFER = "/v1/infer"
_PLAIN = dict.fromkeys(("bitstream", "codec", "device", "request_id"), (str,)) | dict.fromkeys(
    ("version", "level", "sequence", "top_k"), (int,)
) | {"ber_estimate": (float, int)}
TEXTS = ("codec", "device", "request_id")
REPEATED = ("tasks", "erased")


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("no decimal digits")
    return int(text)


def _decimal(text: str) -> float:
    if not text.isascii() or "_" in text:
        raise ValueError("no decimal number")
    return float(text)


NUMBERS = {"version": _whole, "level": _whole, "ber_estimate": _decimal, "sequence": _whole, "top_k": _whole}
"""Stricter than Python, which takes 1_0 for 10, and other scripts' digits."""
PARAMETERS = (*TEXTS, *NUMBERS, *REPEATED, "encoder_hash")
_JSON: Headers = ((b"content-type", b"application/json"),)
Scope = Mapping[str, Any]
Respond = Callable[[int, Headers, bytes], None]
"""Takes the status, the headers but for the length, and the body."""


class HotCall(Protocol):
    """One request that its connection hands over as it comes in."""

    def look(self, body: bytes | bytearray, whole: bool) -> None:
        """So much of the body is there; may be called again, until the request was answered."""

    def gone(self) -> None:
        """Nobody waits for the answer any more."""


class HttpInfer:
    """``admit(scope)`` raises a WeaklinkError for a request that may not be made; it may set context variables, which hold
    for the whole of the request. ``limit``: bytes of a body."""

    def __init__(self, inference: Inference, limit: int, admit: Callable[[Scope], None] = lambda scope: None):
        self.inference, self.limit, self.admit = inference, limit, admit

    def __call__(self, scope: Scope, respond: Respond) -> HotCall:
        return _InferCall(self, scope, respond)


class _InferCall:
    """JSON with ``bitstream`` in base64, or the bitstream itself as octet-stream with the rest in the query."""

    def __init__(self, door: HttpInfer, scope: Scope, respond: Respond):
        self._door, self._scope, self._respond = door, scope, respond
        # Its own: whose request this is must not be taken for the next one's.
        self._context: contextvars.Context | None = None
        self._job: Job | None = None

    def look(self, body: bytes | bytearray, whole: bool) -> None:
        if self._job is not None:
            return
        if self._context is None:
            self._context = contextvars.copy_context()
            try:
                self._context.run(self._door.admit, self._scope)
            except WeaklinkError as error:
                self._refuse(error)
                return
        limit = self._door.limit
        if len(body) > limit:
            self._submit(Call(TRANSPORT, b""), too_long(limit))
        elif whole:
            try:
                call, error = to_call(self._read(bytes(body)), TRANSPORT, None), None
            except WeaklinkError as wrong:
                call, error = Call(TRANSPORT, b""), wrong
            self._submit(call, error)

    def gone(self) -> None:
        if self._job is None:
            self._door.inference.gone(TRANSPORT)
        else:
            self._door.inference.abandon(self._job)

    def _submit(self, call: Call, error: WeaklinkError | None) -> None:
        self._job = self._context.run(self._door.inference.submit, call, self._done, error)

    def _done(self, job: Job) -> None:
        if job.error is not None:
            self._refuse(job.error)
        elif not job.cancelled:
            body = json.dumps(to_json_response(job), ensure_ascii=False, separators=(",", ":")).encode()
            self._respond(200, _JSON, body)

    def _refuse(self, error: WeaklinkError) -> None:
        self._respond(error.http_status, *refusal(self._scope["path"], error))

    def _read(self, body: bytes) -> edge_pb2.InferRequest:
        check_uncompressed(self._scope)
        kind = next((value for name, value in self._scope["headers"] if name == b"content-type"), b"")
        if kind.lower().startswith(b"application/octet-stream"):
            return _from_query(QueryParams(self._scope["query_string"]), body)
        if query := self._scope["query_string"]:
            raise InvalidRequest(
                f"the query is {query[:40].decode('latin-1')!r}",
                allowed="none beside a JSON body",
                fix="put all fields into the JSON, or send the bitstream itself, with content-type: application/octet-stream",
            )
        return from_json(body, edge_pb2.InferRequest())


def from_json(body: bytes, message, needed: str = ""):
    """The proto's JSON form; beside it ``erased`` may be pairs of first bit and bit count. ``needed``: a field that may not be
    left out, though the proto has a value for that."""
    try:
        fields = parse_json(body)
        if not isinstance(fields, dict):
            raise ValueError("not a JSON object")
        if isinstance(message, edge_pb2.InferRequest) and (plain := plain_request(fields)) is not None:
            return plain
        if isinstance(fields.get("erased"), list):
            fields["erased"] = [_range(part) for part in fields["erased"]]
        if "bitstream" in fields:
            base64.b64decode(fields["bitstream"], validate=True)
        ber = fields.get("ber_estimate")
        if isinstance(ber, float) and ber != ber:
            fields["ber_estimate"] = "NaN"  # what the parser below calls it; refused later, with the reason
        json_format.ParseDict(fields, message)
    except (ValueError, TypeError, OverflowError, json_format.ParseError) as error:
        raise InvalidRequest(
            f"the body cannot be read ({error})",
            allowed=f"a JSON object with the fields {', '.join(message.DESCRIPTOR.fields_by_name)}",
            fix="send bitstream in base64, numbers as numbers and names as strings",
        ) from error
    if needed and all(fields.get(name) is None for name in (needed, message.DESCRIPTOR.fields_by_name[needed].json_name)):
        raise InvalidRequest(f"there is no {needed}", allowed=f"{needed} beside the other fields", fix=f"send {needed}")
    return message


def plain_request(fields: dict[str, Any]) -> edge_pb2.InferRequest | None:
    """The request where every field is of the type that it has in the proto, as nearly always; None: see the JSON form's
    other spellings, or what is wrong."""
    given = dict(fields)
    try:
        for name, value in fields.items():
            if type(value) not in _PLAIN[name]:
                return None
        if "bitstream" in given:
            given["bitstream"] = base64.b64decode(given["bitstream"], validate=True)
        return edge_pb2.InferRequest(**given)
    except (KeyError, ValueError, TypeError, OverflowError):  # the last: no double is that large
        return None


def _range(part: Any) -> Any:
    if isinstance(part, list):
        first, count = part
        return {"first_bit": first, "bit_count": count}
    return part


def _from_query(query: QueryParams, body: bytes) -> edge_pb2.InferRequest:
    message = edge_pb2.InferRequest(bitstream=body, tasks=query.getlist("tasks"))
    for name, count in Counter(name for name, _ in query.multi_items()).items():
        if name not in PARAMETERS:
            raise InvalidRequest(f"the query has {name!r}", allowed=", ".join(PARAMETERS), fix="remove or rename it")
        if count > 1 and name not in REPEATED:
            raise InvalidRequest(
                f"the query has {name} {count} times", allowed=f"once; {', '.join(REPEATED)} more often", fix="give it once"
            )
    for name, value in query.multi_items():
        try:
            if name in NUMBERS:
                setattr(message, name, NUMBERS[name](value))
            elif name in TEXTS:
                setattr(message, name, value)
            elif name == "erased":
                first, count = value.split(":")
                message.erased.add(first_bit=_whole(first), bit_count=_whole(count))
            elif name == "encoder_hash":
                message.encoder_hash = bytes.fromhex(value)
        except (ValueError, TypeError) as error:
            raise InvalidRequest(
                f"the query's {name} is {value[:40]!r}",
                allowed="numbers as decimals that their field has room for, erased as FIRST:COUNT, encoder_hash in hex",
                fix="correct the parameter",
            ) from error
    return message
