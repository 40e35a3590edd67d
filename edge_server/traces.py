"""Spans of requests, to an OpenTelemetry collector over OTLP/gRPC.

    weaklink.infer              from the request's arrival to its end, child of the caller's span where it named one
      queue, decode, tail       what an answered request's time went into

Spans are made when a request has ended, from the times that are taken anyway: nothing is done for them before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version

from edge_server.inference import outcome
from edge_server.jobs import Job
from edge_server.trace_context import HEADER
from semantic_codec.errors import ConfigError

try:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigError(
        f"--otlp-endpoint needs a package that is not installed ({error})",
        allowed="no endpoint, or the extra traces",
        fix="pip install 'weaklink[traces]'",
    ) from error

EXPORT_S = 3.0
"""Time for a batch of spans, tries included; at shutdown, too."""


class Traces:
    """Told how each request ended. Spans wait in memory, a bounded number of them, for a thread that sends them."""

    def __init__(self, endpoint: str, clock: Callable[[], float]):
        self._clock = clock
        resource = Resource.create({SERVICE_NAME: "weaklink-edge", SERVICE_VERSION: version("weaklink")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint, timeout=EXPORT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("edge_server")
        self._propagator = TraceContextTextMapPropagator()

    def __call__(self, job: Job) -> None:
        call = job.call
        parent = self._propagator.extract({HEADER: call.traceparent}) if call.traceparent else None
        now, now_ns = self._clock(), time.time_ns()

        def at(moment: float) -> int:
            return now_ns - int((now - moment) * 1e9)

        span = self._tracer.start_span("weaklink.infer", parent, SpanKind.SERVER, start_time=at(job.received))
        if span.is_recording():
            self._describe(span, job, at)
        if not call.traceparent:
            # For the log, which comes after: the same id.
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier, set_span_in_context(span))
            call.traceparent = carrier.get(HEADER, "")  # none where OTEL_SDK_DISABLED is set
        span.end(at(job.finished or now))

    def close(self) -> None:
        """Send what waits; takes :data:`EXPORT_S` where nobody listens. Blocks."""
        self._provider.shutdown()

    def _describe(self, span: Span, job: Job, at: Callable[[float], int]) -> None:
        call, answer = job.call, job.answer
        known = {
            "weaklink.outcome": outcome(job),
            "weaklink.transport": call.transport,
            "weaklink.request_id": call.request_id,
            "weaklink.device": call.device,
        }
        if job.served is not None:
            known |= {"weaklink.codec": job.served.name, "weaklink.version": job.served.version}
        if job.request is not None:
            known["weaklink.ber"] = job.request.ber
        span.set_attributes({name: value for name, value in known.items() if value != ""})
        if job.error is not None and not job.cancelled:
            span.set_status(Status(StatusCode.ERROR, str(job.error)))
        if answer is None:
            return
        inside, start = set_span_in_context(span), job.received
        ends = job.started, job.started + answer.decode_s, job.started + answer.decode_s + answer.tail_s
        for stage, end in zip(("queue", "decode", "tail"), ends, strict=True):
            self._tracer.start_span(stage, inside, start_time=at(start)).end(at(end))
            start = end
