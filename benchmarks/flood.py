"""Answers that honest devices get per second while somebody floods the raw-frame port with noise, against a quiet port.

    devices --frames--> edge <--noise-- flooder        processes of their own, on this machine

Each device has a socket of its own and sends a codec's recording: at a rate of its own, or the next frame when an answer
came, as many under way as `WINDOW`. Quiet and flooded turns alternate, and a row is the mean over its turns. The
flooder's own processor time is in the result: on few cores it is part of what the devices lose.
"""

from __future__ import annotations

import argparse
import itertools
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.flooder import KINDS
from semantic_codec.bundle import Bundle, find_bundle, load_recording
from semantic_codec.errors import ConfigError
from semantic_codec.frame import encode_frame
from semantic_codec.header import Header
from semantic_codec.report import print_table, results_file, write_json
from semantic_codec.reply import read_reply
from weaklink.processes import SOURCE_ROOT, Service

FRAMES = 512  # of each device, sent round and round: their numbers are free again by then
WINDOW = 16  # frames under way of each device where it sends as fast as answers come
LOST_S = 1.0  # an answer that takes longer is none
WARM_UP_S = 1.0
COLUMNS = {
    "flood": "flood",
    "load": "devices send",
    "quiet_goodput_per_s": "answers/s quiet",
    "flooded_goodput_per_s": "flooded",
    "goodput_ratio": "ratio",
    "quiet_latency_p99_ms": "p99 ms quiet",
    "flooded_latency_p99_ms": "flooded",
    "noise_per_s": "noise/s",
    "noise_read_per_s": "read/s",
    "flooder_cores": "flooder cores",
}


class Camera:
    """One device: a socket, its frames, and which of them are under way since when."""

    def __init__(self, bundle: Bundle, number: int, address: tuple[str, int], payloads: Sequence[bytes]):
        self.number = number
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(address)
        level = bundle.manifest.levels[-1].number
        # From 1: sequence 0 would be a restart.
        headers = [Header(bundle.manifest.codec_id, level, number, sequence) for sequence in range(1, FRAMES + 1)]
        frames = [encode_frame(head, payload, bundle.encoder_hash) for head, payload in zip(headers, payloads, strict=True)]
        self._next = itertools.cycle(zip(range(1, FRAMES + 1), frames, strict=True))
        self.under_way: dict[int, float] = {}

    def send(self, now: float) -> None:
        sequence, data = next(self._next)
        self.under_way[sequence] = now
        self.socket.send(data)

    def receive(self, now: float) -> float | None:
        """Seconds that an answer took; None where it answers nothing that waits."""
        reply = read_reply(self.socket.recv(64), self.number)
        sent = None if reply is None else self.under_way.pop(reply.sequence, None)
        return None if sent is None else now - sent

    def give_up(self, now: float) -> int:
        """Forget what was lost; how many."""
        lost = [sequence for sequence, sent in self.under_way.items() if now - sent > LOST_S]
        for sequence in lost:
            del self.under_way[sequence]
        return len(lost)


class Turn:
    """What the devices got in one measurement."""

    def __init__(self, cameras: Sequence[Camera], rate: float, seconds: float):
        self.latencies: list[float] = []
        self.lost, self._cameras, self._rate = 0, cameras, rate
        with selectors.DefaultSelector() as selector:
            for camera in cameras:
                selector.register(camera.socket, selectors.EVENT_READ, camera)
                camera.under_way.clear()
            self._run(selector, WARM_UP_S)
            self.latencies.clear()
            self.lost, started = 0, time.monotonic()
            self._run(selector, seconds)
            self.seconds = time.monotonic() - started

    @property
    def goodput(self) -> float:
        return len(self.latencies) / self.seconds

    def _run(self, selector: selectors.BaseSelector, seconds: float) -> None:
        started = due = looked = time.monotonic()
        turns = itertools.cycle(self._cameras)
        while (now := time.monotonic()) - started < seconds:
            if self._rate:
                while due <= now:
                    next(turns).send(now)
                    due += 1 / self._rate
            else:
                for camera in self._cameras:
                    while len(camera.under_way) < WINDOW:
                        camera.send(now)
            for key, _ in selector.select(max(0.0, min(due - now, 0.05)) if self._rate else 0.05):
                took = key.data.receive(time.monotonic())
                if took is not None:
                    self.latencies.append(took)
            if now - looked > LOST_S / 10:
                looked = now
                self.lost += sum(camera.give_up(now) for camera in self._cameras)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench flood", description=__doc__.split("\n")[0])
    parser.add_argument("--codec", default="digits", help="bundle with a recording (default: %(default)s)")
    parser.add_argument("--noise", type=float, default=50_000, metavar="N", help="datagrams per second (default: %(default)g)")
    parser.add_argument("--devices", type=int, default=8, metavar="N", help="honest ones (default: %(default)s)")
    parser.add_argument("--rate", type=float, nargs="+", default=[500, 0], metavar="N", help="frames per second of all devices; 0: as fast as answers come (default: 500 0)")
    parser.add_argument("--flood", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=f"{', '.join(KINDS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="of each turn (default: %(default)g)")
    parser.add_argument("--turns", type=int, default=3, metavar="N", help="quiet and flooded, of each row (default: %(default)s)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the table as JSON")
    options = parser.parse_args(argv)
    if options.devices < 1 or options.turns < 1 or options.seconds <= 0 or options.noise <= 0 or min(options.rate) < 0:
        raise ConfigError("a number is negative or 0", allowed="above 0; --rate 0 or more", fix="correct it")
    rows = [measure(kind, rate, options) for kind in options.flood for rate in options.rate]
    print_table(rows, COLUMNS)
    if options.json:
        write_json(options.json, rows, seed=None)
    return 0


def measure(kind: str, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """One row, on an edge node of its own."""
    bundle = find_bundle(options.codec)
    recorded = load_recording(bundle).bitstreams
    with ExitStack() as stack:
        edge = stack.enter_context(Service(["serve", "--grpc-port", "0", "--udp-port", "0", "--http-port", "0"]))
        host, _, port = edge.ready["udp"].rpartition(":")
        cameras = []
        for number in range(1, options.devices + 1):
            payloads = [recorded[(FRAMES * number + index) % len(recorded)].tobytes() for index in range(FRAMES)]
            cameras.append(Camera(bundle, number, (host, int(port)), payloads))
            stack.enter_context(closing(cameras[-1].socket))
        quiet, flooded, flooders, read = [], [], [], 0
        for _ in range(options.turns):
            quiet.append(Turn(cameras, rate, options.seconds))
            before = _frames(edge)
            with _Flooder(host, port, options.noise, kind) as flooder:
                flooded.append(Turn(cameras, rate, options.seconds))
            flooders.append(flooder)
            seen = _frames(edge) - before
            read += seen["bad_header"] + seen["bad_length"]
        return {
            "flood": kind,
            "load": f"{rate:g}/s" if rate else "as fast as answers come",
            "codec": options.codec,
            "devices": options.devices,
            **{f"quiet_{name}": value for name, value in _summary(quiet).items()},
            **{f"flooded_{name}": value for name, value in _summary(flooded).items()},
            "goodput_ratio": _summary(flooded)["goodput_per_s"] / _summary(quiet)["goodput_per_s"],
            "goodput_ratios": [noisy.goodput / calm.goodput for calm, noisy in zip(quiet, flooded, strict=True)],
            "noise_per_s": float(np.mean([flooder.rate for flooder in flooders])),
            "noise_read_per_s": read / sum(turn.seconds + WARM_UP_S for turn in flooded),
            "flooder_cores": float(np.mean([flooder.cores for flooder in flooders])),
            "turns": options.turns,
            "seconds": options.seconds,
        }


class _Flooder:
    """`benchmarks.flooder` as a process, sending within the context. ``rate`` and ``cores``, what it sent per second and
    the processor time that took, are known at the end."""

    def __init__(self, host: str, port: str, rate: float, kind: str):
        self._command = [sys.executable, "-m", "benchmarks.flooder", host, port, str(rate), kind]
        self.rate = self.cores = 0.0

    def __enter__(self) -> _Flooder:
        self._process = subprocess.Popen(
            self._command, cwd=SOURCE_ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        self._process.stdout.readline()
        return self

    def __exit__(self, *_) -> None:
        self._process.terminate()
        said = self._process.communicate(timeout=60)[0]
        sent, seconds, cpu_s = map(float, said.split())
        self.rate, self.cores = sent / seconds, cpu_s / seconds


def _frames(edge: Service) -> Counter[str]:
    """Frames so far by outcome."""
    with urllib.request.urlopen(f"http://{edge.ready['http']}/metrics", timeout=60) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = [sample for family in families for sample in family.samples if sample.name == "weaklink_frames_total"]
    return Counter({sample.labels["outcome"]: int(sample.value) for sample in samples})


def _summary(turns: Sequence[Turn]) -> dict[str, float]:
    """Over several turns: the mean of their goodputs, the latency of all answers together."""
    latencies = np.concatenate([turn.latencies for turn in turns])
    return {
        "goodput_per_s": float(np.mean([turn.goodput for turn in turns])),
        "latency_p50_ms": 1e3 * float(np.percentile(latencies, 50)) if len(latencies) else float("nan"),
        "latency_p99_ms": 1e3 * float(np.percentile(latencies, 99)) if len(latencies) else float("nan"),
        "lost": sum(turn.lost for turn in turns),
    }


if __name__ == "__main__":
    raise SystemExit(main())
