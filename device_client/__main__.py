"""``weaklink send``: images, folders of images or a codec's recording, sent as a device sends them."""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from device_client.device import Device, Sample
from device_client.messages import Delivery
from device_client.noise import BitFlips
from device_client.samples import image_samples, recording_samples
from device_client.tally import Tally
from device_client.transports import transport_names
from semantic_codec.key_file import read_key
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.errors import (
    ConfigError,
    DeadlineExceeded,
    InvalidRequest,
    QueueFull,
    Unavailable,
    WeaklinkError,
)
from semantic_codec.report import print_table, results_file, write_json

DEFAULT_ADDRESS = {"udp": "127.0.0.1:50052", "serial": "127.0.0.1:50053", "grpc": "127.0.0.1:50051"}
DEFAULT_TIMEOUT_S = {"udp": 1.0, "serial": 1.0, "grpc": 5.0}
# So many in a row without any answer are no bad link any more: even at BER 0.2 a frame in ten gets through.
SILENT_BEFORE_GIVING_UP = 64
PASSING = (Unavailable, DeadlineExceeded, QueueFull)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="weaklink send", description="Encode images as a device does and send them.")
    made.add_argument("paths", nargs="*", metavar="IMAGE", help="image files, or folders; class folders give the labels")
    made.add_argument("--recording", action="store_true", help="send the codec's recording: real bitstreams with labels")
    made.add_argument("--codec", default="cifar10", metavar="NAME", help="bundle, by name or folder (default: cifar10)")
    made.add_argument("--to", metavar="HOST:PORT", help="edge or link emulator (default: 127.0.0.1, the edge's own port); with serial also a port of this machine, as /dev/ttyUSB0")
    made.add_argument("--baud", type=int, metavar="N", help="of a serial port of this machine (default: 115200)")
    made.add_argument("--transport", choices=transport_names(), default="udp", help="default: udp, raw frames")
    made.add_argument("--level", type=int, help="prefix to send, by number (default: the longest)")
    made.add_argument("--count", type=int, metavar="N", help="stop after N images")
    made.add_argument("--rate", type=float, metavar="N", help="at most N images per second (default: as fast as answers come)")
    made.add_argument("--window", type=int, default=32, metavar="N", help="images under way at once (default: 32)")
    made.add_argument("--loop", action="store_true", help="begin again at the end, until --count or SIGTERM")
    made.add_argument("--ber", type=float, metavar="P", help="flip each bit with this probability before sending")
    made.add_argument("--ber-estimate", type=float, metavar="P", help="what to tell the edge about the link (grpc only)")
    made.add_argument("--feedback", metavar="HOST:PORT", help="the edge's gRPC address, to tell it the true classes")
    made.add_argument("--device-id", type=int, default=1, metavar="N", help="0 to 65535 (default: 1)")
    made.add_argument("--key-file", type=Path, metavar="FILE", help="keyed mode: the device's key, 64 hexadecimal digits (udp, serial)")
    made.add_argument("--sequence-file", type=Path, metavar="FILE", help="keeps the device's sequences (default: KEY-FILE.sequence)")
    made.add_argument("--token-file", type=Path, metavar="FILE", help="token for gRPC and feedback")
    made.add_argument("--ca", type=Path, metavar="FILE", help="TLS for gRPC and feedback: PEM file of the edge's authority")
    made.add_argument("--certificate", type=Path, metavar="FILE", help="PEM file of the device's certificate, with --ca")
    made.add_argument("--certificate-key", type=Path, metavar="FILE", help="PEM file of its private key")
    made.add_argument("--timeout", type=float, metavar="S", help="wait for an answer (default: 1 s per try, grpc 5 s)")
    made.add_argument("--retries", type=int, default=2, metavar="N", help="repeats of an unanswered image (default: 2)")
    made.add_argument("--seed", type=int, default=0, help="of the flips of --ber (default: 0)")
    made.add_argument("--status-every", type=float, default=10.0, metavar="S", help="seconds between status lines (default: 10)")
    made.add_argument("--json", type=results_file, metavar="FILE", help="write the table there, too")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when the edge answered (also after SIGTERM), 2 when it could not be reached or refused, or an image not read."""
    try:
        return send(parser().parse_args(argv))
    except WeaklinkError as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 2


def send(options: argparse.Namespace) -> int:
    _check(options)
    bundle = find_bundle(options.codec)
    samples = recording_samples(bundle) if options.recording else image_samples(options.paths, bundle)
    tally, status = Tally(time.monotonic), _StatusLine(options.status_every)
    with ExitStack() as open_things:
        feedback = _feedback(options, open_things)
        device = open_things.enter_context(_device(bundle, options))
        stop = open_things.enter_context(StopSignal())
        deliveries = device.stream(
            _sequence(samples, options, stop),
            options.level,
            options.ber_estimate,
            window=options.window,
            rate=options.rate,
        )
        for sample, delivery in deliveries:
            tally.add(sample.label, delivery)
            _give_up_on_silence(tally, delivery)
            if feedback is not None and delivery.answer is not None and sample.label is not None:
                feedback.post(device.number, delivery.answer.sequence, sample.label, codec=bundle.manifest.name)
            if not options.recording:
                print(_image_line(sample, delivery))
            status.show(tally)
    if feedback is not None and feedback.failed:
        print(
            f"warning: {feedback.failed} of {feedback.posted} feedbacks to {feedback.address} failed; the last: {feedback.last_error}",
            file=sys.stderr,
        )
    if not tally.answered and tally.sent:
        raise _silent(tally, delivery.error)
    if tally.sent or stop.error is None:
        _finish(tally, bundle.manifest.name, delivery.request.level if tally.sent else options.level, options)
    if stop.error is not None:
        raise stop.error
    return 0


class StopSignal:
    """Within the context, SIGTERM and SIGINT only ask to stop: what is under way still ends, and the table is printed.

    error: of an image that could not be read, which stops likewise.
    """

    def __init__(self):
        self.requested = False
        self.error: WeaklinkError | None = None

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_) -> None:
        self.requested = True


def _check(options: argparse.Namespace) -> None:
    if bool(options.paths) == options.recording:
        raise ConfigError(
            "there is nothing to send" if not options.paths else "images and --recording are given together",
            allowed="image files and folders, or --recording",
            fix="weaklink send photo.png, or weaklink send --recording",
        )
    for name, value in (("count", options.count), ("rate", options.rate), ("window", options.window)):
        if value is not None and not value > 0:
            raise ConfigError(f"--{name} is {value}", allowed="more than 0", fix="leave it out for no limit")
    if options.key_file is not None and options.transport == "grpc":
        raise InvalidRequest(
            "--key-file is given with grpc",
            allowed="udp and serial: keyed mode is a mode of raw frames",
            fix="leave it out, or choose --transport udp",
        )
    if options.sequence_file is not None and options.key_file is None:
        raise ConfigError("--sequence-file is given alone", allowed="with --key-file", fix="add --key-file, or leave it out")
    if options.baud is not None and options.transport != "serial":
        raise InvalidRequest(
            f"--baud is given with {options.transport}", allowed="serial only", fix="leave it out, or add --transport serial"
        )
    shown = [options.token_file, options.ca, options.certificate, options.certificate_key]
    if options.transport != "grpc" and options.feedback is None and any(shown):
        raise InvalidRequest(
            f"a token or certificate is given with {options.transport}",
            allowed="grpc, or --feedback",
            fix="raw frames authenticate by --key-file",
        )
    if options.ber_estimate is not None and options.transport != "grpc":
        raise InvalidRequest(
            f"--ber-estimate is given with {options.transport}",
            allowed="grpc only: a raw frame has no field for it, the edge measures the BER on the header",
            fix="leave it out, or add --transport grpc",
        )


def _device(bundle: Bundle, options: argparse.Namespace) -> Device:
    return Device(
        bundle,
        options.transport,
        options.to or DEFAULT_ADDRESS[options.transport],
        device=options.device_id,
        timeout_s=DEFAULT_TIMEOUT_S[options.transport] if options.timeout is None else options.timeout,
        retries=options.retries,
        damage=None if options.ber is None else BitFlips(options.ber, options.seed),
        **({} if options.baud is None else {"baud": options.baud}),
        **_settings(options),
    )


def _settings(options: argparse.Namespace) -> dict[str, object]:
    """Of the transport: what it shows of itself, nothing in open mode."""
    if options.transport == "grpc":
        return {"credentials": _credentials(options)}
    if options.key_file is None:
        return {}
    sequences = options.sequence_file or Path(f"{options.key_file}.sequence")
    return {"key": read_key(options.key_file), "sequences": sequences}


def _credentials(options: argparse.Namespace):
    from device_client.credentials import Credentials, read_token  # loads gRPC, which raw frames do without

    token = None if options.token_file is None else read_token(options.token_file)
    return Credentials(token, options.ca, options.certificate, options.certificate_key)


def _feedback(options: argparse.Namespace, open_things: ExitStack):
    if options.feedback is None:
        return None
    from device_client.feedback import Feedback

    return open_things.enter_context(closing(Feedback(options.feedback, credentials=_credentials(options))))


def _sequence(samples: Iterable[Sample], options: argparse.Namespace, stop: StopSignal) -> Iterator[Sample]:
    passes = itertools.repeat(samples) if options.loop else [samples]
    try:
        for sample in itertools.islice(itertools.chain.from_iterable(passes), options.count):
            if stop.requested:
                return
            yield sample
    except WeaklinkError as error:
        stop.error = error


def _give_up_on_silence(tally: Tally, delivery: Delivery) -> None:
    """Raises where nothing was ever answered: refused outright, or silent for too long."""
    if tally.answered or delivery.error is None:
        return
    if not isinstance(delivery.error, PASSING):
        raise delivery.error
    if tally.sent >= SILENT_BEFORE_GIVING_UP:
        raise _silent(tally, delivery.error)


def _silent(tally: Tally, error: WeaklinkError) -> WeaklinkError:
    return type(error)(f"none of the first {tally.sent} images was answered: {error.problem}", allowed=error.allowed, fix=error.fix)


def _image_line(sample: Sample, delivery: Delivery) -> str:
    if delivery.answer is None:
        return f"{sample.name}: no answer ({delivery.error.problem})"
    return f"{sample.name}: {delivery.answer.label} {100 * delivery.answer.confidence:.1f} %"


class _StatusLine:
    """One line on stderr every so many seconds."""

    def __init__(self, every_s: float):
        self._every_s, self._next = every_s, time.monotonic() + every_s

    def show(self, tally: Tally) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every_s
        row = tally.row()
        parts = [f"{row['images']} sent, {row['lost']} lost"]
        if row["accuracy_percent"] is not None:
            parts.append(f"accuracy {row['accuracy_percent']:.2f} %")
        if row["latency_p50_ms"] is not None:
            parts.append(f"p50 {row['latency_p50_ms']:.1f} ms, p99 {row['latency_p99_ms']:.1f} ms")
        print(", ".join([*parts, f"{row['requests_per_s']:.0f}/s"]), file=sys.stderr, flush=True)


def _finish(tally: Tally, codec: str, level: int | None, options: argparse.Namespace) -> None:
    measured = tally.row()
    row = {"codec": codec, "transport": options.transport, "level": level, "ber": options.ber, **measured}
    shown = {key: value for key, value in row.items() if value is not None}
    print_table([shown])
    for name, count in tally.errors.items():
        print(f"{count} x {name}")
    if options.json:
        write_json(options.json, [row], options.seed)


if __name__ == "__main__":
    sys.exit(main())
