"""Where the rows of ``weaklink bench codecs`` come from: bundles, the results of ``weaklink bench rivals``, trainings to come."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.codecs.burst_rows import measure_bursts
from benchmarks.codecs.entropy_rows import measure_entropy_coded
from benchmarks.codecs.repeat_rows import measure_repeated
from benchmarks.rivals.code_rows import BOUND, GENIE, LOCAL, VALIDATION_IMAGES, CodeRows, base_parameters
from benchmarks.rivals.codes import CODES
from benchmarks.rivals.contest import Contest
from benchmarks.rivals.store import Row, Store
from codec_training.config import CONFIGS, load_config
from semantic_codec.bundle import Bundle, Recording, bundle_folders, bundle_roots, find_bundle, load_bundle, load_recording
from semantic_codec.errors import NotFound
from semantic_codec.frame import HEADER_BYTES

COLUMNS = (
    "dataset", "family", "bundle", "variant", "channel", "ber", "erased", "payload_bytes", "on_air_bytes", "accuracy_percent",
    "interval_percent", "seeds", "encoder_macs", "encoder_bytes",
)  # fmt: skip
RIVALS = (*CODES, GENIE, BOUND, LOCAL, "jpeg", "webp", "raw")
BASE = "uncompressed base"
ABLATIONS = CONFIGS / "ablations"
RIVAL_BUNDLES = Path(__file__).parents[1] / "bundles"
"""Of other families: to measure against, not to serve."""


def planned() -> list[str]:
    """Our configurations on CIFAR, then ablations on any data set."""
    configs = [load_config(path.stem).codec for path in sorted(CONFIGS.glob("*.toml"))]
    return [*(codec.name for codec in configs if codec.dataset.startswith("cifar")), *(path.stem for path in sorted(ABLATIONS.glob("*.toml")))]


def named(patterns: list[str]) -> list[str]:
    """Names of configurations as a shell would fill in ``*`` and ``?``; any other name, as of a bundle, stays."""
    known = sorted(path.stem for path in CONFIGS.rglob("*.toml"))
    return [name for pattern in patterns for name in fnmatch.filter(known, pattern) or [pattern]]


def find_trained(name: str, runs: Path) -> Bundle | None:
    """The newest bundle of ``name`` that a run left in ``runs``, else an installed or a rival's one, else None."""
    for run in (name, name.removesuffix("-blind")):
        folders = [folder for folder in bundle_folders(runs / run / "bundles") if folder.parent.name == name]
        if folders:
            return load_bundle(folders[-1])
    try:
        return find_bundle(name, roots=[*bundle_roots(), RIVAL_BUNDLES])
    except NotFound:
        return None


def measure(name: str, runs: Path, store: Store, arguments, conditions) -> list[Row]:
    """The rows of a codec, its name or its own .toml file, of its blind twin, of its trainings from other seeds, of its base.

    Where a bundle is not there, those that the store's file has; where it has none, a row that says that it was not trained.
    """
    first, asked = len(store.rows), name
    if asked.endswith(".toml"):
        name = load_config(asked).codec.name
    bundle = find_trained(name, runs)
    if bundle is None:
        kept = stored_of(name, store)
        if kept:
            return [*kept, *seed_means(kept, name)]
        config = load_config(asked)
        return [{"dataset": config.codec.dataset, "family": config.codec.family, "bundle": name, "variant": "not trained", "accuracy_percent": None}]
    recording = first_images(load_recording(bundle), arguments.images)
    twins = [name, f"{name}-blind", *(f"{name}-seed{seed}" for seed in range(1, arguments.seeds))]
    for twin in twins:
        found = find_trained(twin, runs)
        if found is not None:
            own = recording if found.encoder_data == bundle.encoder_data else first_images(load_recording(found), arguments.images)
            _measure(found, own, store, arguments, conditions)
    rows = store.rows[first:]
    shown = {row["bundle"] for row in rows}
    rows += [row for row in stored_of(name, store) if "-seed" in row["bundle"] and row["bundle"] not in shown]
    return [*rows, *seed_means(rows, name), *base_row(bundle, len(recording.labels))]


def stored_of(name: str, store: Store) -> list[Row]:
    """What the store's file has of the trainings of a codec and of its twin."""
    return [row for row in store.earlier if codec_of(row) == name and row["accuracy_percent"] is not None and not is_mean(row)]


def first_images(recording: Recording, count: int) -> Recording:
    """The first ``count``, 0 for all."""
    return Recording(recording.bitstreams[: count or None], recording.labels[: count or None])


def _measure(bundle: Bundle, recording: Recording, store: Store, arguments, conditions) -> None:
    base = base_parameters(bundle, len(recording.labels), arguments.draws, arguments.seed, VALIDATION_IMAGES)
    contest = Contest(bundle, recording, arguments.draws, arguments.seed, arguments.threads)
    shorter = (bundle.manifest.levels[0].payload_bytes // 2,) if bundle.manifest.name in arguments.protection else ()
    CodeRows(store, contest, base, arguments.data, VALIDATION_IMAGES, arguments.threads).measure_ours(conditions, shorter)
    measure_entropy_coded(store, contest, recording, base, conditions)
    if bundle.manifest.name in arguments.protection:
        measure_repeated(store, contest, recording, base, conditions)
        measure_bursts(store, contest, base)


def seed_means(rows: list[Row], name: str) -> Iterable[Row]:
    """Means over the trainings of one codec, where there is more than one: with how far they scatter (one standard deviation)."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        if row["bundle"] == name or row["bundle"].startswith(f"{name}-seed"):
            groups.setdefault((row["variant"], row["channel"], row["ber"], row["erased"], row.get("burst_bits")), []).append(row)
    for group in groups.values():
        accuracies = [row["accuracy_percent"] for row in group]
        if len(group) > 1 and None not in accuracies:
            yield {key: value for key, value in group[0].items() if key != "key"} | {
                "variant": f"{group[0]['variant']}, mean of {len(group)} trainings",
                "accuracy_percent": float(np.mean(accuracies)),
                # The images are the same for all trainings: averaging over these does not narrow what images scatter.
                "interval_percent": max(row["interval_percent"] for row in group),
                "seeds_deviation_percent": float(np.std(accuracies, ddof=1)),
                "seeds": len(group),
            }  # fmt: skip


def base_row(bundle: Bundle, images: int) -> Iterable[Row]:
    """The network that a codec was cut into, on whole images."""
    manifest = bundle.manifest
    accuracy = manifest.training.get("base_accuracy_percent")
    if accuracy is not None:
        raw = 3 * manifest.height * manifest.width
        yield {
            "dataset": manifest.training["data_set"], "family": manifest.family, "bundle": manifest.name, "variant": BASE,
            "channel": "bsc", "ber": 0.0, "erased": 0.0, "payload_bytes": raw, "on_air_bytes": raw + HEADER_BYTES,
            "accuracy_percent": accuracy, "interval_percent": 196 * (accuracy / 100 * (1 - accuracy / 100) / images) ** 0.5, "seeds": 1,
        }  # fmt: skip


def taken_over(rows: list[Row], shown: list[Row]) -> list[Row]:
    """The rivals' rows of another table, for the codecs that are ``shown``; not those of a bundle that has changed since.

    Nor pictures that are repeated until whole: what they take on the air hangs on the BER, and that table has it.
    """
    files = {row["bundle"]: row.get("bundle_files") for row in shown if row.get("bundle_files")}
    return [
        {key: row[key] for key in (*COLUMNS, "receiver", "file_on_air_bytes", "chosen") if key in row}
        for row in rows
        if row.get("family") in RIVALS and row["bundle"] in files and not row["variant"].endswith("until whole")
        and row.get("bundle_files", files[row["bundle"]]) == files[row["bundle"]]
    ]  # fmt: skip


def codec_of(row: Row) -> str:
    """The codec whose training, or whose twin, a row is of."""
    return row["bundle"].removesuffix("-blind").partition("-seed")[0]


def averaged(rows: list[Row]) -> list[Row]:
    """The means over trainings alone, of codecs that have them."""
    several = {row["bundle"] for row in rows if is_mean(row)}
    return [row for row in rows if codec_of(row) not in several or is_mean(row)]


def is_mean(row: Row) -> bool:
    """Whether it is of several trainings."""
    return "seeds_deviation_percent" in row


def is_ablation(row: Row) -> bool:
    """Whether its codec was trained only to be compared."""
    return (ABLATIONS / f"{codec_of(row)}.toml").is_file()
