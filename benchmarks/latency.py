"""``weaklink bench latency``: time to answer and transmit energy per image, offloaded our way, as an image, or not at all.

    ours     encode on the device, one raw frame that may be damaged, the edge's reply; again only where no reply comes
    raw      the image's own bytes, and
    JPEG     its file, both with a CRC and repeated packet by packet until whole, in packets of the best size for the BER
    local    a network of as many MACs as our encoder on the device, and nothing on the air

What is measured: the encoder's instructions (emulated), header and reply loss (real frames through the real decoders),
the edge's processor time (FrameReader and Engine.infer, one image at a time), JPEG sizes (Pillow). What is computed: air times
(semantic_codec/airtime.py), and retransmissions, drawn for every packet of every image.
In favour of the rivals: no time for JPEG encoding, for the edge's network on their image, or for a lost reply.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency_tables import markdown, rewrite
from benchmarks.transfers import REPLY_BYTES, Delivery, best_packets, jpeg_bytes, send_once, send_whole
from codec_training.datasets import data_folder, load_dataset
from edge_server.engine import Engine, EngineRequest
from semantic_codec.airtime import Link, find_link
from semantic_codec.boards import Board, find_board, read_measurement
from semantic_codec.bundle import Bundle, Level, find_bundle, load_recording
from semantic_codec.errors import ConfigError
from semantic_codec.frame import HEADER_BYTES, FrameReader, WireCodec, encode_frame
from semantic_codec.header import Header
from semantic_codec.reply import Reply, encode_reply, read_reply
from semantic_codec.report import read_rows, results_file, write_json

LINKS = ("lora-sf7", "lora-sf9", "lora-sf12", "802154", "ble-1m", "wifi-6m")
BERS = (0.0, 1e-3, 1e-2, 3e-2, 5e-2, 0.1)
LOCAL = Path(__file__).parent / "results" / "local.json"
"""What ``codec_training.local`` writes: accuracy of networks on the device, of as many multiply-accumulates as our encoders."""

DEVICE = 1


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink bench latency", description=__doc__.split("\n\n")[0])
    parser.add_argument("--codec", default="cifar10", help="bundle with a recording (default: %(default)s)")
    parser.add_argument("--board", default="stm32f405", help="where the encoder runs (default: %(default)s)")
    parser.add_argument("--links", nargs="+", default=list(LINKS), metavar="LINK", help="default: %(default)s")
    parser.add_argument("--images", type=int, default=2000, help="images drawn per cell (default: %(default)s)")
    parser.add_argument("--edge-runs", type=int, default=200, help="timed answers of the edge per cell (default: %(default)s)")
    parser.add_argument("--attempts", type=int, default=100, help="tries per packet before giving up (default: %(default)s)")
    parser.add_argument("--quality", type=int, default=75, help="of the JPEG files (default: %(default)s, Pillow's own)")
    parser.add_argument("--transmit-ma", nargs="+", default=[], metavar="PART=MA", help="current of a radio while it sends, instead of that in semantic_codec/airtime.py: SX1276=29")
    parser.add_argument("--run-ma", type=float, help="current of the board while it computes, instead of that in semantic_codec/boards.py")
    parser.add_argument("--instructions", type=int, help="of one encoding, instead of the measured ones")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="also write the rows here")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="renew the tables between the marks of this page")
    options = parser.parse_args(argv)
    if min(options.images, options.edge_runs, options.attempts) < 1 or options.instructions == 0 or not 1 <= options.quality <= 95:
        raise ConfigError(
            f"images {options.images}, edge runs {options.edge_runs}, attempts {options.attempts}, quality {options.quality}",
            allowed="at least 1 of each, quality 1 to 95", fix="change what is outside",
        )  # fmt: skip
    bundle, board, links = find_bundle(options.codec), find_board(options.board), [find_link(name) for name in options.links]
    if options.run_ma is not None:
        board = replace(board, run_ma=options.run_ma)
    instructions = options.instructions or read_measurement(bundle, board.core).instructions
    files = jpeg_sizes(bundle.manifest.training.get("data_set", ""), options.data, options.quality, options.images)
    bench = Bench(
        bundle, board, instructions, files, options.quality, options.images, options.attempts, options.seed,
        currents(options.transmit_ma, links), local_accuracy(bundle),
    )  # fmt: skip
    answers = measure_answers(bundle, BERS, options.images, options.edge_runs, options.seed)
    rows = [row for link in links for ber in BERS for row in bench.rows(link, ber, answers)]
    text = markdown(rows)
    print(text)
    if options.json:
        write_json(options.json, rows, options.seed)
    if options.docs:
        rewrite(options.docs, text)
    return 0


def currents(given: list[str], links: list[Link]) -> dict[str, float]:
    """mA by radio part of "PART=MA". ConfigError: anything else, or a part that none of the links has."""
    parts = sorted({link.radio.part for link in links if link.radio})
    found = {}
    for each in given:
        part, _, milliamperes = each.partition("=")
        try:
            found[part] = float(milliamperes)
        except ValueError:
            found[part] = -1.0
        if part not in parts or not found[part] > 0:
            raise ConfigError(f"--transmit-ma is {each}", allowed=f"PART=MA, of {', '.join(parts)}", fix="give SX1276=29")
    return found


def local_accuracy(bundle: Bundle, path: Path = LOCAL) -> float | None:
    """Percent, of the bundle's encoder with the probe behind it; None where nobody measured that."""
    return next((row["accuracy_percent"] for row in read_rows(path) if row["encoder_hash"] == bundle.encoder_hash.hex()), None)


@dataclass(frozen=True)
class Answers:
    """What one level got at one BER. answered: share of frames that were read and whose reply was read; edge_s: (runs,)."""

    answered: float
    edge_s: np.ndarray


def measure_answers(
    bundle: Bundle, bers: tuple[float, ...], frames: int, runs: int, seed: int
) -> dict[tuple[int, float], Answers]:
    """Real frames and replies with flips, by level number and BER; the edge's seconds with one frame at a time."""
    manifest, recording = bundle.manifest, load_recording(bundle)
    codec = WireCodec(manifest.codec_id, bundle.encoder_hash, tuple(level.payload_bytes for level in manifest.levels))
    reader, engine, rng = FrameReader([codec]), Engine([bundle]), np.random.default_rng(seed)
    found, replied = {}, {ber: _reply_share(min(frames, 500), ber, rng) for ber in bers}
    for level in manifest.levels:
        payloads = np.resize(recording.bitstreams, (frames, recording.bitstreams.shape[1]))[:, : level.payload_bytes]
        sent = [
            encode_frame(Header(codec.codec_id, level.number, DEVICE, index % 4096), payload.tobytes(), bundle.encoder_hash)
            for index, payload in enumerate(payloads)
        ]
        for ber in bers:
            received = flip(sent, ber, rng)
            read = np.mean([result.outcome == "ok" for result in reader.read(received)])
            edge_s = _edge_seconds(received[:runs], reader, engine, bundle, level, ber)
            found[level.number, ber] = Answers(float(read * replied[ber]), edge_s)
    return found


def flip(frames: list[bytes], ber: float, rng: np.random.Generator) -> list[bytes]:
    """Frames of one length with independent bit errors."""
    data = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), -1)
    return [row.tobytes() for row in data ^ np.packbits(rng.random((len(data), 8 * data.shape[1])) < ber, axis=1)]


def _reply_share(count: int, ber: float, rng: np.random.Generator) -> float:
    replies = flip([encode_reply(Reply(index % 4096, 3, 0.9), DEVICE) for index in range(count)], ber, rng)
    return float(np.mean([read_reply(reply, DEVICE, [index % 4096]) is not None for index, reply in enumerate(replies)]))


def _edge_seconds(
    frames: list[bytes], reader: FrameReader, engine: Engine, bundle: Bundle, level: Level, ber: float
) -> np.ndarray:
    """Processor seconds from each frame to its answer, all threads; frames that cannot be read take no part.

    Not the wall clock's: other work on the machine would then be the larger part of these few milliseconds.
    """
    seconds, warm_up = [], 3
    for index, frame in enumerate(frames[:warm_up] + frames):
        start = time.process_time()
        result = reader.read([frame])[0]
        if result.outcome == "ok":
            engine.infer([EngineRequest(bundle.manifest.name, 0, level.number, result.payload, ber)])
            if index >= warm_up:
                seconds.append(time.process_time() - start)
    return np.array(seconds or [0.0])


def jpeg_sizes(data_set: str, folder: str | os.PathLike | None, quality: int, count: int) -> np.ndarray | None:
    """File and abbreviated bytes of the first `count` test images, int (N, 2); None where the data set is not at hand."""
    kept_as = {"cifar10": ("cifar10_test.npz", "cifar-10-batches-py"), "cifar100": ("cifar100_test.npz", "cifar-100-python")}
    if data_set != "digits" and not any((data_folder(folder) / name).exists() for name in kept_as.get(data_set, ())):
        return None  # loading it would download it
    return np.array([jpeg_bytes(image, quality) for image in load_dataset(data_set, folder).test.images[:count]])


@dataclass(frozen=True)
class Bench:
    """The rows of one cell: a link at a BER. instructions: of one encoding, None if not measured; files: `jpeg_sizes`."""

    bundle: Bundle
    board: Board
    instructions: int | None
    files: np.ndarray | None
    quality: int
    images: int
    attempts: int
    seed: int
    transmit_ma: dict[str, float] = field(default_factory=dict)
    local_accuracy_percent: float | None = None

    def rows(self, link: Link, ber: float, answers: dict[tuple[int, float], Answers]) -> list[dict[str, Any]]:
        # The same draws for every link and BER: cells differ by what is asked, not by luck.
        manifest, rng = self.bundle.manifest, np.random.default_rng(self.seed)
        rows = []
        for level in manifest.levels:
            answer, size = answers[level.number, ber], HEADER_BYTES + level.payload_bytes
            edge_s = np.resize(answer.edge_s, self.images)
            delivery = send_once(link, size, answer.answered, edge_s, self.attempts, rng)
            row = self._row(link, ber, f"ours, {level.payload_bytes} B", size, delivery, encodes=True)
            accuracy = [
                entry["accuracy_percent"] for entry in manifest.accuracy if (entry["level"], entry["ber"]) == (level.number, ber)
            ]
            rows.append(row | {
                "answered_at_once_percent": 100 * answer.answered,
                "edge_p50_ms": 1e3 * float(np.median(answer.edge_s)),
                "edge_p99_ms": 1e3 * float(np.quantile(answer.edge_s, 0.99)),
                "accuracy_percent": accuracy[0] if accuracy else None,
            })  # fmt: skip
        raw = np.full(self.images, manifest.height * manifest.width * 3)
        whole: dict[str, np.ndarray | None] = {"raw image": raw}
        for index, way in enumerate((f"JPEG {self.quality}, file", f"JPEG {self.quality}, no tables")):
            whole[way] = None if self.files is None else np.resize(self.files[:, index], self.images)
        for way, sizes in whole.items():
            rows.append(self._send_whole(link, ber, way, sizes, rng))
        return [*rows, self._local(link, ber)]

    def _send_whole(self, link: Link, ber: float, way: str, sizes: np.ndarray | None, rng: np.random.Generator) -> dict[str, Any]:
        if sizes is None:
            return {"link": link.name, "ber": ber, "way": way, "outcome": "not measured"}
        delivery = send_whole(link, sizes, ber, self.attempts, rng)
        reply_s = link.access_s + link.packet_s(REPLY_BYTES)
        delivery = Delivery(delivery.answer_s + reply_s, delivery.on_air_s, delivery.sent_bytes)
        row = self._row(link, ber, way, float(sizes.mean()), delivery, encodes=False)
        return row | {"packet_bytes": float(best_packets(link, sizes, ber).mean()), "accuracy_percent": None}

    def _row(self, link: Link, ber: float, way: str, size: float, delivery: Delivery, encodes: bool) -> dict[str, Any]:
        device_s = self._device_s() if encodes else 0.0
        # Without a measured device, ours is what comes behind the encoder, and `device_ms` says so.
        p50, p99 = (1e3 * float(np.quantile(delivery.answer_s + (device_s or 0.0), q, method="inverted_cdf")) for q in (0.5, 0.99))
        energy_j = link.energy_j(float(delivery.on_air_s.mean()))
        if link.radio and link.radio.part in self.transmit_ma:
            energy_j *= self.transmit_ma[link.radio.part] / link.radio.transmit_ma
        return {
            "link": link.name,
            "ber": ber,
            "way": way,
            "message_bytes": size,
            "outcome": "does not arrive" if np.isinf(p50) else "arrives",
            "arrived_percent": 100 * float(np.isfinite(delivery.answer_s).mean()),
            "latency_p50_ms": p50,
            "latency_p99_ms": p99,
            "device_ms": None if device_s is None else 1e3 * device_s,
            "on_air_bytes": float(delivery.sent_bytes.mean()),
            "on_air_ms": 1e3 * float(delivery.on_air_s.mean()),
            "on_air_energy_mj": None if energy_j is None else 1e3 * energy_j,
            "device_energy_mj": self._device_energy_mj(device_s),
        }

    def _local(self, link: Link, ber: float) -> dict[str, Any]:
        device_s = self._device_s()
        milliseconds = None if device_s is None else 1e3 * device_s
        return {
            "link": link.name, "ber": ber, "way": "local", "message_bytes": 0,
            "outcome": "not measured" if device_s is None else "arrives", "arrived_percent": 100.0,
            "latency_p50_ms": milliseconds, "latency_p99_ms": milliseconds, "device_ms": milliseconds,
            "on_air_bytes": 0.0, "on_air_ms": 0.0, "on_air_energy_mj": 0.0,
            "device_energy_mj": self._device_energy_mj(device_s), "accuracy_percent": self.local_accuracy_percent,
        }  # fmt: skip

    def _device_s(self) -> float | None:
        return None if self.instructions is None else self.board.seconds(self.instructions)

    def _device_energy_mj(self, device_s: float | None) -> float | None:
        energy_j = None if device_s is None else self.board.energy_j(device_s)
        return None if energy_j is None else 1e3 * energy_j


if __name__ == "__main__":
    raise SystemExit(main())
