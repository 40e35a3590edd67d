"""The table of servers, from rows as the benchmark writes them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.latency_tables import rewrite
from benchmarks.serving import COLUMNS
from benchmarks.serving_tables import markdown


def row(server: str, protocol: str | None, bundle: str, rate: float | None, **columns) -> dict:
    times = dict.fromkeys(("latency_p50_ms", "latency_p99_ms"), None if rate is None else 1e3 / rate)
    made = {"server": server, "protocol": protocol, "bundle": bundle, "requests_per_s": rate, "loop": "closed", "concurrency": 64}
    return dict.fromkeys(COLUMNS) | made | times | {"memory_mb": rate and 100.4} | columns


ROWS = [
    row("engine", "none", "digits", 90_000.0),
    row("weaklink udp", "udp", "digits", 10_000.0, ber=0.01),
    row("weaklink grpc", "grpc", "digits", 12_000.0),
    row("weaklink grpc", "grpc", "digits", 1_000.0, concurrency=1),
    row("weaklink grpc", "grpc", "digits", 6_000.0, loop="open", concurrency=None, load_percent=50),
    row("weaklink grpc", "grpc", "other", 500.0, memory_mb=200.0),
    row("echo udp", "udp", "digits", 20_000.0, ber=0.0),
    row("triton", "grpc", "digits", 1_500.0),
    row("ray serve", None, "digits", None, loop=None, concurrency=None),
]


def test_the_table():
    assert markdown(ROWS, 64).splitlines() == [
        "| server | `digits`/s | p50 ms | p99 ms | `other`/s | p50 ms | p99 ms | memory MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| Weaklink, gRPC calls | 12,000 | 0.1 | 0.1 | 500 | 2.0 | 2.0 | 200 |",
        "| Weaklink, UDP, BER 0.01 | 10,000 | 0.1 | 0.1 | not measured | not measured | not measured | 100 |",
        "| Triton, gRPC | 1,500 | 0.7 | 0.7 | not measured | not measured | not measured | 100 |",
        "| Ray Serve | not measured | not measured | not measured | not measured | not measured | not measured | not measured |",
        "| echo, UDP, BER 0 | 20,000 | 0.1 | 0.1 | not measured | not measured | not measured | 100 |",
        "| the engine alone, in batches | 90,000 | 0.0 | 0.0 | not measured | not measured | not measured | 100 |",
    ]


def test_the_guide_has_a_place_for_it(tmp_path: Path):
    guide = Path(__file__).parents[2] / "docs" / "operating.md"
    page = tmp_path / "page.md"
    page.write_text(guide.read_text())
    rewrite(page, markdown(ROWS, 64), "serving")
    assert markdown(ROWS, 64) in page.read_text()
