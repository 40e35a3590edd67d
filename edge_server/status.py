"""What the edge node knows of itself and its devices at this moment, as one JSON object for the status page."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from edge_server.devices import DeviceTable
from edge_server.metrics import BER_BUCKETS, ber_bucket
from edge_server.repository import Repository, ServedCodec, measured_accuracy

SHOWN_DEVICES = 200
"""The latest; a page with more could not be read, and must not cost a busy node more."""


class Status:
    """Reads the same registry that Prometheus scrapes. ``ready`` says whether new work is welcome; ``silent_s`` is how
    long a device may say nothing and still be active, seconds."""

    def __init__(
        self,
        repository: Repository,
        devices: DeviceTable,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        silent_s: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._repository, self._devices, self._registry = repository, devices, registry
        self._ready, self._silent_s, self._clock = ready, silent_s, clock
        self._started = clock()

    def snapshot(self) -> dict[str, Any]:
        """Counters since the start: whoever wants rates compares two snapshots, by ``uptime_s``."""
        values = _Values(self._registry)
        return {
            "ready": self._ready(),
            "uptime_s": self._clock() - self._started,
            "queue": {"depth": values.number("weaklink_queue_depth"), "limit": values.number("weaklink_queue_limit")},
            "requests": [row for row in values.counts("weaklink_requests") if row["count"]],
            "frames": values.counts("weaklink_frames"),
            "batch_size": values.mean("weaklink_batch_size"),
            "latency": values.histogram("weaklink_latency_seconds", "stage"),
            "accuracy": _accuracy(values),
            "ber_buckets": [label for _, label in BER_BUCKETS],
            "devices": {
                "remembered": len(self._devices),
                "active": self._devices.active(self._silent_s),
                "silent_s": self._silent_s,
                "latest": self._latest(),
            },
            "codecs": [_codec(served) for served in self._repository.codecs],
            "refused": [{"path": one.path, "reason": one.reason} for one in self._repository.refused],
        }

    def _latest(self) -> list[dict[str, Any]]:
        return [
            {
                "device": name,
                "heard_s": age,
                "estimated_ber": None if state.estimator is None else state.estimator.mean,
                "answered": state.answered,
                "judged": state.judged,
                "right": state.right,
            }
            for name, state, age in itertools.islice(self._devices.recent(), SHOWN_DEVICES)
        ]


class _Values:
    """One reading of the registry."""

    def __init__(self, registry: CollectorRegistry):
        self._samples = {metric.name: metric.samples for metric in registry.collect()}

    def number(self, name: str) -> float:
        return self._samples[name][0].value

    def counts(self, name: str) -> list[dict[str, Any]]:
        """Labels and count of each child of a counter, by label."""
        samples = (sample for sample in self._samples[name] if sample.name == f"{name}_total")
        rows = [{**sample.labels, "count": int(sample.value)} for sample in samples]
        return sorted(rows, key=lambda row: tuple(map(str, row.values())))

    def mean(self, name: str) -> float | None:
        """Of a histogram without labels; None without observations."""
        total, count = (self._one(f"{name}_{suffix}", name) for suffix in ("sum", "count"))
        return total / count if count else None

    def histogram(self, name: str, label: str) -> dict[str, dict[str, Any]]:
        """By the label's value: ``bounds`` of the buckets, None for the last, and ``counts`` up to each of them."""
        found: dict[str, dict[str, Any]] = {}
        for sample in self._samples[name]:
            if sample.name == f"{name}_bucket":
                entry = found.setdefault(sample.labels[label], {"bounds": [], "counts": []})
                bound = float(sample.labels["le"])
                entry["bounds"].append(None if bound == float("inf") else bound)
                entry["counts"].append(int(sample.value))
        return found

    def _one(self, sample_name: str, name: str) -> float:
        return next(sample.value for sample in self._samples[name] if sample.name == sample_name)


def _accuracy(values: _Values) -> list[dict[str, Any]]:
    """What feedback said, by codec, task and BER bucket."""
    right = {
        (row["codec"], row["task"], row["ber_bucket"]): row["count"]
        for row in values.counts("weaklink_correct_predictions")
    }
    return [
        {
            "codec": row["codec"],
            "task": row["task"],
            "ber_bucket": row["ber_bucket"],
            "judged": row["count"],
            "right": right[row["codec"], row["task"], row["ber_bucket"]],
        }
        for row in values.counts("weaklink_predictions")
    ]


def _codec(served: ServedCodec) -> dict[str, Any]:
    longest = served.levels[-1].number
    return {
        "name": served.name,
        "version": served.version,
        "family": served.manifest.family,
        "payload_bytes": [level.payload_bytes for level in served.levels],
        "height": served.manifest.height,
        "width": served.manifest.width,
        "tasks": {task: len(classes) for task, classes in served.classes.items()},
        # What the bundle promises at its longest level.
        "published": [
            {"ber": ber, "ber_bucket": ber_bucket(ber), "accuracy_percent": levels[longest]}
            for ber, levels in measured_accuracy(served.manifest).items()
            if longest in levels
        ],
    }
