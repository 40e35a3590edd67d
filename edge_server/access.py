"""Who may call what: every gRPC method and HTTP path needs a role, and what is not named here needs admin's.

The caller goes with the request in a context variable, so that whatever door a request came through,
:class:`~edge_server.inference.Inference` and the feedback judge can ask for whom it may speak.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc

from edge_server.http_body import refusal
from edge_server.metrics import Metrics, error_label
from edge_server.tokens import Caller, Role, TokenFile
from semantic_codec.errors import PermissionDenied, Unauthenticated, WeaklinkError
from semantic_codec.web_pages import READING, refuse_pages

CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Whose request this is; None: nobody has to say."""

ANYBODY: Collection[Role] = ()
_SCRAPERS = (Role.METRICS, Role.ADMIN)
_CALLERS = (Role.DEVICES, Role.ADMIN)
_OPEN_PATHS = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
_OPEN_METHODS = ("ServerLive", "ServerReady")
OTHER_NAME = "use the address, start the server with this name as --host, or with --tokens"


def allowed_on_grpc(method: str) -> Collection[Role]:
    """Roles for a full method name, such as ``/weaklink.v1.EdgeInference/Infer``."""
    service, _, name = method.lstrip("/").partition("/")
    if service == "grpc.health.v1.Health":
        return ANYBODY
    if service.startswith("grpc.reflection.") or service == "weaklink.v1.EdgeInference":
        return _CALLERS
    if service == "inference.GRPCInferenceService" and not name.startswith("Repository"):
        return ANYBODY if name in _OPEN_METHODS else _SCRAPERS if name == "ModelStatistics" else _CALLERS
    return (Role.ADMIN,)


def allowed_on_http(path: str) -> Collection[Role]:
    if path in _OPEN_PATHS:
        return ANYBODY
    if path == "/metrics" or (path.startswith("/v2/models/") and path.endswith("/stats")):
        return _SCRAPERS
    if path == "/v2" or (path.startswith(("/v1/", "/v2/")) and not path.startswith("/v2/repository")):
        return _CALLERS
    return (Role.ADMIN,)


def caller_name() -> str:
    """The name of the request's token; empty where there is none."""
    caller = CALLER.get()
    return "" if caller is None else caller.name


def check_speaks_for(device: str) -> None:
    """PermissionDenied where the caller's token is not for this device."""
    caller = CALLER.get()
    if caller is not None and not caller.may_speak_for(device):
        raise PermissionDenied(
            f"the token of {caller.role.value} {caller.name!r} speaks for device {device!r}",
            allowed=f"device {caller.name}" if caller.role is Role.DEVICES else "no device",
            fix="use this device's own token",
        )


class Access:
    """Finds the caller of an ``authorization`` header and counts those who are turned away."""

    def __init__(self, tokens: TokenFile, metrics: Metrics):
        self._tokens, self._metrics = tokens, metrics

    def enter(self, transport: str, authorization: str, allowed: Collection[Role]) -> None:
        """Make the caller that of the request. Unauthenticated; PermissionDenied: its role is not ``allowed``."""
        if not allowed:
            return
        try:
            CALLER.set(self._caller(authorization, allowed))
        except WeaklinkError as error:
            self._metrics.count(self._metrics.requests, transport, "unknown", error_label(error))
            raise

    def admit_grpc(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """As :meth:`enter`, for a gRPC call."""
        given = next((value for key, value in metadata if key == "authorization"), "")
        self.enter("grpc", given, allowed_on_grpc(method))

    def admit_http(self, scope: Mapping[str, Any]) -> None:
        """As :meth:`enter`, for an HTTP request."""
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        self.enter("http", given.decode("latin-1"), allowed_on_http(scope["path"]))

    def _caller(self, authorization: str, allowed: Collection[Role]) -> Caller:
        caller = self._tokens.value.caller(_token(authorization))
        wanted = f"tokens of {' and '.join(role.value for role in allowed)}"
        if caller is None:
            raise Unauthenticated("no valid token", allowed=wanted, fix="send authorization: Bearer TOKEN")
        if caller.role not in allowed:
            raise PermissionDenied(
                f"this is a token of {caller.role.value}",
                allowed=wanted,
                fix="use one of these",
            )
        return caller


class GrpcAccess(grpc.aio.ServerInterceptor):
    """Before any message is read."""

    def __init__(self, access: Access):
        self._access = access

    async def intercept_service(self, continuation, details: grpc.HandlerCallDetails):
        try:
            self._access.admit_grpc(details.method, details.invocation_metadata)
        except WeaklinkError as error:
            status, message = grpc.StatusCode[error.grpc_status], str(error)

            async def refuse(_, context: grpc.aio.ServicerContext) -> None:
                await context.abort(status, message)

            # Of all four kinds the one that waits for no message.
            return grpc.stream_stream_rpc_method_handler(refuse)
        return await continuation(details)


class HttpCallers:
    """Whoever may call over HTTP: with ``access`` whom it lets in, and nobody on behalf of another site's web page, for which
    a browser would send the password, or the certificate, that it has for this one.

    ``names``: what pages may call this server, beside its addresses; None: anything. Where nobody is asked who they are, a
    page could come from a name of its own that it has had lead here (DNS rebinding).
    """

    def __init__(self, metrics: Metrics, access: Access | None, names: Collection[str] | None = None):
        self._metrics, self._access, self._names = metrics, access, names

    def admit(self, scope: Mapping[str, Any]) -> None:
        """Unauthenticated; PermissionDenied."""
        if self._names is not None or scope["method"] not in READING:
            self._check_page(scope["method"], scope["headers"])
        if self._access is not None:
            self._access.admit_http(scope)

    def _check_page(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        origin = host = b""
        for name, value in headers:
            if name == b"origin":
                origin = value
            elif name == b"host":
                host = value
        try:
            refuse_pages(method, host.decode("latin-1"), origin.decode("latin-1"), self._names, OTHER_NAME)
        except PermissionDenied as error:
            self._metrics.count(self._metrics.requests, "http", "unknown", error_label(error))
            raise


class HttpAccess:
    """ASGI middleware. A browser may give the token as the password of Basic authentication."""

    def __init__(self, app, callers: HttpCallers):
        self._app, self._callers = app, callers

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            try:
                self._callers.admit(scope)
            except WeaklinkError as error:
                await _refuse(scope["path"], error, send)
                return
        await self._app(scope, receive, send)


async def _refuse(path: str, error: WeaklinkError, send) -> None:
    headers, body = refusal(path, error)
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _token(authorization: str) -> str:
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:  # no base64, or no UTF-8 in it
            return ""
    return given.strip() if scheme.lower() == "bearer" else ""
