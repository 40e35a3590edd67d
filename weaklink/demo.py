"""``weaklink demo``: edge, lossy link and device as real processes on this machine, and one table of what they did.

    recording (real bitstreams of 10,000 test images) --+
                                                        +-- device --UDP or gRPC--> emulator --> edge
    digits, encoded while you watch --------------------+
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from channel_emulator.control_client import call
from codec_training.datasets import load_dataset
from device_client.device import Device, Sample
from device_client.fit import fit
from device_client.samples import recording_samples
from device_client.tally import Tally
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.errors import ConfigError, WeaklinkError
from semantic_codec.report import print_table, results_file, write_json
from weaklink.demo_plot import save_plot
from weaklink.processes import Service

UDP_BERS = (0.0, 1e-3, 1e-2, 5e-2, 0.1)
GRPC_BERS = (*UDP_BERS, 0.2)
DIGITS_BER = 1e-2
WINDOW = 32
TIMEOUT_S = {"udp": 2.0, "grpc": 20.0}
COLUMNS = {
    "codec": "codec",
    "transport": "way",
    "ber": "BER",
    "images": "images",
    "payload_bytes": "payload B",
    "on_air_bytes": "on air B",
    "accuracy_percent": "accuracy %",
    "accuracy_interval_percent": "+-",
    "accuracy_answered_percent": "of answered %",
    "header_loss_percent": "header loss %",
    "true_ber": "true BER",
    "estimated_ber": "BER at edge",
    "latency_p50_ms": "p50 ms",
    "latency_p99_ms": "p99 ms",
    "requests_per_s": "req/s",
}
PORTS = ("--grpc-port", "0", "--udp-port", "0", "--http-port", "0")
NOTES = """\
Accuracy counts a lost frame as wrong; +- is half the 95 % interval. On air: over UDP the whole frame, header included;
over gRPC the message. BER at edge: over UDP measured by the edge on the frames' headers, over gRPC told by the device.
Replies travel back undamaged. Latency is with {window} images under way at once, so most of it is waiting."""
NEXT = """\
What to try next
  weaklink codecs                                      the codecs, and what they were measured to do
  weaklink serve                                       an edge of your own, then in another terminal:
  weaklink send --recording --count 2000 --ber 0.05    the same traffic with flips, without the emulator
  weaklink send photo.jpg --codec cifar10              a picture of yours
  weaklink emulate                                     the lossy link; weaklink link --help changes it while it runs
  weaklink evaluate cifar10 --recording                the same accuracy offline, on all 10,000 images
  docker compose up                                    the same with Prometheus"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="weaklink demo", description="Edge, lossy link and device on this machine, one table.")
    made.add_argument("--frames", type=int, default=2000, metavar="N", help="images per cell of the table (default: 2000)")
    made.add_argument("--codec", default="cifar10", help="codec whose recording is replayed (default: cifar10)")
    made.add_argument("--out", type=Path, default=Path("."), metavar="FOLDER", help="where demo.png goes (default: here)")
    made.add_argument("--json", type=results_file, metavar="FILE", help="write the table there, too")
    made.add_argument("--seed", type=int, default=0, help="of the link's flips (default: 0)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 2 where a bundle is missing or a service does not start."""
    # SIGTERM must unwind the context managers that stop the children, as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        return run(parser().parse_args(argv))
    except WeaklinkError as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)


def run(options: argparse.Namespace) -> int:
    for name, least, fix in (("frames", 1, "give 2000"), ("seed", 0, "leave it out for 0")):
        if (value := getattr(options, name)) < least:
            raise ConfigError(f"--{name} is {value}", allowed=f"{least} or more", fix=fix)
    options.out.mkdir(parents=True, exist_ok=True)  # what cannot be written shall not take the whole run to show
    recorded, digits = find_bundle(options.codec), find_bundle("digits")
    served = dict.fromkeys(bundle.folder.parents[1] for bundle in (recorded, digits))  # a codec may be given by its folder
    recording = recording_samples(recorded)
    started = time.monotonic()
    say("starting the edge and the link emulator")
    with (
        Service(["serve", *PORTS, "--bundles", os.pathsep.join(map(str, served))]) as edge,
        Service(["emulate", "--control-port", "0"]) as emulator,
    ):
        bench = Bench(edge.ready, emulator.ready["control"], options.seed)
        rows = [*replay(bench, recorded, recording, options.frames), live_digits(bench, digits, options.frames)]
    picture = options.out / "demo.png"
    print()
    print_table([shown(row) for row in rows], COLUMNS)
    save_plot(rows, picture)
    print(f"\n{NOTES.format(window=WINDOW)}\n\nThe picture is in {picture}. All took {time.monotonic() - started:.0f} s.\n\n{NEXT}")
    if options.json:
        write_json(options.json, rows, options.seed)
    return 0


def replay(bench: Bench, bundle: Bundle, recording: Sequence[Sample], frames: int) -> Iterator[dict[str, Any]]:
    """One row per way and BER, the same images in all, spread evenly over the recording."""
    samples = [recording[i * len(recording) // frames] for i in range(frames)]
    for transport, bers in (("udp", UDP_BERS), ("grpc", GRPC_BERS)):
        with bench.link(transport) as link:
            for ber in bers:
                yield bench.measure(bundle, link, ber, samples)


def live_digits(bench: Bench, bundle: Bundle, frames: int) -> dict[str, Any]:
    """Scikit-learn's test digits, each one through the integer encoder on its way out."""
    digits = load_dataset("digits").test
    height, width = bundle.manifest.height, bundle.manifest.width
    samples = (
        Sample(fit(image, height, width), int(label))
        for image, label in zip(digits.images[:frames], digits.labels[:frames], strict=True)
    )
    with bench.link("udp") as link:
        return bench.measure(bundle, link, DIGITS_BER, samples)


@dataclass
class Bench:
    """The running services: opens links between them and measures what goes through."""

    edge: dict[str, str]
    control: str
    seed: int
    devices: int = 0

    def link(self, transport: str) -> Link:
        return Link(self.control, transport, self.edge[transport])

    def measure(self, bundle: Bundle, link: Link, ber: float, samples) -> dict[str, Any]:
        """One row: the samples through the link at that BER, from a device that the edge has never heard of."""
        self.devices += 1
        link.set_ber(ber, self.seed + self.devices)
        before, sent_before = self._scrape(bundle), link.counts()
        tally = Tally(time.monotonic)
        # A repeat would hide the header loss that this table is to show.
        settings = {"device": self.devices, "first_sequence": 0, "retries": 0, "timeout_s": TIMEOUT_S[link.transport]}
        with Device(bundle, link.transport, link.address, **settings) as device:
            given = ber if link.transport == "grpc" else None
            for sample, delivery in device.stream(samples, None, given, window=WINDOW):
                tally.add(sample.label, delivery)
                progress(f"{bundle.manifest.name} over {link.transport} at BER {ber:g}: {tally.sent} images")
        after, sent_after = self._scrape(bundle), link.counts()
        bits, flipped = (sent_after[key] - sent_before[key] for key in ("bits", "bits_flipped"))
        row = {
            "codec": bundle.manifest.name,
            "transport": link.transport,
            "ber": ber,
            **tally.row(),
            "true_ber": flipped / bits if bits else None,
            "estimated_ber": tally.ber_used / tally.ber_reports if tally.ber_reports else None,
        }
        if link.transport == "udp":
            read, estimates, estimated = (now - then for now, then in zip(after, before, strict=True))
            row["header_loss_percent"] = 100 * (1 - read / tally.transmissions)
            row["estimated_ber"] = estimated / estimates if estimates else None
        say(
            f"{row['codec']} over {link.transport} at BER {ber:g}: {row['images']} images, "
            f"accuracy {row['accuracy_percent']:.1f} %, {row['requests_per_s']:.0f}/s"
        )
        return row

    def _scrape(self, bundle: Bundle) -> tuple[float, float, float]:
        """Frames that the edge could read, its BER estimates for this codec, and their sum."""
        # A proxy of the environment is never the way to this machine's own edge.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.edge['http']}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        read = count = total = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "weaklink_frames_total" and sample.labels["outcome"] == "ok":
                    read += sample.value
                elif sample.labels.get("codec") == bundle.manifest.name:
                    count += sample.value if sample.name == "weaklink_estimated_ber_count" else 0
                    total += sample.value if sample.name == "weaklink_estimated_ber_sum" else 0
        return read, count, total


class Link:
    """One link of the emulator, over its control API; deleted on leaving."""

    def __init__(self, control: str, transport: str, upstream: str):
        self.transport = transport
        self._control = control
        made = call(control, "POST", "/links", {"name": transport, "kind": transport, "upstream": upstream})
        self.address = made["listen"]

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_) -> None:
        call(self._control, "DELETE", f"/links/{self.transport}")

    def set_ber(self, ber: float, seed: int) -> None:
        change = {"seed": seed, "up": [{"channel": "bsc", "ber": ber}]}
        call(self._control, "PATCH", f"/links/{self.transport}", change)

    def counts(self) -> dict[str, int]:
        """Bits that went up so far, and how many of them the link flipped."""
        return call(self._control, "GET", f"/links/{self.transport}")["stats"]["up"]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """The row in as many digits as mean something."""
    whole = ("latency_p50_ms", "latency_p99_ms", "requests_per_s", "payload_bytes", "on_air_bytes")
    digits = {**dict.fromkeys(whole, 0), "ber": 6, "true_ber": 5, "estimated_ber": 5}
    return {key: round(value, digits.get(key, 2)) if isinstance(value, float) else value for key, value in row.items()}


def say(line: str) -> None:
    print(f"\r\033[K{line}" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)


def progress(line: str) -> None:
    """A line that the next one overwrites; only where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def _leave(*_) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
