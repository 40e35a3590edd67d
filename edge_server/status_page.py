"""The live status page: static files that ask for ``/status.json`` every two seconds, and nothing from another host."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from edge_server.status import Status

PAGE = "index.html"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    # Nothing inline, nothing from elsewhere, and no place in anybody's frame.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class StatusPage:
    """The page at ``/``, its files under ``/static/``, what it shows at ``/status.json``."""

    def __init__(self, status: Status):
        self._status = status

    def add_to(self, app: FastAPI) -> None:
        """Each file is read once, here: no path comes from a caller."""
        for file in files("edge_server.pages").iterdir():
            kind = TYPES.get(file.name[file.name.rfind(".") :])
            if kind is not None:
                path = "/" if file.name == PAGE else f"/static/{file.name}"
                app.get(path)(_answer(file.read_bytes(), kind))
        app.get("/status.json")(self.status)

    async def status(self) -> JSONResponse:
        return JSONResponse(self._status.snapshot(), headers={"cache-control": "no-store"})


def _answer(content: bytes, kind: str):
    async def answer() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return answer
