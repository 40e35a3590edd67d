"""Extensions of the protocol that clients may expect, and that are not served here: refused by name, with a way around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semantic_codec.errors import InvalidRequest, Unimplemented

_MEMORY = "send tensors in the requests: a bitstream is shorter than the name of a region"
_INSTEAD = {
    "systemsharedmemory": _MEMORY,
    "cudasharedmemory": _MEMORY,
    "trace": "start the server with --otlp-endpoint, and send a traceparent with the request",
    "logging": "start the server with --log-level, --log-format or --log-requests",
}
METHODS = {
    **{f"SystemSharedMemory{what}": "systemsharedmemory" for what in ("Status", "Register", "Unregister")},
    **{f"CudaSharedMemory{what}": "cudasharedmemory" for what in ("Status", "Register", "Unregister")},
    "TraceSetting": "trace",
    "LogSettings": "logging",
}
"""Methods of gRPC, and the extension that each is part of."""
REGION = "shared_memory_region"  # parameter of a tensor


def refusal(extension: str) -> Unimplemented:
    """Of an extension as HTTP paths name it."""
    return Unimplemented(f"{extension} is not served", allowed="what the server's metadata lists", fix=_INSTEAD[extension])


def extension_of(path: str) -> str | None:
    """Of an HTTP path behind ``/v2/``, such as ``models/digits/trace/setting``; None: it is of none of these."""
    return next((part for part in path.split("/") if part in _INSTEAD), None)


def check_tensor(kind: str, name: str, parameters: Mapping[str, Any]) -> None:
    """InvalidRequest: an input or output that lies in shared memory. Without that its client would wait for nothing, or
    take what lay there before for an answer."""
    if REGION in parameters:
        raise InvalidRequest(
            f"{kind} {name[:40]!r} lies in shared memory {str(parameters[REGION])[:40]!r}",
            allowed="tensors in the message",
            fix=_MEMORY,
        )
