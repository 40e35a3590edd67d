"""``weaklink bench runtimes``: what should run the edge's networks, measured on the committed codecs.

Every runtime answers the same received bits through the engine's own code. Batches of all runtimes take turns, so that
whatever else the machine does falls on all alike; the median is reported.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_server.engine import Engine
from edge_server.runtimes import RUNTIMES
from semantic_codec.bundle import Bundle, find_bundle, load_recording
from semantic_codec.errors import ConfigError
from semantic_codec.report import print_table, results_file, write_json

BATCHES = (1, 8, 64)
BERS = (0.0, 1e-2, 5e-2, 0.1)
REFERENCE = "eager"


def received(bundle: Bundle, images: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The recording's bits with flips: bits (N, n_bits), BER (N,) by turns of :data:`BERS`, labels (N,)."""
    recording = load_recording(bundle)
    bits = np.unpackbits(recording.bitstreams[:images], axis=1, count=bundle.manifest.bits)
    ber = np.resize(np.array(BERS, np.float32), len(bits))
    flips = np.random.default_rng(seed).random(bits.shape) < ber[:, None]
    return bits ^ flips, ber, recording.labels[:images]


def measure(
    bundle: Bundle, runtimes: Sequence[str], threads: int, repeats: int, images: int, seed: int
) -> list[dict[str, Any]]:
    """One row per runtime: seconds to load, milliseconds of each batch size, accuracy, largest difference of confidence.

    What a runtime imports counts towards the first codec that it loads.
    """
    name, level_number = bundle.manifest.name, bundle.manifest.levels[-1].number
    task = bundle.manifest.tasks[0].name
    bits, ber, labels = received(bundle, images, seed)
    level = np.full(len(bits), level_number)
    engines, load_s = {}, {}
    for runtime in runtimes:
        start = time.perf_counter()
        engines[runtime] = Engine([bundle], runtime, threads)
        load_s[runtime] = time.perf_counter() - start
    answers = {runtime: engine.infer_arrays(name, bits, level, ber)[task] for runtime, engine in engines.items()}
    times = _times(engines, name, bits, level, ber, repeats)
    rows = []
    for runtime in runtimes:
        row: dict[str, Any] = {"codec": name, "runtime": runtime, "threads": threads, "load_s": load_s[runtime]}
        for batch in BATCHES:
            row[f"batch_{batch}_ms"] = 1e3 * float(np.median(times[runtime, batch]))
        row["images_per_s"] = BATCHES[-1] / (row[f"batch_{BATCHES[-1]}_ms"] / 1e3)
        row["accuracy_percent"] = 100 * float((answers[runtime].argmax(axis=1) == labels).mean())
        row["max_confidence_difference"] = float(np.abs(answers[runtime] - answers[REFERENCE]).max())
        rows.append(row)
    return rows


def _times(engines, name, bits, level, ber, repeats) -> dict[tuple[str, int], list[float]]:
    """Seconds per batch; runtimes take turns within each repetition."""
    times: dict[tuple[str, int], list[float]] = {(runtime, batch): [] for runtime in engines for batch in BATCHES}
    warm_up = 3
    for repeat in range(repeats + warm_up):
        for batch in BATCHES:
            for runtime, engine in engines.items():
                start = time.perf_counter()
                engine.infer_arrays(name, bits[:batch], level[:batch], ber[:batch])
                if repeat >= warm_up:
                    times[runtime, batch].append(time.perf_counter() - start)
    return times


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench runtimes", description=__doc__.split("\n\n")[0])
    parser.add_argument("--codecs", nargs="+", default=["digits", "cifar10"], help="bundles with a recording")
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), metavar="NAME", help=", ".join(RUNTIMES))
    parser.add_argument("--threads", type=int, default=1, help="compute threads of each runtime (default: 1)")
    parser.add_argument("--repeats", type=int, default=200, help="timed batches per size (default: 200)")
    parser.add_argument("--images", type=int, default=4000, help="images for accuracy and differences (default: 4000)")
    parser.add_argument("--seed", type=int, default=0, help="of the bit flips (default: 0)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="also write the table here")
    options = parser.parse_args(argv)
    if options.repeats < 1 or options.images < max(BATCHES) or options.threads < 1:
        raise ConfigError(
            f"repeats {options.repeats}, images {options.images}, threads {options.threads}",
            allowed=f"at least 1 repeat, {max(BATCHES)} images and 1 thread",
            fix="raise what is too small",
        )
    runtimes = [REFERENCE, *(name for name in options.runtimes if name != REFERENCE)]
    rows = [
        row
        for codec in options.codecs
        for row in measure(
            find_bundle(codec), runtimes, options.threads, options.repeats, options.images, options.seed
        )
    ]
    print_table(rows)
    if options.json:
        write_json(options.json, rows, options.seed)
    return 0
