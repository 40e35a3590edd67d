"""gRPC statuses back into the error tree that they came from."""

from __future__ import annotations

import grpc

from semantic_codec import errors

# Statuses that several errors share come back as the one that a caller acts on in the same way.
BY_STATUS: dict[str, type[errors.WeaklinkError]] = {
    kind.grpc_status: kind
    for kind in (
        errors.InvalidRequest,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.NotFound,
        errors.AlreadyExists,
        errors.EncoderMismatch,
        errors.QueueFull,
        errors.Unavailable,
        errors.DeadlineExceeded,
    )
}


def from_rpc(problem: grpc.RpcError | None, address: str, timeout_s: float) -> errors.WeaklinkError:
    """A failed call as one of our errors; None stands for a stream that the edge ended without one."""
    if problem is None:
        return from_status("UNAVAILABLE", "the edge closed the stream", address, timeout_s)
    return from_status(problem.code().name, problem.details() or "", address, timeout_s)


def from_status(status: str, message: str, address: str, timeout_s: float) -> errors.WeaklinkError:
    """gRPC status name and message -> error. The edge's own messages keep their allowed range and fix."""
    kind = BY_STATUS.get(status, errors.WeaklinkError)
    problem, allowed, fix = _parts(message)
    if fix:
        return kind(problem, allowed=allowed, fix=fix)
    if kind is errors.Unavailable:
        return kind(
            f"the edge at {address} cannot be reached: {message}",
            allowed="the gRPC address of a running edge or link emulator",
            fix="start `weaklink serve`, or correct the address (its ready line shows it)",
        )
    if kind is errors.DeadlineExceeded:
        return kind(
            f"no answer from {address} in time",
            allowed=f"an answer within {timeout_s:g} s",
            fix="raise the timeout, or check the load of the edge",
        )
    return kind(f"the edge at {address} says {status}: {message}", allowed="see its log", fix="see its log")


def _parts(message: str) -> tuple[str, str, str]:
    """Undo ``str(WeaklinkError)``."""
    problem, _, rest = message.partition("; allowed: ")
    allowed, _, fix = rest.partition("; fix: ")
    return problem, allowed, fix
