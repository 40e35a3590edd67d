"""``weaklink bench serial``: frames found on a noisy serial line, and frames found in noise that are none.

Every line is made, damaged and searched by the code that serves: `encode_frame`, `SerialReceiver`, the edge's readers.
Two codecs are served, of 2, 4, 8 and of 8, 16, 32 bytes; frames of the second come in turn of its levels, with up to 20
random bytes between them. Rates are per second of processor time, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frames import LARGE, SMALL
from channel_emulator.channels import Channel, Transmission, create_channel
from edge_server.gateway import Readers
from semantic_codec.frame import FrameResult, encode_frame
from semantic_codec.header import Header
from semantic_codec.keyed import DeviceKey, KeyedHeader
from semantic_codec.keyed_frame import encode_keyed_frame
from semantic_codec.report import print_table, results_file, write_json
from semantic_codec.serial_framing import SYNC, SYNC_ERRORS, SerialReceiver, add_sync

SEED = 21
RESULTS = Path(__file__).parent / "results" / "serial.json"
DEVICE = 7
KEYS = {DEVICE: DeviceKey(bytes(range(32)))}
BERS = (0.0, 1e-2, 5e-2, 0.1)
SYNC_RANGE = (4, 5, 6)
BYTE_RATE = 1e-3
GAP_BYTES = 20
CHUNK = 500  # frames made at a time
NOISE_CHUNK = 100_000

Damage = Callable[[bytes], bytes]


def readers(mode: str) -> Readers:
    keyed = mode == "keyed"
    return Readers([SMALL, LARGE], KEYS if keyed else None, open_frames=not keyed, cut_frames=False)


def frame(mode: str, sequence: int, rng: np.random.Generator) -> bytes:
    level = sequence % len(LARGE.payload_bytes)
    payload = rng.bytes(LARGE.payload_bytes[level])
    if mode == "keyed":
        header = KeyedHeader(LARGE.codec_id, level, DEVICE, sequence)
        return encode_keyed_frame(header, payload, KEYS[DEVICE], LARGE.encoder_hash)
    return encode_frame(Header(LARGE.codec_id, level, DEVICE, sequence % 4096), payload, LARGE.encoder_hash)


def channel(name: str, rng: np.random.Generator, **settings: float) -> Damage:
    """A channel of the link emulator, as a function of bytes."""
    made: Channel = create_channel(name, **settings)
    made.start(rng)
    return lambda data: b"".join(each.data for each in made.carry(Transmission(data, 0.0)))


def search(
    mode: str, frames: int, sync_errors: int, damage: Sequence[Damage], rng: np.random.Generator
) -> dict[str, Any]:
    """Frames found on a line; those with lost or added bytes count as sent, too.

    wrong_frames: accepted, though nothing like it was sent. refused: answered or counted as damaged or of another
    encoder, not as a frame: the nearest header is one, and its check fails.
    """
    receiver = SerialReceiver(readers(mode).sizes, readers(mode).find, sync_errors)
    found = wrong = refused = 0
    seconds = 0.0
    modulus = 1 << (28 if mode == "keyed" else 12)
    due: set[int] = set()
    for first in range(0, frames, CHUNK):
        sequences = range(first, min(frames, first + CHUNK))
        pieces = [rng.bytes(int(rng.integers(GAP_BYTES + 1))) + add_sync(frame(mode, each, rng)) for each in sequences]
        line = b"".join(pieces)
        for one in damage:
            line = one(line)
        started = time.process_time()
        results = receiver.feed(line)
        seconds += time.process_time() - started
        # The last frame of the chunk before, where it lost a byte, ends in this one.
        due = due & {(first - 1) % modulus} | {each % modulus for each in sequences}
        for result in results:
            if result.outcome != "ok":
                refused += 1
            elif right(result) and result.header.sequence in due:
                due.remove(result.header.sequence)
                found += 1
            else:
                wrong += 1
    return {
        "frames": frames,
        "found_percent": 100 * found / frames,
        "wrong_frames": wrong,
        "refused": refused,
        "bytes_per_s": receiver.counts.received / seconds,
    }


def right(result: FrameResult) -> bool:
    return result.header.device == DEVICE and result.codec == LARGE


def found_rows(frames: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for mode in ("open", "keyed"):
        for ber in BERS:
            for sync_errors in SYNC_RANGE if ber == 5e-2 else (SYNC_ERRORS,):
                damage = [channel("bsc", rng, ber=ber)]
                row = {"measurement": "found", "mode": mode, "channel": "bsc", "ber": ber, "sync_errors": sync_errors}
                rows.append(row | search(mode, frames, sync_errors, damage, rng))
    return rows


def slip_rows(frames: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Lost and added bytes: each costs at most the frame that it falls in."""
    rows = []
    mean_bytes = len(SYNC) + GAP_BYTES / 2 + np.mean(LARGE.payload_bytes)
    for mode, header in (("open", 18), ("keyed", 28)):
        for name in ("byte_loss", "byte_insertion"):
            damage = [channel("bsc", rng, ber=1e-2), channel(name, rng, probability=BYTE_RATE)]
            # One that falls into the gap before a frame costs nothing.
            untouched = (1 - BYTE_RATE) ** (mean_bytes - GAP_BYTES / 2 + header)
            rows.append(
                {"measurement": "slips", "mode": mode, "channel": name, "ber": 1e-2, "byte_rate": BYTE_RATE}
                | search(mode, frames, SYNC_ERRORS, damage, rng)
                | {"untouched_percent": 100 * untouched}
            )
    return rows


def noise_rows(noise_bytes: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Random bytes: what is taken for a frame, or refused as one."""
    rows = []
    for mode in ("open", "keyed"):
        for sync_errors in SYNC_RANGE:
            receiver = SerialReceiver(readers(mode).sizes, readers(mode).find, sync_errors)
            outcomes: dict[str, int] = {}
            seconds = 0.0
            for first in range(0, noise_bytes, NOISE_CHUNK):
                data = rng.bytes(min(NOISE_CHUNK, noise_bytes - first))
                started = time.process_time()
                results = receiver.feed(data)
                seconds += time.process_time() - started
                for result in results:
                    outcomes[result.outcome] = outcomes.get(result.outcome, 0) + 1
            false = outcomes.pop("ok", 0)
            rows.append(
                {
                    "measurement": "noise",
                    "mode": mode,
                    "channel": "random bytes",
                    "ber": 0.5,
                    "sync_errors": sync_errors,
                    "noise_bytes": noise_bytes,
                    "sync_words": receiver.counts.sync_words,
                    "false_frames": false,
                    "false_frames_per_million_bytes": 1e6 * false / noise_bytes,
                    "false_refusals": sum(outcomes.values()),
                    "bytes_per_s": noise_bytes / seconds,
                }
            )
    return rows


COLUMNS = {
    "found": ("mode", "ber", "sync_errors", "frames", "found_percent", "wrong_frames", "refused", "bytes_per_s"),
    "slips": (
        "mode", "channel", "byte_rate", "frames", "found_percent", "untouched_percent", "wrong_frames", "refused",
    ),
    "noise": ("mode", "sync_errors", "noise_bytes", "sync_words", "false_frames", "false_refusals", "bytes_per_s"),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench serial", description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=20_000, help="frames per point (default %(default)s)")
    parser.add_argument(
        "--noise-bytes", type=int, default=10_000_000, help="random bytes per point (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of payloads and damage (default %(default)s)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help=f"also write the rows, as in results/{RESULTS.name}")
    options = parser.parse_args(argv)
    for name in ("frames", "noise_bytes"):
        if getattr(options, name) < 1:
            flag, value = "--" + name.replace("_", "-"), getattr(options, name)
            parser.error(f"{flag} is {value}; allowed: 1 or more; fix: leave it out")
    rng = np.random.default_rng(options.seed)
    rows = found_rows(options.frames, rng) + slip_rows(options.frames, rng) + noise_rows(options.noise_bytes, rng)
    for name, columns in COLUMNS.items():
        print(f"\n{name}")
        print_table([row for row in rows if row["measurement"] == name], columns)
    if options.json:
        write_json(options.json, rows, options.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
