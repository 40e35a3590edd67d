"""The engine without a server: one process that computes batches and nothing else."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.processes import busy_s, cpu_s, memory_mb
from edge_server.engine import Engine, EngineRequest
from semantic_codec.bundle import Bundle, find_bundle

BER = 0.01


def measure(bundle: Bundle, batch: int, seconds: float, threads: int) -> dict[str, Any]:
    """Batches of one size, one after the other."""
    engine, level = Engine([bundle], threads=threads), bundle.manifest.levels[-1]
    requests = [EngineRequest(bundle.manifest.name, 0, level.number, bytes(level.payload_bytes), BER)] * batch
    for _ in range(5):
        engine.infer(requests)
    times, busy, used, started = [], busy_s(), cpu_s(os.getpid()), time.perf_counter()
    while (before := time.perf_counter()) - started < seconds:
        engine.infer(requests)
        times.append(time.perf_counter() - before)
    wall, used, busy = time.perf_counter() - started, cpu_s(os.getpid()) - used, busy_s() - busy
    p50, p99, p999 = np.percentile(times, (50, 99, 99.9)) * 1e3
    return {
        "server": "engine",
        "protocol": "none",
        "bundle": bundle.manifest.name,
        "loop": "closed",
        "concurrency": batch,
        "requests_per_s": batch * len(times) / wall,
        "latency_p50_ms": p50,
        "latency_p99_ms": p99,
        "latency_p999_ms": p999,
        "memory_mb": memory_mb(os.getpid()),
        "server_cpu_percent": 100 * used / wall,
        "others_cpu_percent": max(0.0, 100 * (busy - used) / wall),
        "failed": 0,
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_engine", description=__doc__)
    parser.add_argument("bundles", nargs="+", help="names")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64], help="images in one (default: 1 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (default: %(default)s)")
    options = parser.parse_args(argv)
    rows = [
        measure(find_bundle(name), batch, options.seconds, options.threads)
        for name in options.bundles
        for batch in options.batches
    ]
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
