"""Every metric of the edge node, in one place. Labels are of bounded size: never a device, never a caller's text."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge

from edge_server.histograms import LoopHistogram
from semantic_codec.errors import WeaklinkError

BER_BUCKETS = ((1e-9, "0"), (1e-3, "1e-3"), (1e-2, "1e-2"), (5e-2, "5e-2"), (1e-1, "1e-1"), (5e-1, "5e-1"))
STAGES = ("queue", "decode", "tail", "total")
TRANSPORTS = ("grpc", "http", "udp", "serial", "oip-grpc", "oip-http")
RELOADED = ("keys", "tokens", "certificates", "bundles")
_BER_BOUNDS = [bound for bound, _ in BER_BUCKETS]
_SECONDS = (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1, 2, 5)
_BERS = (1e-4, 1e-3, 3e-3, 1e-2, 2e-2, 3e-2, 5e-2, 7e-2, 0.1, 0.15, 0.2, 0.3, 0.5)
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


def ber_bucket(ber: float) -> str:
    """Label of the first bucket whose upper bound is not below ``ber``, which is in [0, 0.5]."""
    return BER_BUCKETS[bisect_left(_BER_BOUNDS, ber)][1]


def error_label(error: WeaklinkError) -> str:
    """``InvalidRequest`` -> ``invalid_request``; the base class, for what has no better name, is ``internal``."""
    if type(error) is WeaklinkError:
        return "internal"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


class Metrics:
    """The edge node's counters and histograms on ``registry``, with their label sets cached: this is the hot path."""

    def __init__(self, registry: CollectorRegistry):
        self.registry = registry
        self._children: dict[tuple, Counter] = {}
        self.labels: dict[str, tuple[str, ...]] = {}
        """Of each metric that has any, by its name without the suffix."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            self.labels[f"weaklink_{name}"] = labels
            return Counter(f"weaklink_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple, *labels: str) -> LoopHistogram:
            self.labels[f"weaklink_{name}"] = labels
            return LoopHistogram(f"weaklink_{name}", text, labels, buckets, registry)

        self.requests = counter("requests", "Requests by their one outcome; codec unknown: none was found", "transport", "codec", "outcome")
        self.frames = counter("frames", "Raw frames by what the gateway made of them", "outcome")
        self.engine_deaths = counter("engine_deaths", "Engine processes that ended before the server did")
        self.reloads = counter("reloads", "Reloads of keys, tokens, certificates and bundles: ok, failed", "file", "outcome")
        self.feedback = counter("feedback", "Feedback: ok, repeated, unknown, invalid", "outcome")
        self.predictions = counter("predictions", "Answers judged by feedback, by the upper bound of the BER used", "codec", "task", "ber_bucket")
        self.correct = counter("correct_predictions", "Right answers among these", "codec", "task", "ber_bucket")
        self.latency = histogram("latency_seconds", "Time of answered requests in each stage: queue, decode, tail, total", _SECONDS, "stage")
        self.batch_size = histogram("batch_size", "Images per batch", (1, 2, 4, 8, 16, 32, 64, 128, 256, 512))
        self.estimated_ber = histogram("estimated_ber", "BER used, where the edge estimated it", _BERS, "codec")
        self.confidence = histogram("confidence", "Confidence of the first class", _CONFIDENCES, "codec", "task")
        self._queue_depth = Gauge("weaklink_queue_depth", "Requests waiting for a batch", registry=registry)
        self._devices = Gauge("weaklink_devices", "Devices remembered", registry=registry)
        self._active = Gauge("weaklink_active_devices", "Devices answered within --silent-s, twice at least", registry=registry)
        self.queue_limit = Gauge("weaklink_queue_limit", "Requests that may wait", registry=registry)
        self._keys = Gauge("weaklink_keys", "Devices that have a key", registry=registry)
        self.labels["weaklink_reload_failed"] = ("file",)
        self._reload_failed = Gauge(
            "weaklink_reload_failed", "1 while the latest reload is one that failed: the earlier ones serve", ("file",), registry=registry
        )
        self._stages = tuple(self.latency.labels(stage) for stage in STAGES)
        for labels in product(RELOADED, ("ok", "failed")):
            self._child(self.reloads, labels)
        for file in RELOADED:
            self._reload_failed.labels(file).set(0)
        self.expect(())

    def expect(self, codecs: Iterable[str]) -> None:
        """Show failures of these codecs from 0 on: Prometheus sees no increase in a series that begins with its first
        count, and one failure is enough for an alert."""
        for transport, codec in product(TRANSPORTS, ("unknown", *codecs)):
            self._child(self.requests, (transport, codec, "internal"))

    def watch(
        self,
        queue_depth: Callable[[], int],
        devices: Callable[[], int],
        active: Callable[[], int],
        keys: Callable[[], int],
    ) -> None:
        """Read the gauges from these at each scrape."""
        self._active.set_function(active)
        self._keys.set_function(keys)
        self._queue_depth.set_function(queue_depth)
        self._devices.set_function(devices)

    def count(self, metric: Counter, *labels: str, by: int = 1) -> None:
        self._child(metric, labels).inc(by)

    def reloaded(self, file: str, outcome: str) -> None:
        """``outcome`` is "ok" or "failed"."""
        self.count(self.reloads, file, outcome)
        self._reload_failed.labels(file).set(outcome == "failed")

    def totals(self, metric: Counter) -> dict[str, int]:
        """Counts so far by the label ``outcome``, summed over all others; of what happened at all."""
        totals: dict[str, int] = {}
        for sample in metric.collect()[0].samples:
            if sample.name.endswith("_total") and sample.value:
                outcome = sample.labels["outcome"]
                totals[outcome] = totals.get(outcome, 0) + int(sample.value)
        return totals

    def observe_all(self, metric: LoopHistogram, values: Iterable[float], *labels: str) -> None:
        metric.labels(*labels).observe_all(values)

    def observe_stages(self, queue: float, decode: float, tail: float, total: float, requests: int = 1) -> None:
        """Seconds per stage of answered requests."""
        for stage, seconds in zip(self._stages, (queue, decode, tail, total)):
            stage.observe(seconds, requests)

    def judged(self, codec: str, task: str, ber: float, correct: bool) -> None:
        """One answer compared with the truth."""
        labels = (codec, task, ber_bucket(ber))
        self.count(self.predictions, *labels)
        right = self._child(self.correct, labels)  # made even where wrong, so that a ratio over buckets has both sides
        if correct:
            right.inc()

    def _child(self, metric: Counter, labels: tuple[str, ...]) -> Counter:
        key = (metric, labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child
