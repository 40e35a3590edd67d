"""``weaklink bench frames``: header loss over BER and bursts, false accepts, decoding speed, the BER estimate.

Every frame is made, damaged bit by bit and read back by the code that serves: `encode_frame`'s code, `FrameReader`,
`BerEstimator`. The reader serves two codecs, of 2, 4, 8 and of 8, 16, 32 bytes. Rates are per second of processor time,
so that other work on the machine does not count; the time of a lone frame is by the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semantic_codec.ber import BerEstimator
from semantic_codec.frame import HEADER_BITS, HEADER_BYTES, LIST_SIZE, FrameReader, FrameResult, WireCodec
from semantic_codec.frame_format import Layout
from semantic_codec.header import Header, pack_header
from semantic_codec.header_code import HeaderCode, open_code
from semantic_codec.interleave import contiguous_layout, spread_layout
from semantic_codec.report import print_table, results_file, write_json

SEED = 20
RESULTS = Path(__file__).parent / "results" / "frames.json"
SMALL = WireCodec(1, bytes(range(32)), (2, 4, 8))
LARGE = WireCodec(2, bytes(range(32, 64)), (8, 16, 32))
BERS = (1e-3, 1e-2, 5e-2, 0.1, 0.15, 0.2)
BURST_BITS, BURST_BER = 16, 1e-2
# The best generators of each size for rate 1/3 (Lin and Costello, table 12.1), highest bit newest.
GENERATORS = {9: (0o557, 0o663, 0o711), 10: (0o1117, 0o1365, 0o1633), 11: (0o2353, 0o2671, 0o3175)}
CHUNK = 2000

Damage = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def flips(ber: float) -> Damage:
    """Independent bit errors."""
    return lambda rng, shape: rng.random(shape) < ber


def bursts(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Gilbert-Elliott in netem's words `gemodel p r 1-h=0.5 1-k=0`: bursts of 1/r = 16 bits at 0.5, mean BER 1e-2."""
    leave = 1 / BURST_BITS
    share = 2 * BURST_BER
    enter = leave * share / (1 - share)
    bad = rng.random(shape[0]) < share
    errors = np.empty(shape, dtype=bool)
    for place in range(shape[1]):
        errors[:, place] = bad & (rng.random(shape[0]) < 0.5)
        bad = np.where(bad, rng.random(shape[0]) >= leave, rng.random(shape[0]) < enter)
    return errors


def make_frames(
    rng: np.random.Generator, count: int, level: int, layout: Layout = spread_layout
) -> tuple[list[Header], np.ndarray]:
    """Headers of the large codec at one level, and their frames' bits uint8 (count, bits) in the order on the air."""
    headers = [
        Header(LARGE.codec_id, level, int(device), int(sequence))
        for device, sequence in zip(rng.integers(1 << 16, size=count), rng.integers(1 << 12, size=count), strict=True)
    ]
    blocks = np.frombuffer(b"".join(pack_header(h, LARGE.encoder_hash) for h in headers), dtype=np.uint8)
    coded = open_code().encode(np.unpackbits(blocks.reshape(count, 7), axis=1))
    payload = rng.integers(2, size=(count, 8 * LARGE.payload_bytes[level]), dtype=np.uint8)
    return headers, np.concatenate([coded, payload], axis=1)[:, layout(HEADER_BITS, payload.shape[1])]


def to_frames(bits: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in np.packbits(bits, axis=1)]


def header_loss(frames: int, rng: np.random.Generator, level: int, damage: Damage, layout: Layout) -> dict[str, Any]:
    """Headers read, lost and taken wrongly among `frames`; time is that of the reader alone."""
    reader = FrameReader([SMALL, LARGE], layout)
    good = wrong = told = damaged = 0
    seconds = 0.0
    for first in range(0, frames, CHUNK):
        headers, bits = make_frames(rng, min(CHUNK, frames - first), level, layout)
        errors = damage(rng, bits.shape)
        is_header = layout(HEADER_BITS, bits.shape[1] - HEADER_BITS) < HEADER_BITS
        damaged += int(np.count_nonzero(errors[:, is_header].any(1)))
        received = to_frames(bits ^ errors)
        started = time.process_time()
        results = reader.read(received)
        seconds += time.process_time() - started
        for header, result in zip(headers, results, strict=True):
            good += result.outcome == "ok" and result.header == header
            wrong += result.outcome == "ok" and result.header != header
            told += result.outcome not in ("ok", "bad_header")
    return {
        "frame_bytes": HEADER_BYTES + LARGE.payload_bytes[level],
        "frames": frames,
        "header_read_percent": 100 * good / frames,
        "damaged_headers": damaged,
        "wrong_headers": wrong,
        "false_refusals": told,
        "frames_per_s": frames / seconds,
    }


def loss_rows(frames: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Independent errors on the shortest frame, which both codecs may have sent: the hardest to tell apart."""
    return [
        {"measurement": "header", "channel": "bsc", "ber": ber, "layout": "spread"}
        | header_loss(frames, rng, 0, flips(ber), spread_layout)
        for ber in BERS
    ]


def burst_rows(frames: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Bursts, beside the layout that sends the header first."""
    return [
        {"measurement": "header", "channel": "gilbert-elliott", "ber": BURST_BER, "layout": name}
        | header_loss(frames, rng, level, bursts, layout)
        for level in range(len(LARGE.payload_bytes))
        for name, layout in (("spread", spread_layout), ("contiguous", contiguous_layout))
    ]


def noise_rows(frames: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Frames of pure noise, of each size: what is taken for a good one."""
    reader = FrameReader([SMALL, LARGE])
    rows = []
    for size in LARGE.payload_bytes:
        outcomes: dict[str, int] = {}
        for first in range(0, frames, CHUNK):
            shape = (min(CHUNK, frames - first), 8 * (HEADER_BYTES + size))
            for result in reader.read(to_frames(rng.integers(2, size=shape, dtype=np.uint8))):
                outcomes[result.outcome] = outcomes.get(result.outcome, 0) + 1
        rows.append(
            {
                "measurement": "noise",
                "channel": "random bits",
                "ber": 0.5,
                "frame_bytes": HEADER_BYTES + size,
                "frames": frames,
                "damaged_headers": frames,
                "wrong_headers": outcomes.pop("ok", 0),
                "false_refusals": sum(outcomes.values()) - outcomes.get("bad_header", 0),
            }
        )
    return rows


def code_rows(frames: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """What the constraint length, the known prefix and the list each bring, at BER 0.1, on the header alone."""
    rows = []
    for length, generators in GENERATORS.items():
        code = HeaderCode(56, 144, generators)
        for decoder in ("known prefix", "nothing known"):
            first_right = listed = 0
            seconds = 0.0
            for start in range(0, frames, CHUNK):
                info = rng.integers(2, size=(min(CHUNK, frames - start), 56), dtype=np.uint8)
                coded = code.encode(info)
                soft = 2.0 * (coded ^ (rng.random(coded.shape) < 0.1)) - 1
                known = np.where(np.arange(56) < 12, info, -1).astype(np.int8)
                started = time.process_time()
                if decoder == "known prefix":
                    found, _ = code.decode_known(soft, known, LIST_SIZE)
                else:
                    found, _ = code.decode(soft, LIST_SIZE)
                seconds += time.process_time() - started
                right = (found == info[:, None]).all(2)
                first_right += int(right[:, 0].sum())
                listed += int(right.any(1).sum())
            rows.append(
                {
                    "measurement": "code",
                    "channel": "bsc",
                    "ber": 0.1,
                    "constraint_length": length,
                    "decoder": decoder,
                    "frames": frames,
                    "best_path_right_percent": 100 * first_right / frames,
                    "right_within_list_percent": 100 * listed / frames,
                    "frames_per_s": frames / seconds,
                }
            )
    return rows


def speed_rows(frames: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Frames of 26 bytes, all damaged, at BER 0.1: in batches and one at a time, compiled and not."""
    _, bits = make_frames(rng, min(frames, CHUNK), 0)
    received = to_frames(bits ^ flips(0.1)(rng, bits.shape))
    rows = []
    for kernels, use_compiled in (("numba", True), ("NumPy", False)):
        reader = FrameReader([SMALL, LARGE], code=open_code(use_compiled))
        started = time.process_time()
        reader.read(received)
        batch = time.process_time() - started
        alone = []
        for frame in received[:500]:
            started = time.perf_counter()
            reader.read([frame])
            alone.append(1e3 * (time.perf_counter() - started))
        rows.append(
            {
                "measurement": "speed",
                "ber": 0.1,
                "kernels": kernels,
                "frame_bytes": 26,
                "frames_per_s": len(received) / batch,
                "lone_p50_ms": float(np.median(alone)),
                "lone_p99_ms": float(np.quantile(alone, 0.99)),
            }
        )
    return rows


def estimates(results: Sequence[FrameResult], estimator: BerEstimator) -> list[float]:
    """The estimate after each frame; the device is known, so lost headers count."""
    means = []
    for result in results:
        if result.outcome == "ok":
            estimator.update(result.pilot_errors, result.pilot_bits)
        else:
            estimator.failure()
        means.append(estimator.mean)
    return means


def estimate_rows(links: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The estimate after 32 frames at one BER, and how soon it is half-way after a step of BER."""
    reader = FrameReader([SMALL, LARGE])

    def run(bers: np.ndarray) -> np.ndarray:
        """Estimates (links, len(bers)) of links whose frame i is sent at bers[i]."""
        means = []
        for _ in range(links):
            _, bits = make_frames(rng, len(bers), 0)
            damaged = bits ^ (rng.random(bits.shape) < bers[:, None])
            means.append(estimates(reader.read(to_frames(damaged)), BerEstimator()))
        return np.array(means)

    rows = []
    for ber in (0.0, 1e-3, 1e-2, 2e-2, 5e-2, 0.1):
        last = run(np.full(32, ber))[:, -1]
        row = {"measurement": "estimate", "ber": ber, "links": links, "estimate_mean": last.mean()}
        if ber:
            row |= {"bias_percent": 100 * (last.mean() / ber - 1), "spread_percent": 100 * last.std() / ber}
        rows.append(row)
    for before, after in ((1e-3, 1e-2), (1e-2, 0.1), (1e-3, 0.1), (0.1, 1e-2)):
        path = run(np.concatenate([np.full(64, before), np.full(48, after)])).mean(0)
        half = (before + after) / 2
        beyond = path[64:] >= half if after > before else path[64:] <= half
        rows.append(
            {
                "measurement": "estimate step",
                "ber_before": before,
                "ber": after,
                "links": links,
                "half_way_frames": int(np.argmax(beyond)) + 1 if beyond.any() else None,
            }
        )
    return rows


COLUMNS = {
    "header": ("channel", "ber", "frame_bytes", "layout", "header_read_percent", "wrong_headers", "frames_per_s"),
    "noise": ("frame_bytes", "frames", "wrong_headers", "false_refusals"),
    "code": ("constraint_length", "decoder", "best_path_right_percent", "right_within_list_percent", "frames_per_s"),
    "speed": ("kernels", "frames_per_s", "lone_p50_ms", "lone_p99_ms"),
    "estimate": ("ber", "estimate_mean", "bias_percent", "spread_percent"),
    "estimate step": ("ber_before", "ber", "half_way_frames"),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench frames", description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=100_000, help="frames per point (default %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of payloads and damage (default %(default)s)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help=f"also write the rows, as in results/{RESULTS.name}")
    options = parser.parse_args(argv)
    if options.frames < 1:
        parser.error(f"--frames is {options.frames}; allowed: 1 or more; fix: leave it out for 100000")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}; allowed: 0 or more; fix: leave it out for {SEED}")
    rng = np.random.default_rng(options.seed)
    links = max(1, min(400, options.frames // 100))
    rows: list[dict[str, Any]] = []
    for measure in (loss_rows, burst_rows, noise_rows, code_rows, speed_rows):
        rows += measure(options.frames, rng)
    rows += estimate_rows(links, rng)
    for name, columns in COLUMNS.items():
        print(f"\n{name}")
        print_table([row for row in rows if row["measurement"] == name], columns)
    if options.json:
        write_json(options.json, rows, options.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
