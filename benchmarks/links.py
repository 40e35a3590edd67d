"""Accuracy of a recording sent as real frames through whole links: with the true BER, the edge's estimate, or none.

    recording -> encode_frame -> flips over header and payload -> FrameReader -> BerEstimator -> engine

One device sends all frames in order, and its estimate follows them as it does in the gateway: each frame is decoded with
what the frames up to and including it have shown. A frame whose header is lost counts as wrong.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from channel_emulator.channels import create_channel
from codec_training.statistics import interval_percent, paired_interval_percent
from edge_server.engine import Engine
from semantic_codec.ber import BerEstimator
from semantic_codec.bitstream import unpack_bits
from semantic_codec.bundle import Bundle, find_bundle, load_recording
from semantic_codec.frame import FrameReader, FrameResult, WireCodec, encode_frame
from semantic_codec.header import Header
from semantic_codec.report import print_table, results_file, write_json

# netem's words: P(good to bad), P(bad to good), flips in the bad state; bursts of 16 bits on average.
LINKS: dict[str, dict[str, Any]] = {
    **{f"bsc {ber:g}": {"name": "bsc", "ber": ber} for ber in (0.0, 1e-3, 1e-2, 3e-2, 5e-2, 0.1)},
    "bursts, mean 1e-2": {"name": "gilbert_elliott", "p": 0.02 / 0.98 / 16, "r": 1 / 16, "one_minus_h": 0.5, "one_minus_k": 0},
    "bursts, mean 5e-2": {"name": "gilbert_elliott", "p": 0.1 / 0.9 / 16, "r": 1 / 16, "one_minus_h": 0.5, "one_minus_k": 0},
}
COLUMNS = {
    "link": "link",
    "on_air_bytes": "on air B",
    "true_ber": "true BER",
    "estimated_ber": "estimated",
    "ber_source": "decoder told",
    "accuracy_percent": "accuracy %",
    "accuracy_answered_percent": "of answered %",
    "loss_percent": "vs true BER",
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench links", description=__doc__.split("\n")[0])
    parser.add_argument("--codec", default="cifar10", help="bundle with a recording (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the flips (default: %(default)s)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the table as JSON")
    arguments = parser.parse_args(argv)
    bundle = find_bundle(arguments.codec)
    rows = [row for link in LINKS for row in measure(bundle, link, arguments.seed)]
    print_table(rows, COLUMNS)
    if arguments.json:
        write_json(arguments.json, rows, arguments.seed)
    return 0


def measure(bundle: Bundle, link: str, seed: int) -> list[dict[str, Any]]:
    """Rows for the true BER, the estimate and the blind prior, on the same frames and flips."""
    manifest, recording = bundle.manifest, load_recording(bundle)
    level = manifest.levels[-1]
    codec = WireCodec(manifest.codec_id, bundle.encoder_hash, tuple(entry.payload_bytes for entry in manifest.levels))
    sent = np.stack(
        [
            np.frombuffer(encode_frame(Header(codec.codec_id, level.number, 1, index % 4096), row.tobytes(), bundle.encoder_hash), np.uint8)
            for index, row in enumerate(recording.bitstreams)
        ]
    )
    settings = dict(LINKS[link])
    channel = create_channel(settings.pop("name"), **settings)
    flips = np.packbits(channel.flip_mask(len(sent), 8 * sent.shape[1], np.random.default_rng(seed)), axis=1)
    results = FrameReader([codec]).read([row.tobytes() for row in sent ^ flips])
    true_ber = float(np.unpackbits(flips).mean())
    estimates = follow(results)
    received = np.zeros_like(recording.bitstreams)
    answered = np.array([result.outcome == "ok" for result in results])
    received[answered] = [np.frombuffer(result.payload, np.uint8) for result in results if result.outcome == "ok"]
    bits, levels = unpack_bits(received, manifest.bits), np.full(len(sent), level.number)
    engine, task = Engine([bundle]), manifest.tasks[0].name
    right = {}
    for source, ber in (
        ("true", np.full(len(sent), true_ber)),
        ("estimated", estimates),
        ("prior", np.full(len(sent), manifest.blind_ber)),
    ):
        probabilities = engine.infer_arrays(manifest.name, bits, levels, ber.astype(np.float32))[task]
        right[source] = ((probabilities.argmax(1) == recording.labels) & answered)[None]
    return [
        {
            "link": link,
            "payload_bytes": level.payload_bytes,
            "on_air_bytes": sent.shape[1],
            "true_ber": true_ber,
            "estimated_ber": float(estimates.mean()),
            "ber_source": source,
            "accuracy_percent": float(100 * hits.mean()),
            "interval_percent": interval_percent(hits),
            "accuracy_answered_percent": float(100 * hits.sum() / max(1, answered.sum())),
            "header_loss_percent": float(100 * (1 - answered.mean())),
            "loss_percent": float(100 * (right["true"].mean() - hits.mean())),
            "loss_interval_percent": list(paired_interval_percent(right["true"], hits)),
            "images": len(sent),
        }
        for source, hits in right.items()
    ]


def follow(results: list[FrameResult]) -> np.ndarray:
    """The gateway's estimate for one device after each frame, float (N,)."""
    estimator, estimates = BerEstimator(), []
    for result in results:
        if result.outcome == "ok":
            estimator.update(result.pilot_errors, result.pilot_bits)
        else:
            estimator.failure()
        estimates.append(estimator.mean)
    return np.asarray(estimates)


if __name__ == "__main__":
    raise SystemExit(main())
