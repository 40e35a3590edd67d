"""The admin door, for people, curl and Prometheus; on its own port, and never the way of the many."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from google.protobuf import json_format
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_server.feedback import FeedbackJudge
from edge_server.http_body import parse_json, read_body, refusal_body, told_when_gone
from edge_server.inference import Inference
from edge_server.jobs import Call, Job
from edge_server.messages import to_call, to_codec_list, to_json_response
from edge_server.metrics import Metrics
from edge_server.repository import Repository
from edge_server.status_page import StatusPage
from semantic_codec.errors import InvalidRequest, WeaklinkError
from weaklink.v1 import edge_pb2

TRANSPORT = "http"
_PLAIN = dict.fromkeys(("bitstream", "codec", "device", "request_id"), (str,)) | dict.fromkeys(
    ("version", "level", "sequence", "top_k"), (int,)
) | {"ber_estimate": (float, int)}
NUMBERS = {"version": int, "level": int, "ber_estimate": float, "sequence": int, "top_k": int}
TEXTS = ("codec", "device", "request_id")


class AdminApi:
    """Handlers over the same :class:`Inference` that gRPC and UDP use. ``ready`` says whether new work is welcome."""

    def __init__(
        self,
        inference: Inference,
        judge: FeedbackJudge,
        repository: Repository,
        metrics: Metrics,
        ready: Callable[[], bool],
        max_message_bytes: int,
        page: StatusPage,
    ):
        self._inference, self._judge, self._repository = inference, judge, repository
        self._metrics, self._ready, self._limit, self._page = metrics, ready, max_message_bytes, page

    def app(self) -> FastAPI:
        # The interactive docs would load their scripts from another host.
        app = FastAPI(title="Weaklink edge node", docs_url=None, redoc_url=None)
        app.add_exception_handler(WeaklinkError, _refuse)
        app.add_exception_handler(ClientDisconnect, _nobody_listens)
        self._page.add_to(app)
        app.get("/healthz")(self.healthz)
        app.get("/readyz")(self.readyz)
        app.get("/metrics")(self.scrape)
        app.get("/v1/codecs")(self.codecs)
        app.add_middleware(_InferFirst, infer=self.infer)
        app.post("/v1/feedback")(self.feedback)
        return app

    async def healthz(self) -> dict[str, str]:
        return {"status": "alive"}

    async def readyz(self) -> JSONResponse:
        ready = self._ready()
        body = {
            "status": "ready" if ready else "not ready",
            "codecs": [{"name": codec.name, "version": codec.version} for codec in self._repository.codecs],
            "refused": [{"path": one.path, "reason": one.reason} for one in self._repository.refused],
        }
        return JSONResponse(body, status_code=200 if ready else 503)

    async def scrape(self) -> Response:
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def codecs(self) -> dict[str, Any]:
        listed = _to_json(to_codec_list(self._repository))
        for codec in listed["codecs"]:
            codec["manifest"] = json.loads(codec.pop("manifest_json"))
        return listed

    async def infer(self, request: Request) -> Response:
        """JSON with ``bitstream`` in base64, or the bitstream itself as octet-stream with the rest in the query."""
        refusal, call = None, Call(TRANSPORT, b"")
        try:
            body = await read_body(request, self._limit)
            octets = request.headers.get("content-type", "").startswith("application/octet-stream")
            message = _from_query(request, body) if octets else _from_json(body, edge_pb2.InferRequest())
            call = to_call(message, TRANSPORT, None)
        except WeaklinkError as error:
            refusal = error
        except ClientDisconnect:
            self._inference.gone(TRANSPORT)
            raise
        answered: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        job = self._inference.submit(call, answered.set_result, refusal)
        with told_when_gone(request, lambda: self._inference.abandon(job)):
            await asyncio.shield(answered)
        if job.error is not None:
            raise job.error
        return JSONResponse(to_json_response(job))

    async def feedback(self, request: Request) -> dict[str, bool]:
        message = _from_json(await read_body(request, self._limit), edge_pb2.FeedbackRequest())
        verdict = self._judge.judge(
            message.device, message.sequence, message.codec, message.task, message.true_class
        )
        return {"matched": verdict.matched, "correct": verdict.correct}


class _InferFirst:
    """``POST /v1/infer``, which is called far more often than all else, without what FastAPI does for a request: several
    times the work of answering it."""

    def __init__(self, app: ASGIApp, infer: Callable[[Request], Awaitable[Response]]):
        self._app, self._infer = app, infer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/v1/infer" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._infer(request)
        except WeaklinkError as error:
            response = await _refuse(request, error)
        except ClientDisconnect:
            response = await _nobody_listens()
        await response(scope, receive, send)


async def _refuse(request: Request, error: WeaklinkError) -> JSONResponse:
    return JSONResponse(refusal_body(request.url.path, error), status_code=error.http_status)


async def _nobody_listens(*_) -> Response:
    """For a client that went away before its request was whole; this is never sent."""
    return Response(status_code=400)


def _to_json(message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _from_json(body: bytes, message):
    """The proto's JSON form; beside it ``erased`` may be pairs of first bit and bit count."""
    try:
        fields = parse_json(body)
        if not isinstance(fields, dict):
            raise ValueError("not a JSON object")
        if isinstance(message, edge_pb2.InferRequest) and (plain := _plain_request(fields)) is not None:
            return plain
        if isinstance(fields.get("erased"), list):
            fields["erased"] = [_range(part) for part in fields["erased"]]
        if "bitstream" in fields:
            base64.b64decode(fields["bitstream"], validate=True)
        ber = fields.get("ber_estimate")
        if isinstance(ber, float) and ber != ber:
            fields["ber_estimate"] = "NaN"  # what the parser below calls it; refused later, with the reason
        return json_format.ParseDict(fields, message)
    except (ValueError, TypeError, binascii.Error, json_format.ParseError) as error:
        raise InvalidRequest(
            f"the body cannot be read ({error})",
            allowed=f"a JSON object with the fields {', '.join(message.DESCRIPTOR.fields_by_name)}",
            fix="send bitstream in base64, numbers as numbers and names as strings",
        ) from error


def _plain_request(fields: dict[str, Any]) -> edge_pb2.InferRequest | None:
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
    except (KeyError, ValueError, TypeError):
        return None


def _range(part: Any) -> Any:
    if isinstance(part, list):
        first, count = part
        return {"first_bit": first, "bit_count": count}
    return part


def _from_query(request: Request, body: bytes) -> edge_pb2.InferRequest:
    query = request.query_params
    message = edge_pb2.InferRequest(bitstream=body, tasks=query.getlist("tasks"))
    unknown = set(query) - {*NUMBERS, *TEXTS, "tasks", "erased", "encoder_hash"}
    if unknown:
        raise InvalidRequest(
            f"the query has {sorted(unknown)[0]!r}",
            allowed=", ".join((*TEXTS, *NUMBERS, "tasks", "erased", "encoder_hash")),
            fix="remove or rename it",
        )
    try:
        for name, kind in NUMBERS.items():
            if name in query:
                setattr(message, name, kind(query[name]))
        for name in TEXTS:
            if name in query:
                setattr(message, name, query[name])
        for part in query.getlist("erased"):
            first, count = part.split(":")
            message.erased.add(first_bit=int(first), bit_count=int(count))
        message.encoder_hash = bytes.fromhex(query.get("encoder_hash", ""))
    except (ValueError, TypeError) as error:
        raise InvalidRequest(
            f"the query cannot be read ({error})",
            allowed="numbers as decimals, erased as FIRST:COUNT, encoder_hash in hex",
            fix="correct the parameter",
        ) from error
    return message
