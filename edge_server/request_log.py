"""A record in the log for each request."""

from __future__ import annotations

import logging
from typing import Any

from edge_server.inference import outcome
from edge_server.jobs import Job
from edge_server.trace_context import trace_id

log = logging.getLogger(__name__)


class RequestLog:
    """Told how each request ended; ``everything``: also of those that were answered."""

    def __init__(self, everything: bool):
        self._everything = everything

    def __call__(self, job: Job) -> None:
        failed = job.cancelled or job.error is not None
        if failed or self._everything:
            log.log(logging.WARNING if failed else logging.INFO, "request", extra=_fields(job))


def _fields(job: Job) -> dict[str, Any]:
    """Of a finished job, without what it does not have. Its id is its own, or else its trace's."""
    call, request, answer = job.call, job.request, job.answer
    trace = trace_id(call.traceparent)
    fields = {
        "request_id": call.request_id or trace,
        "trace_id": trace,
        "outcome": outcome(job),
        "transport": call.transport,
        "codec": job.served.name if job.served else call.codec,
        "version": job.served.version if job.served else call.version,
        "device": call.device,
        "sequence": call.sequence if call.device else None,
        "ber": request.ber if request else None,
        "error": None if job.error is None or job.cancelled else str(job.error),  # nobody was told
    }
    if answer is not None:
        fields |= {
            "queue_ms": round((job.started - job.received) * 1e3, 3),
            "decode_ms": round(answer.decode_s * 1e3, 3),
            "tail_ms": round(answer.tail_s * 1e3, 3),
            "total_ms": round((job.finished - job.received) * 1e3, 3),
        }
    return {name: value for name, value in fields.items() if value not in ("", None)}
