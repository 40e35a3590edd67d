"""Counts and latencies of a run, and the row of its table."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from device_client.messages import Delivery

KEPT_LATENCIES = 20_000


class Tally:
    """Adds deliveries up. Latency quantiles cover the last 20,000 answers, so that a run may go on for months."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self.started = self.ended = clock()
        self.sent = self.answered = self.labelled = self.correct = self.labelled_answered = 0
        self.transmissions = self.on_air_bytes = self.payload_bytes = 0
        self.ber_used = 0.0
        self.ber_reports = 0
        self.errors: Counter[str] = Counter()
        self.latencies: deque[float] = deque(maxlen=KEPT_LATENCIES)

    def add(self, label: int | None, delivery: Delivery) -> None:
        self.ended = self._clock()
        self.sent += 1
        self.transmissions += delivery.attempts
        self.on_air_bytes += delivery.on_air_bytes
        self.payload_bytes += len(delivery.request.payload)
        self.labelled += label is not None
        if delivery.answer is None:
            self.errors[type(delivery.error).__name__] += 1
            return
        self.answered += 1
        self.latencies.append(delivery.answer.latency_s)
        if delivery.answer.ber_used is not None:
            self.ber_used += delivery.answer.ber_used
            self.ber_reports += 1
        if label is not None:
            self.labelled_answered += 1
            self.correct += delivery.answer.class_index == label

    def row(self) -> dict[str, Any]:
        """One table row; None where there is nothing to divide by. Lost frames are wrong in accuracy_percent."""
        p50, p99 = np.percentile(self.latencies, [50, 99]) * 1000 if self.latencies else (None, None)
        elapsed = self.ended - self.started
        return {
            "payload_bytes": _ratio(self.payload_bytes, self.sent),
            "on_air_bytes": _ratio(self.on_air_bytes, self.sent),
            "images": self.sent,
            "lost": self.sent - self.answered,
            "repeats": self.transmissions - self.sent,
            "accuracy_percent": _ratio(100 * self.correct, self.labelled),
            "accuracy_interval_percent": interval_percent(self.correct, self.labelled),
            "accuracy_answered_percent": _ratio(100 * self.correct, self.labelled_answered),
            "latency_p50_ms": p50,
            "latency_p99_ms": p99,
            "requests_per_s": _ratio(self.answered, elapsed),
        }


def interval_percent(correct: int, total: int) -> float | None:
    """Half the width of the 95 % Wilson interval of a share, in percentage points; None for no images.

    Wilson (1927): z / (1 + z^2/n) * sqrt(p(1-p)/n + z^2/(4n^2)), which stays honest near 0 and 100 %.
    """
    if not total:
        return None
    z, share = 1.959964, correct / total
    spread = math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return 100 * z / (1 + z * z / total) * spread


def _ratio(amount: float, count: float) -> float | None:
    return amount / count if count else None
