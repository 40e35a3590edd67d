"""The admin door, for people, curl and Prometheus; on its own port, and never the way of the many."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from google.protobuf import json_format
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from edge_server.feedback import FeedbackJudge
from edge_server.http_body import read_body, refusal_body
from edge_server.http_infer import INFER, from_json
from edge_server.messages import to_codec_list
from edge_server.metrics import Metrics
from edge_server.repository import Repository
from edge_server.status_page import StatusPage
from semantic_codec.errors import NotFound, WeaklinkError
from weaklink.v1 import edge_pb2


class AdminApi:
    """All but inference, which is :class:`~edge_server.http_infer.HttpInfer`'s. ``ready`` says whether new work is
    welcome."""

    def __init__(
        self,
        judge: FeedbackJudge,
        repository: Repository,
        metrics: Metrics,
        ready: Callable[[], bool],
        max_message_bytes: int,
        page: StatusPage,
    ):
        self._judge, self._repository, self._metrics = judge, repository, metrics
        self._ready, self._limit, self._page = ready, max_message_bytes, page

    def app(self) -> FastAPI:
        # The interactive docs would load their scripts from another host.
        app = FastAPI(title="Weaklink edge node", docs_url=None, redoc_url=None)
        app.add_exception_handler(WeaklinkError, _refuse)
        app.add_exception_handler(ClientDisconnect, _nobody_listens)
        self._page.add_to(app)
        read = {"/healthz": self.healthz, "/readyz": self.readyz, "/metrics": self.scrape, "/v1/codecs": self.codecs}
        for path, answer in read.items():
            app.get(path)(answer)
            app.head(path, include_in_schema=False)(answer)
        app.post("/v1/feedback")(self.feedback)
        app.add_exception_handler(HTTPException, _refuse_path)
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

    async def feedback(self, request: Request) -> dict[str, bool]:
        try:
            # Left out it would be class 0, and the answer judged by it, once and for all.
            message = from_json(await read_body(request, self._limit), edge_pb2.FeedbackRequest(), needed="true_class")
        except WeaklinkError:
            self._judge.refuse()
            raise
        verdict = self._judge.judge(
            message.device, message.sequence, message.codec, message.task, message.true_class
        )
        return {"matched": verdict.matched, "correct": verdict.correct}


async def _refuse(request: Request, error: WeaklinkError) -> JSONResponse:
    return JSONResponse(refusal_body(request.url.path, error), status_code=error.http_status)


async def _refuse_path(request: Request, refused: HTTPException) -> JSONResponse:
    """No such path, or none of that method: inference, which is not the application's, among those that there are."""
    routes = [route for route in request.app.routes if getattr(route, "include_in_schema", False)]
    known = {f"POST {INFER}", *(f"{method} {route.path}" for route in routes for method in route.methods)}
    error = NotFound(
        f"there is no {request.method} {request.url.path[:80]}",
        allowed=", ".join(sorted(known, key=lambda each: each.split()[::-1])),
        fix="correct the path or the method",
    )
    return JSONResponse(refusal_body(request.url.path, error), status_code=refused.status_code, headers=refused.headers)


async def _nobody_listens(*_) -> Response:
    """For a client that went away before its request was whole; this is never sent."""
    return Response(status_code=400)


def _to_json(message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
