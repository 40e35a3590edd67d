"""``weaklink bench serving``: the edge node against other model servers that host the same engine on the same cores.

    closed loop   CONCURRENCY clients, each asks again as soon as it is answered: what a server can do
    open loop     requests at random times at a share of that: what its callers wait, counted from the time at which a
                  request should have been sent
    echo          grpcio, and a loop around datagrams, with nothing behind them: what the protocols alone take
    engine        the same networks without any server, in batches of CONCURRENCY: the limit

HTTP/1.1 and gRPC closed loops are h2load's, everything else a small client's; the load generator's share of a core is
in every row, and so is what the rest of the machine took. A server that cannot be started is in the table as not
measured. Rows of servers and bundles that are not named stay as they are in the JSON file, so that a run may be made in
parts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import clients, h2load, udp_devices
from benchmarks.h2load import Load
from benchmarks.latency_tables import rewrite
from benchmarks.processes import busy_s, cpu_s, memory_mb
from benchmarks.serving_servers import (
    OWN,
    RIVALS,
    Question,
    Server,
    answer_bytes,
    questions,
    start_echo,
    start_rival,
    start_weaklink,
)
from benchmarks.serving_tables import markdown
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.errors import ConfigError
from semantic_codec.frame import encode_frame
from semantic_codec.header import Header
from semantic_codec.report import print_table, read_rows, results_file, write_json

CONCURRENCY = (1, 8, 64, 256)
LOADS_PERCENT = (25, 50, 75, 90)
UDP_BERS = (0.0, 0.01)
SERVERS = ("weaklink", *RIVALS, "echo", "engine")
CAPACITY_AT = 64
"""Concurrency whose closed loop is the capacity that the open loop's loads are shares of."""
OPEN_CLIENTS = 64
FRAMES = 30_000  # of all devices together, until they begin again; but of each
LEAST_FRAMES, MOST_FRAMES = 150, 4000  # beyond what the edge takes for duplicates, and within the sequence's bits
COLUMNS = (
    "server", "protocol", "bundle", "loop", "concurrency", "load_percent", "ber", "requests_per_s", "latency_p50_ms",
    "latency_p99_ms", "latency_p999_ms", "memory_mb", "server_cpu_percent", "load_cpu_percent", "others_cpu_percent",
    "failed", "unanswered",
)  # fmt: skip


class Bench:
    """Measures running servers. ``seconds`` of each cell, after ``warm_up_s``."""

    def __init__(
        self, concurrency: Sequence[int], loads_percent: Sequence[int], seconds: float, warm_up_s: float, seed: int
    ):
        self._concurrency, self._loads = concurrency, loads_percent
        self._seconds, self._warm_up_s, self._seed = seconds, warm_up_s, seed

    def requests(self, server: Server, bundle: Bundle) -> Iterator[dict[str, Any]]:
        """Single calls, in every protocol of the server."""
        for question in questions(server, bundle):
            name = f"{server.name} {question.protocol}" if server.name in OWN else server.name
            fixed = {"server": name, "protocol": question.protocol, "bundle": bundle.manifest.name}
            size, capacity = answer_bytes(question), None
            for count in self._concurrency:
                cell = {"loop": "closed", "concurrency": count}
                row = self._row(fixed | cell, server, lambda: self._closed(question, count, size))
                capacity = row["requests_per_s"] if capacity is None or count <= CAPACITY_AT else capacity
                yield row
            for percent in self._loads:
                rate = capacity * percent / 100
                cell = {"loop": "open", "concurrency": None, "load_percent": percent, "offered_per_s": rate}
                yield self._row(fixed | cell, server, lambda: self._open(question, rate))

    def streams(self, server: Server, bundle: Bundle) -> Iterator[dict[str, Any]]:
        """One InferStream call, with so many messages unanswered."""
        question = questions(server, bundle)[0]
        path = question.path + "Stream"
        fixed = {"server": f"{server.name} stream", "protocol": "grpc", "bundle": bundle.manifest.name, "loop": "closed"}
        for count in self._concurrency:
            client = clients.GrpcClient(("127.0.0.1", question.port), path, itertools.repeat(question.body), width=count)
            with client.sock:
                yield self._row(fixed | {"concurrency": count}, server, lambda: self._run([client]))

    def frames(
        self, server: Server, bundle: Bundle, first_device: int, bers: Sequence[float] = UDP_BERS
    ) -> Iterator[dict[str, Any]]:
        """Raw frames over UDP, each client a device."""
        fixed = {"server": f"{server.name} udp", "protocol": "udp", "bundle": bundle.manifest.name, "loop": "closed"}
        devices = itertools.count(first_device)
        for ber in bers:
            for count in self._concurrency:
                frames = np.stack([self._damaged(bundle, next(devices), ber, FRAMES // count) for _ in range(count)])
                address = ("127.0.0.1", server.ports["udp"])

                def measure(frames: np.ndarray = frames) -> Load:
                    return udp_devices.run(address, frames, self._seconds, self._warm_up_s)

                yield self._row(fixed | {"concurrency": count, "ber": ber}, server, measure)

    def _damaged(self, bundle: Bundle, device: int, ber: float, count: int) -> np.ndarray:
        """A device's frames, one sequence number after the other: uint8 (frames, bytes)."""
        rng, level = np.random.default_rng((self._seed, device)), bundle.manifest.levels[-1]
        made = [
            np.frombuffer(
                encode_frame(
                    Header(bundle.manifest.codec_id, level.number, device, sequence),
                    bytes(level.payload_bytes),
                    bundle.encoder_hash,
                ),
                np.uint8,
            )
            for sequence in range(min(max(count, LEAST_FRAMES), MOST_FRAMES))
        ]
        return np.stack(made) ^ np.packbits(rng.random((len(made), 8 * len(made[0]))) < ber, axis=1)

    def _closed(self, question: Question, count: int, size: int) -> Load:
        return h2load.run(
            question.url, question.framed, question.is_grpc, count, self._seconds, self._warm_up_s, size
        )

    def _open(self, question: Question, rate: float) -> Load:
        connected = [question.client() for _ in range(OPEN_CLIENTS)]
        try:
            return self._run(connected, rate)
        finally:
            for client in connected:
                client.sock.close()

    def _run(self, connected: Sequence[clients.Client], rate: float | None = None) -> Load:
        return clients.run(connected, self._seconds, self._warm_up_s, rate, self._seed)

    def _row(self, fixed: dict[str, Any], server: Server, measure: Callable[[], Load]) -> dict[str, Any]:
        process = server.process.pid
        busy, used, started = busy_s(), cpu_s(process), time.monotonic()
        load = measure()
        busy, used, wall = busy_s() - busy, cpu_s(process) - used, time.monotonic() - started
        return {
            **fixed,
            **figures(load),
            "memory_mb": memory_mb(process),
            "server_cpu_percent": 100 * used / wall,
            "others_cpu_percent": max(0.0, 100 * (busy - used) / wall - 100 * load.cpu_share),
        }


def figures(load: Load) -> dict[str, Any]:
    """Columns of a row; latencies are None where nothing was answered."""
    times = load.latencies_s
    percentiles = np.percentile(times, (50, 99, 99.9)) * 1e3 if len(times) else (None,) * 3
    return {
        "requests_per_s": load.requests_per_s,
        **dict(zip(("latency_p50_ms", "latency_p99_ms", "latency_p999_ms"), percentiles)),
        "load_cpu_percent": 100 * load.cpu_share,
        "failed": load.failed,
        "unanswered": load.unanswered,
    }


def measure_engine(options: argparse.Namespace) -> list[dict[str, Any]]:
    """In a process of its own, as the servers have it: neither its memory nor its threads are this one's."""
    arguments = [*map(str, options.concurrency), "--seconds", str(options.seconds), "--threads", str(options.threads)]
    command = [sys.executable, "-m", "benchmarks.serving_engine", *options.bundles, "--batches", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_weaklink(
    options: argparse.Namespace, bundles: list[Bundle], bench: Bench, log: Path
) -> Iterator[dict[str, Any]]:
    server = start_weaklink(bundles, options.engines, options.threads, log)
    try:
        for number, bundle in enumerate(bundles):
            yield from bench.requests(server, bundle)
            yield from bench.streams(server, bundle)
            yield from bench.frames(server, bundle, 1 + 10_000 * number)
    finally:
        server.stop()


def measure_echo(bundles: list[Bundle], bench: Bench, log: Path) -> Iterator[dict[str, Any]]:
    server = start_echo(log)
    try:
        for bundle in bundles:
            yield from bench.requests(server, bundle)
            yield from bench.streams(server, bundle)
            yield from bench.frames(server, bundle, 1, bers=(0.0,))  # it does not look at them
    finally:
        server.stop()


def measure_rival(
    name: str, options: argparse.Namespace, bundles: list[Bundle], bench: Bench, log: Path
) -> Iterator[dict[str, Any]]:
    """One row that says so where it cannot be started."""
    try:
        if options.rivals_python is None:
            raise ConfigError("no --rivals-python", allowed="an environment's python", fix="see --help")
        server = start_rival(name, options.rivals_python, bundles, options.engines, options.threads, log)
    except (ConfigError, OSError) as error:
        print(f"{name} is not measured: {error}", file=sys.stderr)
        for bundle in bundles:
            yield dict.fromkeys(COLUMNS) | {"server": name, "bundle": bundle.manifest.name}
        return
    try:
        for bundle in bundles:
            yield from bench.requests(server, bundle)
    finally:
        server.stop()


def kept_rows(path: Path, servers: Sequence[str], bundles: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of an earlier run, of servers or bundles that are not measured now."""
    return [row for row in read_rows(path) if not (row["server"].startswith(tuple(servers)) and row["bundle"] in bundles)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench serving", description=__doc__.split("\n\n")[0])
    parser.add_argument("--servers", nargs="+", default=list(SERVERS), choices=SERVERS, metavar="NAME", help=f"default: all of {', '.join(SERVERS)}; the others' rows stay as they are in the file")
    parser.add_argument("--bundles", nargs="+", default=["digits", "cifar10"], metavar="NAME", help="likewise (default: digits cifar10)")
    parser.add_argument("--concurrency", nargs="+", type=int, default=list(CONCURRENCY), help="default: %(default)s")
    parser.add_argument("--loads-percent", nargs="*", type=int, default=list(LOADS_PERCENT), help="of what a server can do, in the open loop (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each cell (default: %(default)s)")
    parser.add_argument("--warm-up-s", type=float, default=1.0, help="before each cell (default: %(default)s)")
    parser.add_argument("--engines", type=int, default=1, help="engine processes, workers or replicas of every server (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="compute threads of each (default: %(default)s)")
    parser.add_argument("--rivals-python", type=Path, metavar="PATH", help="python of an environment with benchmarks/rivals-requirements.txt; without it the rivals are not measured")
    parser.add_argument("--seed", type=int, default=0, help="of arrival times and bit flips (default: %(default)s)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the rows here, beside those of what is not measured now")
    parser.add_argument("--docs", type=Path, metavar="FILE", help=f"renew the table between the marks of this page: closed loops of {CAPACITY_AT}")
    options = parser.parse_args(argv)
    if min(options.concurrency, default=0) < 1 or options.seconds <= 0 or not all(0 < load < 100 for load in options.loads_percent):
        raise ConfigError(
            f"concurrency {options.concurrency}, seconds {options.seconds}, loads {options.loads_percent} %",
            allowed="concurrency of at least 1, seconds above 0, loads between 0 and 100 %",
            fix="change what is outside",
        )
    h2load.find()
    bundles = [find_bundle(name) for name in options.bundles]
    bench = Bench(options.concurrency, options.loads_percent, options.seconds, options.warm_up_s, options.seed)
    rows = kept_rows(options.json, options.servers, [bundle.manifest.name for bundle in bundles]) if options.json else []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.servers:
            for row in _measure(name, options, bundles, bench, Path(folder)):
                rows.append(row)
                print_table([row], COLUMNS)
            if options.json:  # after each server: what is measured is not lost
                write_json(options.json, rows, options.seed)
    print_table(rows, COLUMNS)
    if options.docs:
        rewrite(options.docs, markdown(rows, CAPACITY_AT), "serving")
    return 0


def _measure(
    name: str, options: argparse.Namespace, bundles: list[Bundle], bench: Bench, folder: Path
) -> Iterable[dict[str, Any]]:
    if name == "engine":
        return measure_engine(options)
    log = folder / f"{name.replace(' ', '-')}.log"
    if name == "weaklink":
        return measure_weaklink(options, bundles, bench, log)
    if name == "echo":
        return measure_echo(bundles, bench, log)
    return measure_rival(name, options, bundles, bench, log)
