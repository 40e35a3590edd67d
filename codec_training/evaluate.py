"""``weaklink evaluate BUNDLE ...``: accuracy of whole test splits over BER and level, as a table, a plot and JSON.

The bits come from the bundle's recording, or from a data set through the integer encoder; they are flipped and go
through the same engine that serves. Several bundles see the same images, and those that send as many bits the same flips.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from codec_training.flips import flipped
from codec_training.statistics import calibration_error_percent, interval_percent
from edge_server.engine import Engine
from edge_server.runtimes import DEFAULT_RUNTIME
from semantic_codec.bitstream import pack_symbols, unpack_bits
from semantic_codec.bundle import RECORDING, Bundle, Recording, find_bundle, load_recording
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.errors import ConfigError, NotFound
from semantic_codec.frame import HEADER_BYTES
from semantic_codec.nn.families import encode_in_floats, load_reference_encoder
from semantic_codec.report import print_table, results_file, write_json

BERS = (0.0, 1e-3, 1e-2, 3e-2, 5e-2, 0.1, 0.2)
DRAWS = 3
COLUMNS = {
    "bundle": "bundle",
    "version": "version",
    "payload_bytes": "payload B",
    "on_air_bytes": "on air B",
    "ber": "BER",
    "accuracy_percent": "accuracy %",
    "interval_percent": "+-",
    "calibration_error_percent": "ECE %",
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink evaluate", description=__doc__)
    parser.add_argument("bundle", nargs="+", help="names (cifar10) or folders of bundles; those that send as many bits are compared on the same flips")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--recording", action="store_true", help="the bundle's recording (default where it has one)")
    source.add_argument("--data-set", metavar="NAME", help="cifar10, cifar100, digits or folder:PATH, freshly encoded")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--ber", type=float, nargs="+", default=list(BERS), help="bit error rates (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of flips per point (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the flips (default: %(default)s)")
    parser.add_argument("--runtime", help="engine runtime (default: the one that serves)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the table as JSON")
    parser.add_argument("--plot", type=results_file, metavar="FILE.png", help="draw accuracy against BER")
    arguments = parser.parse_args(argv)
    check_arguments(arguments.ber, arguments.draws, arguments.seed)
    if arguments.plot:
        from codec_training.plots import check_suffix, plot_accuracy

        check_suffix(arguments.plot)
    rows, bundles = [], [find_bundle(name) for name in arguments.bundle]
    if arguments.data_set:
        recordings = [record(bundle, *_test_split(bundle, arguments.data_set, arguments.data)) for bundle in bundles]
    else:
        recordings = _recordings(bundles)
    for bundle, recording, name in zip(bundles, recordings, _names(bundles)):
        measured = evaluate(bundle, recording, arguments.ber, arguments.draws, arguments.seed, arguments.runtime)
        rows += [row | {"bundle": name} for row in measured]
    print_table(rows, COLUMNS)
    if arguments.json:
        write_json(arguments.json, rows, arguments.seed)
    if arguments.plot:
        plot_accuracy(rows, arguments.plot)
    return 0


def check_arguments(bers: Sequence[float], draws: int, seed: int) -> None:
    for ber in bers:
        if not 0 <= ber <= 0.5:
            raise ConfigError(f"--ber is {ber}", allowed="0 to 0.5", fix="give bit error rates, not percent")
    if draws < 1:
        raise ConfigError(f"--draws is {draws}", allowed="1 or more", fix="leave it out for 3")
    if seed < 0:
        raise ConfigError(f"--seed is {seed}", allowed="0 or more", fix="leave it out for 0")


def evaluate(
    bundle: Bundle,
    recording: Recording,
    bers: Sequence[float] = BERS,
    draws: int = DRAWS,
    seed: int = 0,
    runtime: str | None = None,
) -> list[dict[str, Any]]:
    """One row per level and BER, on every image of the recording, for the bundle's first task."""
    manifest = bundle.manifest
    engine = Engine([bundle], runtime or DEFAULT_RUNTIME, threads=os.cpu_count() or 1)
    sent = unpack_bits(recording.bitstreams, manifest.bits)
    rows = []
    for level in manifest.levels:
        for ber in bers:
            right, confidence = correctness(engine, bundle, sent, recording.labels, level.number, ber, draws, seed)
            rows.append(
                {
                    "bundle": manifest.name,
                    "version": manifest.version,
                    "family": manifest.family,
                    "level": level.number,
                    "payload_bytes": level.payload_bytes,
                    "on_air_bytes": level.payload_bytes + HEADER_BYTES,
                    "channel": "bsc",
                    "ber": ber,
                    "accuracy_percent": round(float(100 * right.mean()), 3),
                    "interval_percent": round(interval_percent(right), 3),
                    "calibration_error_percent": round(calibration_error_percent(confidence.ravel(), right.ravel()), 3),
                    "images": len(recording.labels),
                    "draws": len(right),
                }
            )
    return rows


def correctness(
    engine: Engine, bundle: Bundle, sent: np.ndarray, labels: np.ndarray, level: int, ber: float, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which answers are right, bool (draws, N), and their confidence, float32 (draws, N). One draw suffices at BER 0."""
    manifest = bundle.manifest
    levels, rates = np.full(len(sent), level), np.full(len(sent), ber, np.float32)
    rights, confidences = [], []
    for draw in range(draws if ber else 1):
        received = flipped(sent, ber, seed, draw)
        answer = engine.infer_arrays(manifest.name, received, levels, rates, version=manifest.version)
        probabilities = answer[manifest.tasks[0].name]
        rights.append(probabilities.argmax(1) == labels)
        confidences.append(probabilities.max(1))
    return np.stack(rights), np.stack(confidences)


def record(bundle: Bundle, images: np.ndarray, labels: np.ndarray) -> Recording:
    """Encode images with the bundle's integer encoder, or with its reference in floats where it has no other.

    ConfigError: they have another size than the bundle's.
    """
    manifest = bundle.manifest
    if images.shape[1:3] != (manifest.height, manifest.width):
        raise ConfigError(
            f"the images are {images.shape[2]}x{images.shape[1]}", allowed=f"{manifest.width}x{manifest.height}, which {manifest.name} learned on",
            fix="resize them first",
        )  # fmt: skip
    if bundle.runs_on_devices:
        symbols = IntegerEncoder.from_bytes(bundle.encoder_bin).encode(images)
    else:
        symbols = encode_in_floats(load_reference_encoder(bundle), images)
    return Recording(pack_symbols(symbols[:, : manifest.symbols], manifest.bits_per_symbol), labels)


def _names(bundles: Sequence[Bundle]) -> list[str]:
    """What rows call the bundles: their names, with the folder in front where two of a name and version lie in different ones."""

    def named(bundle: Bundle) -> tuple[str, int]:
        return bundle.manifest.name, bundle.manifest.version

    folders = {(*named(bundle), bundle.folder.resolve()) for bundle in bundles}
    shared = Counter((name, version) for name, version, _ in folders)
    return [_path(bundle) if shared[named(bundle)] > 1 else bundle.manifest.name for bundle in bundles]


def _path(bundle: Bundle) -> str:
    """Its folder, less the version, which has a column of its own; so a twin's ends as its name does."""
    folder, manifest = bundle.folder, bundle.manifest
    return str(folder.parent if folder.parts[-2:] == (manifest.name, str(manifest.version)) else folder)


def _recordings(bundles: Sequence[Bundle]) -> list[Recording]:
    """The bundles' own, a twin's that of its codec, where that stands before it. ConfigError: of unlike images of the same classes."""
    seen: dict[bytes, Recording] = {}
    recordings = []
    first: dict[tuple[str, ...], tuple[Bundle, Recording]] = {}
    for bundle in bundles:
        kept = None if (bundle.folder / RECORDING).is_file() else seen.get(bundle.encoder_data)
        recording = seen[bundle.encoder_data] = kept or _recording(bundle)
        other, expected = first.setdefault(bundle.manifest.tasks[0].classes, (bundle, recording))
        if not np.array_equal(recording.labels, expected.labels):
            raise ConfigError(
                f"the recordings of {other.folder} and {bundle.folder} are of different images",
                allowed="those of one test split, so that the rows compare", fix="add --data-set NAME, which both shall be measured on",
            )  # fmt: skip
        recordings.append(recording)
    return recordings


def _recording(bundle: Bundle) -> Recording:
    """The bundle's own. NotFound: it has none, as every twin; the fix is in this command's words."""
    try:
        return load_recording(bundle)
    except NotFound as missing:
        codec = bundle.manifest.twin_of
        name = bundle.manifest.training.get("config", {}).get("codec", {}).get("dataset", "NAME")
        fix = f"name {codec}, whose bits it decodes, before it, or add" if codec else "add"
        raise NotFound(missing.problem, allowed=missing.allowed, fix=f"{fix} --data-set {name}") from missing


def _test_split(bundle: Bundle, name: str, folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, which are the bundle's numbers of the classes' names. ConfigError: it does not know one of these."""
    from codec_training.datasets import load_dataset

    dataset, known = load_dataset(name, folder), bundle.manifest.tasks[0].classes
    unknown = [each for each in dataset.classes if each not in known]
    if unknown:
        raise ConfigError(
            f"{name} has the class {unknown[0]!r}, which {bundle.manifest.name} cannot name",
            allowed=f"its {len(known)}: {', '.join(known[:10])}{', …' * (len(known) > 10)}",
            fix="evaluate on images of those classes",
        )
    numbers = np.array([known.index(each) for each in dataset.classes])
    return dataset.test.images, numbers[dataset.test.labels]


if __name__ == "__main__":
    raise SystemExit(main())
