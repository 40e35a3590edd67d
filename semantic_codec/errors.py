"""One small error tree. Each class carries its gRPC status name and HTTP status, so both services share one table."""

from __future__ import annotations


class WeaklinkError(Exception):
    """Base of all refusals: names the problem with its value, what is allowed, and the fix.

    >>> str(InvalidRequest("ber_estimate is 0.7", allowed="0 to 0.5", fix="leave it unset when unknown"))
    'ber_estimate is 0.7; allowed: 0 to 0.5; fix: leave it unset when unknown'
    """

    grpc_status = "INTERNAL"
    http_status = 500

    def __init__(self, problem: str, *, allowed: str, fix: str):
        super().__init__(f"{problem}; allowed: {allowed}; fix: {fix}")
        self.problem, self.allowed, self.fix = problem, allowed, fix


class InvalidRequest(WeaklinkError):
    """A value of the request is outside what is allowed."""

    grpc_status, http_status = "INVALID_ARGUMENT", 400


class Unauthenticated(WeaklinkError):
    """Nobody knows who calls: no token, or none that is valid."""

    grpc_status, http_status = "UNAUTHENTICATED", 401


class PermissionDenied(WeaklinkError):
    """The caller is known, and this is not for it."""

    grpc_status, http_status = "PERMISSION_DENIED", 403


class NotFound(WeaklinkError):
    """A codec, version, device or file that does not exist."""

    grpc_status, http_status = "NOT_FOUND", 404


class AlreadyExists(WeaklinkError):
    """The name is taken: a proxy, a port."""

    grpc_status, http_status = "ALREADY_EXISTS", 409


class EncoderMismatch(WeaklinkError):
    """The device's encoder does not match the decoder: its bits would mean something else here."""

    grpc_status, http_status = "FAILED_PRECONDITION", 412


class TooLarge(WeaklinkError):
    """A message over the size limit."""

    grpc_status, http_status = "RESOURCE_EXHAUSTED", 413


class QueueFull(WeaklinkError):
    """The queue is at its bound: back off and try again."""

    grpc_status, http_status = "RESOURCE_EXHAUSTED", 429


class LimitReached(QueueFull):
    """One caller has as much under way as one may have: the same for it, but no sign that the node is at its end."""


class Unimplemented(WeaklinkError):
    """Part of a protocol that is not served here."""

    grpc_status, http_status = "UNIMPLEMENTED", 501


class Unavailable(WeaklinkError):
    """Not serving: starting, draining, or unreachable."""

    grpc_status, http_status = "UNAVAILABLE", 503


class DeadlineExceeded(WeaklinkError):
    """The caller's deadline passed before the answer was ready."""

    grpc_status, http_status = "DEADLINE_EXCEEDED", 504


class BundleError(WeaklinkError):
    """A bundle that must not serve: wrong hash, wrong schema version, missing file, impossible shapes."""

    grpc_status, http_status = "FAILED_PRECONDITION", 422


class ConfigError(WeaklinkError):
    """A setting, flag or training configuration that cannot work."""

    grpc_status, http_status = "INVALID_ARGUMENT", 400
