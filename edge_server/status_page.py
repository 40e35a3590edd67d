"""One plain page for a person who wants to see that the edge works; nothing on it comes from another host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape

from prometheus_client import CollectorRegistry

from edge_server.metrics import BER_BUCKETS, STAGES
from edge_server.repository import Repository

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733}
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}table{border-collapse:collapse}
td,th{padding:.2rem .9rem .2rem 0;text-align:left;border-bottom:1px solid #d8dee4}
td.number,th.number{text-align:right}.muted{color:#66727f}"""


def status_page(repository: Repository, registry: CollectorRegistry, ready: bool) -> str:
    """HTML of the codecs and of what the metrics say so far."""
    values = _Values(registry)
    judged = _table(("codec", "task", "BER up to", "judged", "right %"), _accuracy(values))
    sections = [
        ("Codecs", _codecs(repository)),
        ("Refused bundles", _table(("folder", "reason"), [(one.path, one.reason) for one in repository.refused])),
        ("Requests", _table(("transport", "codec", "outcome", "count"), values.counts("weaklink_requests"))),
        ("Raw frames", _table(("outcome", "count"), values.counts("weaklink_frames"))),
        ("Latency", _table(("stage", "p50 ms", "p99 ms"), _latency(values))),
        ("Accuracy by BER, from feedback", judged),
    ]
    body = "".join(f"<h2>{escape(title)}</h2>{content}" for title, content in sections if content)
    state = "serving" if ready else "not ready"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f"<title>Weaklink edge</title><style>{_STYLE}</style></head><body><h1>Weaklink edge: {state}</h1>"
        f'<p class="muted">{values.number("weaklink_devices"):.0f} devices remembered, '
        f"{values.number('weaklink_queue_depth'):.0f} requests waiting</p>{body}"
        '<p class="muted">Also here: <a href="/metrics">metrics</a>, <a href="/v1/codecs">codecs</a>, '
        '<a href="/readyz">readiness</a></p></body></html>'
    )


class _Values:
    """One reading of the registry."""

    def __init__(self, registry: CollectorRegistry):
        self._samples = {metric.name: metric.samples for metric in registry.collect()}

    def number(self, name: str) -> float:
        return self._samples[name][0].value

    def counts(self, name: str) -> list[tuple]:
        """Label values and count of each child, by label."""
        samples = (sample for sample in self._samples[name] if sample.name == f"{name}_total")
        return sorted((*sample.labels.values(), int(sample.value)) for sample in samples)

    def quantile(self, name: str, share: float, **labels: str) -> float | None:
        """Upper bound of the bucket in which the quantile lies; None without observations."""
        buckets = [
            (float(sample.labels["le"]), sample.value)
            for sample in self._samples[name]
            if sample.name.endswith("_bucket") and labels.items() <= sample.labels.items()
        ]
        total = buckets[-1][1]
        return next((bound for bound, count in buckets if total and count >= share * total), None)


def _codecs(repository: Repository) -> str:
    rows = [
        (
            codec.name,
            codec.version,
            codec.manifest.family,
            ", ".join(f"{level.payload_bytes} B" for level in codec.levels),
            f"{codec.manifest.height}x{codec.manifest.width}",
            ", ".join(f"{task} ({len(classes)} classes)" for task, classes in codec.classes.items()),
        )
        for codec in repository.codecs
    ]
    return _table(("name", "version", "family", "levels", "image", "tasks"), rows)


def _latency(values: _Values) -> list[tuple]:
    rows = []
    for stage in STAGES:
        bounds = [values.quantile("weaklink_latency_seconds", share, stage=stage) for share in (0.5, 0.99)]
        if None not in bounds:
            rows.append((stage, *(f"≤ {bound * 1e3:g}" for bound in bounds)))
    return rows


def _accuracy(values: _Values) -> list[tuple]:
    order = [label for _, label in BER_BUCKETS]
    judged: dict[tuple, list[int]] = defaultdict(lambda: [0, 0])
    for column, name in enumerate(("weaklink_predictions", "weaklink_correct_predictions")):
        for *labels, count in values.counts(name):
            judged[tuple(labels)][column] = count
    rows = sorted(judged.items(), key=lambda item: (item[0][:2], order.index(item[0][2])))
    return [(*labels, total, f"{100 * right / total:.1f}") for labels, (total, right) in rows if total]


def _table(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    lines = ["".join(_cell("td", value) for value in row) for row in rows]
    if not lines:
        return ""
    header = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><tr>{header}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _cell(tag: str, value: object) -> str:
    number = ' class="number"' if isinstance(value, int | float) else ""
    return f"<{tag}{number}>{escape(str(value))}</{tag}>"
