"""Answers per second of an edge node that gets several times what it can answer, against what it can.

    capacity (as many frames under way as `WINDOW`) -> overload (frames at a rate, whatever becomes of them) -> capacity

Random bits of a codec's longest level, as raw frames over UDP, from devices with a socket each in one process on this machine. Its own
processor time is in the result: on few cores it is part of what the edge node loses. Goodput is what the server counts
as answered.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.latency_tables import rewrite
from benchmarks.processes import memory_mb
from benchmarks.udp_devices import DONT_WAIT, send
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.errors import ConfigError, Unavailable
from semantic_codec.frame import encode_frame
from semantic_codec.header import Header
from semantic_codec.report import print_table, write_json
from weaklink.processes import Service

SEQUENCES = 4095  # of each device, sent round and round: all but 0, which would be a restart. Fewer come again as duplicates
WINDOW = 256  # frames under way while the capacity is measured: some batches' worth
AT_ONCE = 512  # frames that are sent before replies are read again
LOST_S = 1.0  # an answer that takes longer is none
PATIENCE_S = 60.0
COLUMNS = {
    "codec": "codec",
    "capacity_per_s": "capacity/s",
    "offered_per_s": "offered/s",
    "goodput_per_s": "goodput/s",
    "goodput_share": "share",
    "memory_start_mb": "memory MB",
    "memory_most_mb": "most MB",
    "sender_cores": "sender cores",
}


class Senders:
    """Devices with a socket each, that send in turns what was encoded beforehand. ``sent``: frames."""

    def __init__(self, bundle: Bundle, address: tuple[str, int], devices: int, rng: np.random.Generator):
        self._selector = selectors.DefaultSelector()
        sockets = []
        for _ in range(devices):
            sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sockets[-1].setblocking(False)
            sockets[-1].connect(address)
            self._selector.register(sockets[-1], selectors.EVENT_READ)
        level = bundle.manifest.levels[-1]
        frames = [
            encode_frame(
                Header(bundle.manifest.codec_id, level.number, device, sequence),
                rng.bytes(level.payload_bytes),
                bundle.encoder_hash,
            )
            for sequence in range(1, SEQUENCES + 1)
            for device in range(1, devices + 1)
        ]
        self._frames = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), -1)
        self._descriptors = np.array([sock.fileno() for sock in sockets])
        self._turn = self.sent = 0

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def keep_under_way(self, count: int, seconds: float) -> None:
        """Send one for each that comes back; replies that were lost are made up for."""
        ends = time.monotonic() + seconds
        self._send(count)
        while time.monotonic() < ends:
            self._send(self._receive(LOST_S) or count)

    def flood(self, rate: float, seconds: float) -> Iterator[None]:
        """Send at a rate; yields once a second."""
        started, already, told = time.monotonic(), self.sent, 0
        while (now := time.monotonic() - started) < seconds:
            self._send(min(int(now * rate) - (self.sent - already), AT_ONCE))
            self._receive(0.001)
            if now >= told + 1:
                told += 1
                yield

    def _send(self, count: int) -> None:
        self.sent += _send_turns(self._descriptors, self._frames, self._turn, count)
        self._turn += count

    def _receive(self, timeout: float) -> int:
        """At most one reply of each device; how many."""
        ready = self._selector.select(timeout)
        for key, _ in ready:
            key.fileobj.recv(64)
        return len(ready)


@njit(nogil=True)
def _send_turns(descriptors, frames, turn, count):
    """Frames from number ``turn`` on, each from the next socket; how many: what the kernel has no room for is lost."""
    sent, size = 0, frames.shape[1]
    for place in range(turn, turn + count):
        data = frames[place % len(frames)].ctypes.data
        sent += send(descriptors[place % len(descriptors)], data, size, DONT_WAIT) == size
    return sent


class Counts:
    """Outcomes of frames, and of the requests that they became."""

    def __init__(self, edge: Service):
        with urllib.request.urlopen(f"http://{edge.ready['http']}/metrics", timeout=PATIENCE_S) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        self.frames: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        for sample in (sample for family in families for sample in family.samples):
            if sample.name == "weaklink_frames_total":
                self.frames[sample.labels["outcome"]] += int(sample.value)
            elif sample.name == "weaklink_requests_total":
                self.requests[sample.labels["outcome"]] += int(sample.value)

    @classmethod
    def settled(cls, edge: Service, sent: int) -> Counts:
        """Once every frame has its outcome, and every frame that became a request its end. Unavailable: some never get one."""
        ends = time.monotonic() + PATIENCE_S
        while True:
            counts = cls(edge)
            if counts.frames.total() == sent and counts.requests.total() == counts.frames["ok"]:
                return counts
            if time.monotonic() > ends:
                raise Unavailable(
                    f"of {sent} frames {counts.frames.total()} have an outcome, of {counts.frames['ok']} requests "
                    f"{counts.requests.total()}",
                    allowed="one for each",
                    fix="see the server's log",
                )
            time.sleep(0.1)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as the operator's guide has them."""
    head = ("codec", "capacity/s", "offered/s", "answered/s", "of the capacity", "told busy/s", "dropped/s", "memory before, MB", "most, MB", "sender, cores")
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rows:
        busy = row["requests"].get("queue_full", 0) / row["seconds"]
        dropped = (row["sent"] - row["frames"]["ok"]) / row["seconds"]
        per_s = (row["capacity_per_s"], row["offered_per_s"], row["goodput_per_s"])
        lines.append(
            [
                f"`{row['codec']}`",
                *(f"{value:,.0f}" for value in per_s),
                f"{row['goodput_share']:.0%}",
                *(f"{value:,.0f}" for value in (busy, dropped, row["memory_start_mb"], row["memory_most_mb"])),
                f"{row['sender_cores']:.2f}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench overload", description=__doc__.split("\n")[0])
    parser.add_argument("--codec", nargs="+", default=["cifar10"], metavar="NAME", help="bundles (default: cifar10)")
    parser.add_argument("--times", type=float, default=10, metavar="N", help="of the capacity (default: %(default)g)")
    parser.add_argument("--minutes", type=float, default=1, metavar="N", help="of overload (default: %(default)g)")
    parser.add_argument("--seconds", type=float, default=10, metavar="S", help="of each measurement of the capacity (default: %(default)g)")
    parser.add_argument("--devices", type=int, default=16, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="renew the table between the marks of this page")
    options = parser.parse_args(argv)
    if min(options.times, options.minutes, options.seconds, options.devices) <= 0:
        raise ConfigError("a number is negative or 0", allowed="above 0", fix="correct it")
    rows = [measure(codec, options) for codec in options.codec]
    print_table(rows, COLUMNS)
    if options.json:
        write_json(options.json, rows, seed=0)
    if options.docs:
        rewrite(options.docs, markdown(rows), "overload")
    return 0


def measure(codec: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row, on an edge node of its own. Each frame that was sent is in exactly one of its outcomes."""
    bundle = find_bundle(codec)
    with Service(["serve", "--grpc-port", "0", "--udp-port", "0", "--http-port", "0"]) as edge:
        host, _, port = edge.ready["udp"].rpartition(":")
        with closing(Senders(bundle, (host, int(port)), options.devices, np.random.default_rng(0))) as sender:
            sender.keep_under_way(WINDOW, 1.0)  # what the first frames are late for

            def capacity() -> float:
                before, started = Counts.settled(edge, sender.sent), time.monotonic()
                sender.keep_under_way(WINDOW, options.seconds)
                took = time.monotonic() - started
                return (Counts.settled(edge, sender.sent).requests["ok"] - before.requests["ok"]) / took

            capacities = [capacity()]
            before, sent = Counts.settled(edge, sender.sent), sender.sent
            memory, started, busy = [memory_mb(edge.process.pid)], time.monotonic(), time.process_time()
            for _ in sender.flood(options.times * capacities[0], 60 * options.minutes):
                memory.append(memory_mb(edge.process.pid))
            took, busy = time.monotonic() - started, time.process_time() - busy
            sent = sender.sent - sent
            after = Counts.settled(edge, sender.sent)
            capacities.append(capacity())
    frames, requests = after.frames - before.frames, after.requests - before.requests
    able = float(np.mean(capacities))
    return {
        "codec": codec,
        "times": options.times,
        "seconds": took,
        "capacity_per_s": able,
        "capacities_per_s": capacities,
        "offered_per_s": sent / took,
        "goodput_per_s": requests["ok"] / took,
        "goodput_share": requests["ok"] / took / able,
        "sent": sent,
        "frames": dict(frames),
        "requests": dict(requests),
        "memory_start_mb": memory[0],
        "memory_most_mb": max(memory),
        "memory_mb": memory,
        "sender_cores": busy / took,
        "devices": options.devices,
    }


if __name__ == "__main__":
    raise SystemExit(main())
