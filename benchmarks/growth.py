"""``weaklink bench growth``: what a request costs the server, and its memory, as work grows.

    devices   requests by turns of so many devices, each of which the server remembers
    bundles   so many codecs loaded; asked of one of them, and of all by turns: each codec of a batch is a pass of its own
    queue     far more is asked at once than may wait, for so many seconds: the rest stays with its sender or is refused

All over streams, `digits` or copies of it. Devices and bundles are measured by turns, and the medians count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import clients
from benchmarks.clients import GrpcClient
from benchmarks.h2load import Load
from benchmarks.latency_tables import rewrite
from benchmarks.processes import busy_s, cpu_s, memory_mb
from benchmarks.serving_servers import BER, Server, start_weaklink
from semantic_codec.bundle import find_bundle
from semantic_codec.errors import ConfigError
from semantic_codec.report import print_table, results_file, write_json
from weaklink.v1 import edge_pb2

DEVICES = (1, 100, 1_000, 10_000)
BUNDLES = (1, 5, 10, 20)
QUEUE_S = (2.0, 10.0, 30.0)
CODEC = "digits"
UNANSWERED = 64
WARM_UP_S = 2.0
METHOD = "/weaklink.v1.EdgeInference/InferStream"


def requests(codecs: Sequence[str], devices: int) -> Iterator[bytes]:
    """Messages by turns of codecs and devices, without end."""
    payload = bytes(find_bundle(CODEC).manifest.levels[-1].payload_bytes)
    turns = zip(itertools.cycle(codecs), itertools.cycle(f"camera-{number}" for number in range(devices)))
    for codec, device in turns:
        yield edge_pb2.InferRequest(bitstream=payload, codec=codec, device=device, ber_estimate=BER).SerializeToString()


def warm_up(server: Server, messages: Sequence[Iterator[bytes]], width: int, least: int = 1) -> None:
    """At least so many requests that do not count, so that the server has seen everything that is to grow."""
    answered = 0
    while answered < least:
        answered += len(_ask(server, messages, width, WARM_UP_S).latencies_s)


def measure(server: Server, messages: Sequence[Iterator[bytes]], width: int, seconds: float) -> dict[str, Any]:
    """Columns of a row: a stream for each of ``messages``, ``width`` unanswered on each."""
    process = server.process.pid
    done, busy, used, started = outcomes(server), busy_s(), cpu_s(process), time.monotonic()
    load = _ask(server, messages, width, seconds)
    wall, used, busy = time.monotonic() - started, cpu_s(process) - used, busy_s() - busy
    ended = {name: count - done.get(name, 0) for name, count in outcomes(server).items()}
    ended.pop("cancelled", None)  # what was under way when the streams were closed
    return {
        "requests_per_s": sum(ended.values()) / wall,
        "answered_per_s": ended.get("ok", 0) / wall,
        "refused_per_s": (sum(ended.values()) - ended.get("ok", 0)) / wall,
        "server_cpu_us_per_request": 1e6 * used / sum(ended.values()),
        "memory_mb": memory_mb(process),
        "others_cpu_percent": max(0.0, 100 * (busy - used) / wall - 100 * load.cpu_share),
    }


def _ask(server: Server, messages: Sequence[Iterator[bytes]], width: int, seconds: float) -> Load:
    streams = [GrpcClient(("127.0.0.1", server.ports["grpc"]), METHOD, each, width=width) for each in messages]
    try:
        return clients.run(streams, seconds, 0.0)
    finally:
        for stream in streams:
            stream.sock.close()


def outcomes(server: Server) -> dict[str, int]:
    """Requests so far by outcome."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports['http']}/metrics", timeout=60) as page:
        text = page.read().decode()
    found: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith("weaklink_requests_total{"):
            labels, value = line.rsplit(" ", 1)
            name = labels.partition('outcome="')[2].partition('"')[0]
            found[name] = found.get(name, 0) + int(float(value))
    return found


def copies(folder: Path, count: int) -> list[str]:
    """So many bundles in ``folder``: the same but for name and number."""
    source = find_bundle(CODEC).folder
    names = [f"{CODEC}-{number}" for number in range(count)]
    for number, name in enumerate(names):
        target = folder / name / "1"
        shutil.copytree(source, target)
        manifest = json.loads((target / "bundle.json").read_text())
        (target / "bundle.json").write_text(json.dumps(manifest | {"name": name, "codec_id": number + 1}))
    return names


@dataclass(frozen=True)
class Point:
    """Work that has grown to ``count``: requests by turns of ``codecs`` and ``devices``."""

    grows: str
    count: int
    server: Server
    codecs: Sequence[str]
    devices: int = 1

    def warm_up(self) -> None:
        warm_up(self.server, [requests(self.codecs, self.devices)], UNANSWERED, 2 * self.devices)

    def measure(self, seconds: float) -> dict[str, Any]:
        return measure(self.server, [requests(self.codecs, self.devices)], UNANSWERED, seconds)


def grown(options: argparse.Namespace, folder: Path, servers: ExitStack) -> Iterator[Point]:
    """Each of a server of its own, which ``servers`` stops: those that are not asked take nothing but memory."""

    def start(*arguments: Any, **settings: Any) -> Server:
        server = start_weaklink(*arguments, 1, 1, folder / "log", **settings)
        servers.callback(server.stop)
        return server

    for count in options.devices:
        yield Point("devices", count, start([find_bundle(CODEC)], device_limit=max(options.devices)), [CODEC], count)
    for count in options.bundles:
        root = folder / f"of-{count}"
        names = copies(root, count)
        server = start([], bundles=root)
        yield Point("bundles, one asked", count, server, names[:1])
        yield Point("bundles, all asked", count, server, names)


def measure_in_turns(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Medians over turns of all points: a machine that slows down for a minute does so for all of them."""
    with ExitStack() as servers:
        points = list(grown(options, folder, servers))
        for point in points:
            point.warm_up()
        turns = [[point.measure(options.seconds) for point in points] for _ in range(options.turns)]
    for point, rows in zip(points, zip(*turns), strict=True):
        medians = {name: median(row[name] for row in rows) for name in rows[0]}
        yield {"grows": point.grows, "count": point.count} | medians


def measure_queue(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    server = start_weaklink([find_bundle(CODEC)], 1, 1, folder / "log", queue_limit=128, device_in_flight=1_000_000)
    try:
        for seconds in options.queue_s:
            streams = [requests([CODEC], 1) for _ in range(16)]
            warm_up(server, streams, 256)
            row = measure(server, streams, 256, seconds)
            yield {"grows": "seconds of a full queue", "count": seconds} | row
    finally:
        server.stop()


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as the operator's guide has them."""
    head = ("what grows", "to", "answers/s", "refused/s", "processor, µs per request", "memory MB")
    keys = ("answered_per_s", "refused_per_s", "server_cpu_us_per_request", "memory_mb")
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    lines += [[row["grows"], f"{row['count']:,g}", *(f"{row[key]:,.0f}" for key in keys)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench growth", description=__doc__.split("\n\n")[0])
    parser.add_argument("--devices", nargs="+", type=int, default=list(DEVICES), help="default: %(default)s")
    parser.add_argument("--bundles", nargs="+", type=int, default=list(BUNDLES), help="at most 63 (default: %(default)s)")
    parser.add_argument("--queue-s", nargs="+", type=float, default=list(QUEUE_S), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn of the other rows (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="of the other rows, whose medians count (default: %(default)s)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the rows here")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="renew the table between the marks of this page")
    options = parser.parse_args(argv)
    if min(*options.devices, options.turns) < 1 or not all(1 <= count <= 63 for count in options.bundles) or options.seconds <= 0:
        raise ConfigError(
            f"devices {options.devices}, bundles {options.bundles}, seconds {options.seconds}, turns {options.turns}",
            allowed="at least 1 device and turn, 1 to 63 bundles, seconds above 0",
            fix="change what is outside",
        )
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for part in (measure_in_turns, measure_queue)
            for row in part(options, Path(folder))
        ]
    print_table(rows)
    if options.json:
        write_json(options.json, rows, None)
    if options.docs:
        rewrite(options.docs, markdown(rows), "growth")
    return 0
