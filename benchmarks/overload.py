"""Answers per second of an edge node that gets several times what it can answer, against what it can.

    capacity -> overload -> capacity beside the sender of the overload (UDP) -> capacity

Over gRPC and HTTP, capacity is `UNDER_WAY` requests at a time and overload as many more, all of whose callers ask again at
once; over UDP, overload is frames at so many times the capacity's rate. Goodput is what the server counts as answered
in time, between two looks at its metrics while the load goes on. The load generator is on the same machine, and its
processor time is in every row: on few cores it is part of what the edge node loses. So that UDP's loss can be told from it,
the capacity is measured once more while the overload's sender sends as much to a port that nobody reads.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.latency_tables import rewrite
from benchmarks.overload_loads import Frames, Load, flooded, open_load
from benchmarks.processes import cpu_s, memory_mb
from benchmarks.serving_servers import Server, start_weaklink
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.errors import ConfigError, Unavailable
from semantic_codec.report import NOT_MEASURED, print_table, read_rows, results_file, write_json

DOORS = {"grpc": "gRPC calls", "stream": "gRPC streams", "http": "HTTP", "udp": "UDP"}
UNDER_WAY = 256  # requests while the capacity is measured: some batches' worth
RAMP_S, TAIL_S = 3.0, 3.0  # of a load, before and after what is counted: thousands of connections take a while to open
PATIENCE_S = 60.0
COLUMNS = {
    "door": "door",
    "bundle": "bundle",
    "capacity_per_s": "capacity/s",
    "capacity_beside_sender_per_s": "beside the sender",
    "asked_per_s": "asked/s",
    "goodput_per_s": "goodput/s",
    "goodput_share": "share",
    "goodput_share_beside_sender": "beside the sender",
    "memory_start_mb": "memory MB",
    "memory_most_mb": "most MB",
    "memory_end_mb": "end MB",
    "load_cores": "load's cores",
}


@dataclass
class Seen:
    """What the server's metrics said of a while. ``requests`` of one transport, and all ``frames``, by outcome."""

    seconds: float
    requests: Counter[str]
    frames: Counter[str]
    server_cores: float
    memory_mb: list[float] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        return self.requests["ok"] / self.seconds


class Watch:
    """Looks at a server that is under load."""

    def __init__(self, server: Server, protocol: str):
        self._pid, self._protocol = server.process.pid, protocol
        self._url = f"http://127.0.0.1:{server.ports['http']}/metrics"

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """Requests and frames so far, by outcome."""
        with urllib.request.urlopen(self._url, timeout=PATIENCE_S) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        requests, frames = Counter[str](), Counter[str]()
        for sample in (sample for family in families for sample in family.samples):
            if sample.name == "weaklink_frames_total":
                frames[sample.labels["outcome"]] += int(sample.value)
            elif sample.name == "weaklink_requests_total" and sample.labels["transport"] == self._protocol:
                requests[sample.labels["outcome"]] += int(sample.value)
        return requests, frames

    def look(self, seconds: float) -> Seen:
        """For so long, once the load has begun."""
        time.sleep(RAMP_S)
        (requests, frames), used, started = self.counts(), cpu_s(self._pid), time.monotonic()
        memory = [self.memory_mb()]
        while (left := started + seconds - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            memory.append(self.memory_mb())
        (later, later_frames), took = self.counts(), time.monotonic() - started
        used = cpu_s(self._pid) - used
        return Seen(took, later - requests, later_frames - frames, used / took, memory)

    def memory_mb(self) -> float:
        return memory_mb(self._pid)

    def settled(self, sent: int, before: Counter[str]) -> Counter[str]:
        """Outcomes of so many frames, once each has one. Unavailable: some never get one."""
        ends = time.monotonic() + PATIENCE_S
        while (frames := self.counts()[1] - before).total() != sent:
            if time.monotonic() > ends:
                raise Unavailable(
                    f"of {sent} frames {frames.total()} have an outcome", allowed="one for each", fix="see the server's log"
                )
            time.sleep(0.1)
        return frames


def under_load(watch: Watch, load: Load, count: int, seconds: float) -> tuple[Seen, float]:
    """With so many requests under way; and the cores that the load generator took."""
    whole = RAMP_S + seconds + TAIL_S
    used: list[float] = []
    sending = threading.Thread(target=lambda: used.append(load.keep_under_way(count, whole)))
    sending.start()
    seen = watch.look(seconds)
    ended = not sending.is_alive()
    sending.join()
    if ended:
        raise Unavailable("the load was over too soon", allowed=f"{whole:g} s of it", fix="see the output above; measure for longer")
    return seen, used[0] / whole


def under_flood(watch: Watch, load: Frames, rate: float, seconds: float) -> tuple[Seen, float, dict[str, Any]]:
    """With frames at a rate; each of them ends in one outcome."""
    whole = RAMP_S + seconds + TAIL_S
    before = watch.counts()[1]
    sender = load.flood(rate, whole)
    _begin(sender)
    seen = watch.look(seconds)
    flood = flooded(sender)
    frames = watch.settled(flood["sent"], before)
    return seen, flood["used_s"] / whole, {"sent": flood["sent"], "sent_per_s": flood["sent"] / whole, "frames": dict(frames)}


def beside_flood(watch: Watch, load: Frames, rate: float, seconds: float) -> tuple[Seen, float]:
    """The capacity while as many frames go to a port that nobody reads; and the cores that their sender took."""
    whole = RAMP_S + seconds + TAIL_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sender = load.flood(rate, whole, sink.getsockname()[1])
        _begin(sender)
        seen, _ = under_load(watch, load, UNDER_WAY, seconds)
        return seen, flooded(sender)["used_s"] / whole


def _begin(sender) -> None:
    sender.stdin.write("\n")
    sender.stdin.flush()


def measure(door: str, bundle: Bundle, options: argparse.Namespace, log: Path) -> dict[str, Any]:
    """One row, on an edge node of its own."""
    server = start_weaklink([bundle], 1, 1, log)
    try:
        load = open_load(door, server, bundle, options.devices, UNDER_WAY)
        watch = Watch(server, load.protocol)

        def capacity() -> float:
            return under_load(watch, load, UNDER_WAY, options.capacity_seconds)[0].goodput

        capacities, more = [capacity()], {}
        memory = watch.memory_mb()
        if door == "udp":
            rate = options.times * capacities[0]
            seen, cores, more = under_flood(watch, load, rate, options.seconds)
        else:
            seen, cores = under_load(watch, load, int(options.times * UNDER_WAY), options.seconds)
        ended = watch.memory_mb()
        if door == "udp":
            beside, beside_cores = beside_flood(watch, load, rate, options.capacity_seconds)
            more |= {
                "capacity_beside_sender_per_s": beside.goodput,
                "sender_cores_beside": beside_cores,
                "goodput_share_beside_sender": seen.goodput / beside.goodput,
            }
        capacities.append(capacity())
    finally:
        server.stop()
    able = float(np.mean(capacities))
    return {
        "door": door,
        "bundle": bundle.manifest.name,
        "times": options.times,
        "seconds": seen.seconds,
        "under_way": None if door == "udp" else int(options.times * UNDER_WAY),
        "capacity_per_s": able,
        "capacities_per_s": capacities,
        "asked_per_s": more.get("sent_per_s", seen.requests.total() / seen.seconds),
        "goodput_per_s": seen.goodput,
        "goodput_share": seen.goodput / able,
        "requests": dict(seen.requests),
        "memory_start_mb": memory,
        "memory_most_mb": max(seen.memory_mb),
        "memory_end_mb": ended,
        "memory_mb": seen.memory_mb,
        "server_cores": seen.server_cores,
        "load_cores": cores,
        **more,
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as the operator's guide has them."""
    head = ("door", "bundle", "seconds", "capacity/s", "beside the sender", "under way", "asked/s", "answered/s", "of the capacity", "of that beside the sender", "told busy/s", "memory before, MB", "most, MB", "after, MB", "load, cores")  # fmt: skip
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    found = {(row["bundle"], row["door"]): row for row in rows}
    for bundle, door in product(dict.fromkeys(row["bundle"] for row in rows), DOORS):
        row = found.get((bundle, door))
        if row is None:
            lines.append([DOORS[door], f"`{bundle}`", NOT_MEASURED, *[""] * (len(head) - 3)])
            continue
        beside, share = row.get("capacity_beside_sender_per_s"), row.get("goodput_share_beside_sender")
        lines.append(
            [
                DOORS[row["door"]],
                f"`{row['bundle']}`",
                f"{row['seconds']:.0f}",
                f"{row['capacity_per_s']:,.0f}",
                "" if beside is None else f"{beside:,.0f}",
                "" if row["under_way"] is None else f"{row['under_way']:,}",
                *(f"{row[name]:,.0f}" for name in ("asked_per_s", "goodput_per_s")),
                f"{row['goodput_share']:.0%}",
                "" if share is None else f"{share:.0%}",
                f"{row['requests'].get('queue_full', 0) / row['seconds']:,.0f}",
                *(f"{row[name]:,.0f}" for name in ("memory_start_mb", "memory_most_mb", "memory_end_mb")),
                f"{row['load_cores']:.2f}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def kept_rows(path: Path, is_measured: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Rows of an earlier run that are not measured now."""
    return [row for row in read_rows(path) if not is_measured(row)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench overload", description=__doc__.split("\n")[0])
    parser.add_argument("--doors", nargs="+", default=list(DOORS), choices=DOORS, metavar="NAME", help=f"default: all of {', '.join(DOORS)}; the others' rows stay as they are in the file")
    parser.add_argument("--bundles", nargs="+", default=["digits", "cifar10"], metavar="NAME", help="likewise (default: digits cifar10)")
    parser.add_argument("--times", type=float, default=10, metavar="N", help="of the capacity's requests under way, or frames (default: %(default)g)")
    parser.add_argument("--seconds", type=float, default=60, metavar="S", help="of overload (default: %(default)g)")
    parser.add_argument("--capacity-seconds", type=float, default=5, metavar="S", help="of each measurement of the capacity (default: %(default)g)")
    parser.add_argument("--devices", type=int, default=16, metavar="N", help="that send too many frames (default: %(default)s)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the rows here, beside those of what is not measured now")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="renew the table between the marks of this page")
    options = parser.parse_args(argv)
    if min(options.times, options.seconds, options.capacity_seconds, options.devices) <= 0:
        raise ConfigError("a number is negative or 0", allowed="above 0", fix="correct it")
    bundles = [find_bundle(name) for name in options.bundles]
    names = [bundle.manifest.name for bundle in bundles]
    rows = kept_rows(options.json, lambda row: row["door"] in options.doors and row["bundle"] in names) if options.json else []
    with tempfile.TemporaryDirectory() as folder:
        for bundle in bundles:
            for door in options.doors:
                rows.append(measure(door, bundle, options, Path(folder, "log")))
                print_table(rows[-1:], COLUMNS)
                rows.sort(key=lambda row: (row["bundle"], list(DOORS).index(row["door"])))
                if options.json:  # after each row: what is measured is not lost
                    write_json(options.json, rows, seed=0)
    if options.docs:
        rewrite(options.docs, markdown(rows), "overload")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
