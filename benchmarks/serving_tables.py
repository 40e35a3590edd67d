"""The table of ``weaklink bench serving`` as the operator's guide has it: closed loops of one concurrency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semantic_codec.report import NOT_MEASURED

Row = dict[str, Any]
_TITLES = {
    "weaklink grpc": "Weaklink, gRPC calls",
    "weaklink stream": "Weaklink, gRPC stream",
    "weaklink http": "Weaklink, HTTP",
    "weaklink udp": "Weaklink, UDP",
    "triton": "Triton",
    "ray serve": "Ray Serve",
    "litserve": "LitServe",
    "bentoml": "BentoML",
    "echo grpc": "echo, gRPC calls",
    "echo stream": "echo, gRPC stream",
    "echo udp": "echo, UDP",
    "engine": "the engine alone, in batches",
}
_PROTOCOLS = {"grpc": "gRPC", "http": "HTTP"}


def markdown(rows: Sequence[Row], concurrency: int) -> str:
    """A line for each server and protocol, requests/s and latencies for each bundle, the engine last."""
    bundles = list(dict.fromkeys(row["bundle"] for row in rows))
    lines: dict[str, dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: list(_TITLES).index(row["server"])):
        if row["concurrency"] in (concurrency, None) and row["loop"] != "open":
            lines.setdefault(_title(row), {})[row["bundle"]] = row
    head = ["server", *(name for bundle in bundles for name in (f"`{bundle}`/s", "p50 ms", "p99 ms")), "memory MB"]
    table = [head, ["---", *["---:"] * (len(head) - 1)]]
    for title, found in lines.items():
        cells = [cell for bundle in bundles for cell in _cells(found.get(bundle, {}))]
        memory = max((row["memory_mb"] or 0 for row in found.values()), default=0)
        table.append([title, *cells, f"{memory:.0f}" if memory else NOT_MEASURED])
    return "\n".join(f"| {' | '.join(line)} |" for line in table)


def _title(row: Row) -> str:
    title = _TITLES[row["server"]]
    if row.get("ber") is not None:
        return f"{title}, BER {row['ber']:g}"
    return f"{title}, {_PROTOCOLS[row['protocol']]}" if "," not in title and row["protocol"] else title


def _cells(row: Row) -> list[str]:
    rate, middle, slow = (row.get(key) for key in ("requests_per_s", "latency_p50_ms", "latency_p99_ms"))
    if rate is None:
        return [NOT_MEASURED] * 3
    return [f"{rate:,.0f}", *("never" if time is None else f"{time:.1f}" for time in (middle, slow))]
