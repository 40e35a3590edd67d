"""The protocol's HTTP door, ``/v2/...`` on the server's HTTP port, with its binary tensor extension.

    request or response body:  JSON | tensor | tensor ...   the header below says where the JSON ends
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from edge_server.http_body import parse_json, read_body, told_when_gone
from edge_server.oip.model import InferRequest, Wish, check_once, to_version
from edge_server.oip.service import Answer, OpenInference
from edge_server.oip.tensors import datatype_of, from_raw, from_values, to_raw, to_values
from edge_server.oip.unserved import check_tensor, extension_of, refusal
from semantic_codec.errors import InvalidRequest, NotFound, WeaklinkError

TRANSPORT = "oip-http"
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
HEADER_LENGTH = "inference-header-content-length"


class OpenInferenceHttp:
    """Handlers over :class:`OpenInference`."""

    def __init__(self, service: OpenInference, max_message_bytes: int):
        self._service, self._limit = service, max_message_bytes

    def add_to(self, app: FastAPI) -> None:
        app.get("/v2/health/live")(self.live)
        app.get("/v2/health/ready")(self.ready)
        app.get("/v2")(self.server_metadata)
        app.get("/v2/models/stats")(self.statistics)
        for model, in_schema in (("/v2/models/{name}", True), ("/v2/models/{name}/versions/{version}", False)):
            app.get(model, include_in_schema=in_schema)(self.model_metadata)
            app.get(f"{model}/ready", include_in_schema=in_schema)(self.model_ready)
            app.get(f"{model}/config", include_in_schema=in_schema)(self.model_config)
            app.get(f"{model}/stats", include_in_schema=in_schema)(self.statistics)
            app.post(f"{model}/infer", include_in_schema=in_schema)(self.infer)
        app.post("/v2/repository/index")(self.index)
        app.post("/v2/repository/models/{name}/load")(self.load)
        app.post("/v2/repository/models/{name}/unload")(self.unload)
        # Last: what none of these took, another method included.
        app.api_route("/v2/{path:path}", methods=METHODS, include_in_schema=False)(self.unknown)

    async def unknown(self, request: Request, path: str) -> None:
        extension = extension_of(path)
        if extension is not None:
            raise refusal(extension)
        raise NotFound(
            f"{request.method} /v2/{path[:80]}",
            allowed="GET health, models/NAME, its ready, config and stats; POST models/NAME/infer and repository calls",
            fix="correct the path or the method",
        )

    async def live(self) -> dict[str, bool]:
        return {"live": True}

    async def ready(self) -> JSONResponse:
        return _readiness(self._service.ready())

    async def server_metadata(self) -> dict[str, Any]:
        return self._service.server_metadata()

    async def model_metadata(self, name: str, version: str = "") -> dict[str, Any]:
        return self._service.model_metadata(name, version)

    async def model_ready(self, name: str, version: str = "") -> JSONResponse:
        return _readiness(self._service.model_ready(name, version), name=name)

    async def model_config(self, name: str, version: str = "") -> dict[str, Any]:
        return self._service.model_config(name, version)

    async def statistics(self, name: str = "", version: str = "") -> dict[str, Any]:
        return {"model_stats": self._service.model_statistics(name, version)}

    async def infer(self, request: Request, name: str, version: str = "") -> Response:
        try:
            read: InferRequest | WeaklinkError = _read(request, await read_body(request, self._limit), name, version)
        except WeaklinkError as error:
            read = error
        except ClientDisconnect:
            self._service.gone(TRANSPORT)
            raise
        answering = asyncio.ensure_future(self._service.infer(TRANSPORT, read))
        with told_when_gone(request, answering.cancel):
            try:
                answer = await answering
            except asyncio.CancelledError:
                raise ClientDisconnect from None
        return _response(read.id, answer)

    async def index(self, request: Request) -> list[dict[str, str]]:
        asked = _object(await read_body(request, self._limit))
        return await self._service.index(asked.get("ready") is True)

    async def load(self, request: Request, name: str) -> dict[str, Any]:
        await self._service.load(name, _parameters(_object(await read_body(request, self._limit))))
        return {}

    async def unload(self, request: Request, name: str) -> dict[str, Any]:
        await self._service.unload(name, _parameters(_object(await read_body(request, self._limit))))
        return {}


def _readiness(ready: bool, **of: str) -> JSONResponse:
    return JSONResponse({**of, "ready": ready}, status_code=200 if ready else 503)


def _read(request: Request, body: bytes, name: str, version: str) -> InferRequest:
    length = request.headers.get(HEADER_LENGTH, str(len(body)))
    if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= len(body)):
        raise InvalidRequest(
            f"{HEADER_LENGTH} is {length[:40]!r}", allowed=f"0 to {len(body)}, the body's length", fix="correct it"
        )
    header, rest = _object(body[: int(length)]), memoryview(body)[int(length) :]
    inputs, tensors = {}, _objects(header, "inputs")
    check_once("input", [_field(tensor, "name", str) for tensor in tensors])
    for tensor in tensors:
        name_of, datatype, shape = (_field(tensor, *one) for one in (("name", str), ("datatype", str), ("shape", list)))
        check_tensor("input", name_of, _parameters(tensor))
        size = _parameters(tensor).get("binary_data_size")
        if size is None:
            inputs[name_of] = from_values(name_of, datatype, shape, tensor.get("data", []))
            continue
        if not isinstance(size, int) or not 0 <= size <= len(rest):
            raise InvalidRequest(
                f"binary_data_size of {name_of[:40]!r} is {str(size)[:40]}",
                allowed=f"0 to {len(rest)}, the bytes that are left behind the JSON",
                fix="send every tensor in full",
            )
        inputs[name_of] = from_raw(name_of, datatype, shape, bytes(rest[:size]))
        rest = rest[size:]
    if rest:
        raise InvalidRequest(f"{len(rest)} bytes are left", allowed="what the inputs say", fix="send no more than that")
    parameters = _parameters(header)
    binary = parameters.get("binary_data_output") is True
    wishes = [_wish(output, binary) for output in _objects(header, "outputs")]
    return InferRequest(name, to_version(version), _field(header, "id", str, ""), inputs, wishes, parameters, binary)


def _wish(output: Mapping[str, Any], binary: bool) -> Wish:
    parameters = _parameters(output)
    name, classes = _field(output, "name", str), parameters.get("classification", 0)
    check_tensor("output", name, parameters)
    return Wish(name, classes, parameters.get("binary_data", binary) is True)


def _response(identifier: str, answer: Answer) -> Response:
    header: dict[str, Any] = {"model_name": answer.served.name, "model_version": str(answer.served.version)}
    if identifier:
        header["id"] = identifier
    outputs, binary = [], []
    for wish, tensor in answer.outputs:
        output = {"name": wish.name, "datatype": datatype_of(tensor), "shape": list(tensor.shape)}
        if wish.binary:
            binary.append(to_raw(tensor))
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            values = to_values(tensor)
            output["data"] = [value.decode() if isinstance(value, bytes) else value for value in values]
        outputs.append(output)
    text = json.dumps({**header, "outputs": outputs}, separators=(",", ":")).encode()
    if not binary:
        return Response(text, media_type="application/json")
    return Response(
        b"".join([text, *binary]), media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(text))}
    )


def _object(body: bytes) -> dict[str, Any]:
    """A JSON object; nothing at all is an empty one."""
    try:
        value = parse_json(body) if body else {}
    except ValueError as error:
        raise _unreadable(str(error)) from error
    if not isinstance(value, dict):
        raise _unreadable("not a JSON object")
    return value


def _objects(header: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    values = _field(header, name, list, [])
    if not all(isinstance(value, dict) for value in values):
        raise _unreadable(f"{name} is not a list of objects")
    return values


def _parameters(header: Mapping[str, Any]) -> dict[str, Any]:
    return _field(header, "parameters", dict, {})


def _field(header: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value = header.get(name)
    if value is None:  # also what some clients write for a field that they leave out
        value = default
    if not isinstance(value, kind):
        raise _unreadable(f"{name} is {str(value)[:40]!r}")
    return value


def _unreadable(reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"the body cannot be read ({reason})", allowed="what the Open Inference Protocol says", fix="correct it"
    )
