"""Histograms for prometheus_client's registry that cost an event loop next to nothing.

prometheus_client's own take a lock, and several calls, at each observation: more than parsing a request does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Observations:
    """Of one set of label values."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]):
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last beyond all bounds
        self.sum = 0.0

    def observe_all(self, values: Iterable[float]) -> None:
        counts = self.counts
        values = tuple(values)
        for place in map(bisect_left, repeat(self._bounds), values):
            counts[place] += 1
        self.sum += sum(values)

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times


class LoopHistogram(Collector):
    """Belongs to one thread, which also collects. ``bounds`` are the buckets' upper ones, rising."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ):
        self._name, self._text, self._label_names, self._bounds = name, text, labels, bounds
        self._by_labels: dict[tuple[str, ...], Observations] = {}
        if not labels:
            self.labels()
        registry.register(self)

    def labels(self, *values: str) -> Observations:
        found = self._by_labels.get(values)
        if found is None:
            found = self._by_labels[values] = Observations(self._bounds)
        return found

    def observe(self, value: float) -> None:
        """Of one without labels."""
        self.labels().observe(value)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        yield HistogramMetricFamily(self._name, self._text, labels=self._label_names)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._label_names)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for values, seen in self._by_labels.items():
            family.add_metric(values, list(zip(names, accumulate(seen.counts))), seen.sum)
        yield family
