"""``weaklink export CONFIG``: write the bundle of a finished training run, and its blind twin beside it; with
``--target``, a bundle's encoder as C or as a firmware folder.

The integer encoder is checked against NumPy's on the whole test split before anything is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from codec_training.calibrate import fit_calibration
from codec_training.config import as_table, load_config, with_seed
from codec_training.datasets import Dataset, hold_out, load_dataset
from codec_training.evaluate import evaluate
from codec_training.export_c import write_c, write_firmware
from codec_training.families import DeviceHalf, Trained, find_family
from codec_training.families.weaklink_bundle import open_bundle
from codec_training.report_device import print_report
from edge_server.engine import CHUNK
from semantic_codec.bitstream import unpack_bits
from semantic_codec.bundle import (
    CARD,
    EDGE,
    MANIFEST,
    MAX_BUNDLE_BYTES,
    RECORDING,
    SCHEMA_VERSION,
    Bundle,
    find_bundle,
    load_bundle,
    load_recording,
)
from semantic_codec.errors import BundleError, ConfigError
from semantic_codec.key_file import read_key
from semantic_codec.report import git_state


class TooLargeToShip(BundleError):
    """A whole bundle that can be evaluated where it was written, but is larger than bundles may be."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink export", description=__doc__)
    parser.add_argument("config", help="the configuration that was trained: a .toml file, or the name of one of ours; "
                        "with --target, the name of a bundle or its folder")  # fmt: skip
    parser.add_argument("--target", choices=("bundle", "c", "stm32"), default="bundle",
                        help="bundle: of a training run; c: a bundle's encoder as a .h and .c; stm32: as a firmware folder")  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="where C or firmware goes (default: build/NAME)")
    parser.add_argument("--key-file", metavar="FILE", type=Path, help="with --target stm32: a device's key, for a firmware that sends keyed frames")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="where the training run lies (default: runs)")
    parser.add_argument("--bundles", metavar="DIR", help="where the bundles go (default: RUNS/NAME/bundles)")
    parser.add_argument("--seed", type=int, help="of the run NAME-seedN, as it was given to `weaklink train`")
    parser.add_argument("--report", metavar="BOARD", help="write nothing; print what CONFIG, the name of a bundle or its folder, asks of a board")
    parser.add_argument("--link", help="with --report: the time on the air of this link only")
    arguments = parser.parse_args(argv)
    if arguments.key_file and arguments.target != "stm32":
        parser.error("--key-file is for a firmware; allowed: with --target stm32; fix: add that, or leave the key out")
    if arguments.report and (arguments.target != "bundle" or arguments.output):
        parser.error("--report writes nothing; allowed: without --target and --output; fix: leave these out, or --report")
    if arguments.link and not arguments.report:
        parser.error("--link is given alone; allowed: with --report; fix: add that, or leave it out")
    if arguments.output and arguments.target == "bundle":
        parser.error("--output is for C and firmware; allowed: with --target c or stm32; fix: give --bundles for a bundle")
    if arguments.seed is not None and (arguments.report or arguments.target != "bundle"):
        parser.error("--seed is of a training run; allowed: without --target and --report; fix: name the bundle NAME-seedN, or its folder")
    if arguments.target != "bundle":
        return export_device(arguments.config, arguments.target, arguments.output, arguments.key_file)
    if arguments.report:
        return print_report(arguments.config, arguments.report, arguments.link)
    config = load_config(arguments.config)
    if arguments.seed is not None:
        config = with_seed(config, arguments.seed)
    folder = Path(arguments.runs) / config.codec.name
    dataset = hold_out(load_dataset(config.codec.dataset, arguments.data), config.training.validation)
    for path in export_run(folder, dataset, config, Path(arguments.bundles or folder / "bundles")):
        print(path)
    return 0


def export_device(name: str, target: str, output: str | None, key_file: Path | None = None) -> int:
    """Write the C pair or the firmware folder of a bundle, and print the paths."""
    key = None if key_file is None else read_key(key_file)
    bundle = find_bundle(name)
    folder = Path(output or Path("build") / bundle.manifest.name)
    for path in write_c(bundle, folder) if target == "c" else write_firmware(bundle, folder, key):
        print(path)
    return 0


def export_run(folder: Path, dataset: Dataset, config, bundles: Path) -> list[Path]:
    """Write ``<bundles>/<name>/<version>``, and its twins where the family has any; returns their folders.

    NotFound: the run is not finished. BundleError: implementations disagree, or the bundle is too large. ConfigError: it would
    take the place of the one behind which it was trained.
    """
    check_target(config, bundles)
    trained = find_family(config.codec.family).load_run(folder, config, dataset)
    device = trained.device
    validation, test = (device.encode(split.images) for split in (dataset.validation, dataset.test))
    bits = device.symbols * device.bits_per_symbol
    paths = []
    for suffix, network in trained.networks.items():
        name = f"{config.codec.name}{suffix}"
        target = bundles / name / str(config.codec.version)
        manifest = describe(config, dataset, trained, network, name)
        manifest["calibration"] = fit_calibration(
            _logits(network, manifest), unpack_bits(validation, bits), dataset.validation.labels, len(config.codec.levels)
        )
        write_bundle(target, manifest, device, network)
        np.savez_compressed(target / RECORDING, bitstreams=test, labels=dataset.test.labels.astype(np.uint16))
        bundle = load_bundle(target)
        manifest["accuracy"] = evaluate(bundle, load_recording(bundle))
        write_bundle(target, manifest, device, network)
        if suffix:
            (target / RECORDING).unlink()  # the twin's bitstreams are its codec's
        (target / CARD).write_text(card(load_bundle(target)), "utf-8")
        _check_size(target)
        paths.append(target)
    return paths


def check_target(config, bundles: Path) -> None:
    """ConfigError: the bundle would be written over the one behind which it is trained."""
    if not getattr(config.training, "bundle", ""):  # which the family weaklink alone has
        return
    bundle, version = open_bundle(config), config.codec.version
    if (bundles / config.codec.name / str(version)).resolve() == bundle.folder.resolve():
        raise ConfigError(
            f"[codec] version is {version}, which in {bundles} is [training] bundle {config.training.bundle!r} itself",
            allowed="another", fix=f"set version to {version + 1}",
        )  # fmt: skip


def describe(config, dataset: Dataset, trained: Trained, network: nn.Module, name: str) -> dict[str, Any]:
    """The manifest but for hashes, calibration and accuracy."""
    device = trained.device
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "version": config.codec.version,
        "codec_id": config.codec.codec_id,
        "twin_of": "" if name == config.codec.name else config.codec.name,
        "family": config.codec.family,
        "tasks": [{"name": config.codec.task, "classes": list(dataset.classes)}],
        "height": device.height,
        "width": device.width,
        "input": {"channels": 3, "order": "RGB", "dtype": "uint8", "preprocessing": device.preprocessing},
        "symbols": device.symbols,
        "bits_per_symbol": device.bits_per_symbol,
        "levels": list(config.codec.levels),
        "ber_min": 0.0,
        "ber_max": config.channel.ber_max,
        "blind_ber": config.codec.blind_ber,
        "edge": dataclasses.asdict(network.config),
        "encoder": {"macs": device.macs, "weights": device.weights, "bytes": len(device.file_bytes)},
        "training": {
            "data_set": dataset.name,
            "train_images": len(dataset.train),
            "validation_images": len(dataset.validation),
            "commit": git_state()[0],
            "date": datetime.now(UTC).date().isoformat(),
            "config": as_table(config),
            **trained.notes,
        },
        "calibration": {},
        "accuracy": [],
    }


def write_bundle(target: Path, manifest: dict[str, Any], device: DeviceHalf, network: nn.Module) -> None:
    """Write the device's half, the edge's weights (bf16) and the manifest with their hashes."""
    target.mkdir(parents=True, exist_ok=True)
    (target / device.file_name).write_bytes(device.file_bytes)
    weights = {name: tensor.detach().bfloat16().contiguous() for name, tensor in network.state_dict().items()}
    # Bytes of our own: safetensors writes files that only their owner may read.
    (target / EDGE).write_bytes(safetensors.torch.save(weights))
    hashes = {name: hashlib.sha256((target / name).read_bytes()).hexdigest() for name in (device.file_name, EDGE)}
    (target / MANIFEST).write_text(json.dumps({**manifest, "files": hashes}, indent=1) + "\n")


def card(bundle: Bundle) -> str:
    """What a person should know before using the bundle, as Markdown."""
    manifest = bundle.manifest
    sizes = " or ".join(str(level.payload_bytes) for level in manifest.levels)
    bers = sorted({row["ber"] for row in manifest.accuracy})
    base = manifest.training.get("base_accuracy_percent")
    lines = [
        f"# {manifest.name}, version {manifest.version}",
        "",
        f"{manifest.height}x{manifest.width} RGB images of {len(manifest.tasks[0].classes)} classes "
        f"({', '.join(manifest.tasks[0].classes[:10])}{', …' if len(manifest.tasks[0].classes) > 10 else ''}) "
        f"into {sizes} bytes. Family `{manifest.family}`"
        + ("." if manifest.edge.get("aware", True) else ": the blind twin, whose decoder is told neither BER nor received share."),
        "",
        f"Device encoder: {manifest.encoder['macs']:,} multiply-accumulates, {manifest.encoder['bytes']:,} bytes of "
        + ("integers. " if bundle.runs_on_devices else "floats: a reference for evaluation and recordings, which no device runs. ")
        + (f"The uncompressed base is right in {base:.2f} % of the test split. " if base is not None else "") +
        f"Trained on {manifest.training['train_images']:,} images of {manifest.training['data_set']}, "
        f"confidence calibrated on {manifest.training['validation_images']:,} others, for a BER of {manifest.ber_min:g} to "
        f"{manifest.ber_max:g}.",
        "",
        "Accuracy in % on the whole test split, by payload and bit error rate:",
        "",
        "| payload | " + " | ".join(f"{ber:g}" for ber in bers) + " |",
        "| --- |" + " ---: |" * len(bers),
    ]
    for level in manifest.levels:
        row = {entry["ber"]: entry["accuracy_percent"] for entry in manifest.accuracy if entry["level"] == level.number}
        lines.append(f"| {level.payload_bytes} B | " + " | ".join(f"{row[ber]:.2f}" for ber in bers) + " |")
    lines += [
        "",
        "Not for decisions about people, and not for images unlike those it was trained on: it answers with one of its classes "
        "whatever it is shown.",
        "",
    ]
    return "\n".join(lines)


def _logits(network: nn.Module, manifest: dict[str, Any]):
    """``(received uint8 (N, n), level, ber) -> logits`` of the first task."""
    task = manifest["tasks"][0]["name"]

    @torch.inference_mode()
    def logits(received: np.ndarray, level: int, ber: float) -> np.ndarray:
        soft = (torch.from_numpy(received).float() * 2 - 1) * (1 - 2 * ber)
        soft[:, manifest["levels"][level] * manifest["bits_per_symbol"] :] = 0
        network.eval()
        return torch.cat([network(part, torch.full((len(part),), ber))[task] for part in soft.split(CHUNK)]).numpy()

    return logits


def _check_size(target: Path) -> None:
    size = sum(path.stat().st_size for path in target.iterdir())
    if size > MAX_BUNDLE_BYTES:
        raise TooLargeToShip(
            f"{target} has {size} bytes", allowed=f"at most {MAX_BUNDLE_BYTES}",
            fix="make [edge] narrower; this one can be evaluated where it lies, but is too large to hand on",
        )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
