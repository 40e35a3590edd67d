"""The control API: links as JSON over HTTP, in the manner of toxiproxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from importlib import metadata
from typing import Annotated

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.base import RequestResponseEndpoint

from channel_emulator.channels import CHANNELS
from channel_emulator.emulator import Emulator
from channel_emulator.metrics import LinkCollector
from semantic_codec.address import Address
from semantic_codec.errors import WeaklinkError
from semantic_codec.web_pages import refuse_pages

LINK_EXAMPLE = {
    "name": "radio",
    "kind": "udp",
    "listen": "127.0.0.1:0",
    "upstream": "127.0.0.1:50052",
    "seed": 0,
    "up": [{"channel": "bsc", "ber": 0.01}],
    "down": [],
}
CHANGE_EXAMPLE = {"up": [{"channel": "bsc", "ber": 0.05}]}


def version() -> str:
    """The installed distribution's version, or "unknown" from a source tree that was never installed."""
    try:
        return metadata.version("weaklink")
    except metadata.PackageNotFoundError:
        return "unknown"


def refusal(http_status: int, status: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"status": status, "message": message}}, http_status)


def own_names(bound: Address, host: str) -> frozenset[str] | None:
    """What pages may call a control API that listens there, beside its addresses. None: anything, since it is open to a
    network that has its own names for it."""
    is_loopback = ipaddress.ip_address(bound.host.partition("%")[0]).is_loopback
    return frozenset(("localhost", host.lower())) if is_loopback else None


def create_app(
    emulator: Emulator, registry: CollectorRegistry | None = None, names: Collection[str] | None = None
) -> FastAPI:
    """The application for one emulator. Metrics go to `registry`, a new one unless given. `names`: see `own_names`."""
    registry = CollectorRegistry() if registry is None else registry
    registry.register(LinkCollector(emulator))
    app = FastAPI(title="Weaklink channel emulator", version=version())

    @app.exception_handler(WeaklinkError)
    async def refused(request: Request, error: WeaklinkError) -> JSONResponse:
        return refusal(error.http_status, error.grpc_status, str(error))

    @app.middleware("http")
    async def check_page(request: Request, call_next: RequestResponseEndpoint) -> Response:
        try:
            host, origin = (request.headers.get(name, "") for name in ("host", "origin"))
            refuse_pages(request.method, host, origin, names, "use the address, or start the emulator with this name as --host")
        except WeaklinkError as error:
            return await refused(request, error)
        return await call_next(request)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        sent = request.headers.get("content-type", "")
        if not sent.partition(";")[0].strip().endswith("json"):  # FastAPI looks into no other, which pages may send anywhere
            message = f"the body's content-type is {sent[:80]!r}; allowed: application/json; fix: send that header, too"
        else:
            message = f"the body is no JSON object ({error.errors()[0]['msg']}); allowed: {{...}}; fix: check its syntax"
        return refusal(400, "INVALID_ARGUMENT", message)

    @app.exception_handler(HTTPException)
    async def no_such_route(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}; allowed: see /docs; fix: correct the request"
        return refusal(error.status_code, "NOT_FOUND" if error.status_code == 404 else "INVALID_ARGUMENT", message)

    @app.get("/links")
    async def list_links() -> list[dict]:
        return [link.as_json() for link in emulator.links()]

    @app.post("/links", status_code=201)
    async def create_link(body: Annotated[dict, Body(examples=[LINK_EXAMPLE])]) -> dict:
        return (await emulator.create(body)).as_json()

    @app.get("/links/{name}")
    async def show_link(name: str) -> dict:
        return emulator.link(name).as_json()

    @app.patch("/links/{name}")
    async def change_link(name: str, body: Annotated[dict, Body(examples=[CHANGE_EXAMPLE])]) -> dict:
        link = emulator.link(name)
        link.change(body)
        return link.as_json()

    @app.delete("/links/{name}", status_code=204)
    async def delete_link(name: str) -> None:
        await emulator.delete(name)

    @app.post("/links/{name}/reset")
    async def reset_link(name: str) -> dict:
        link = emulator.link(name)
        link.reset()
        return link.as_json()

    @app.post("/reset", status_code=204)
    async def reset_all() -> None:
        emulator.reset()

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz")
    async def healthz() -> dict:
        return {"status": "ok", "links": len(emulator.links())}

    @app.get("/version")
    async def show_version() -> dict:
        return {"version": version(), "channels": sorted(CHANNELS)}

    return app
