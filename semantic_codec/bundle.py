"""Bundles: one folder per codec and version, ``<root>/<name>/<version>/``. Nothing in it is ever unpickled.

    bundle.json         the manifest: what the codec is, and the hashes of the files beside it
    encoder.bin         the device's integers (encoder_format.py), or, for families that have no integer encoder,
    encoder.safetensors the weights of a reference encoder in floats: it evaluates and records, no device runs it
    edge.safetensors    the edge's decoder and tail, bf16
    card.md             for people
    recording.npz       optional: bitstreams and labels of the whole test split
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from semantic_codec.bitstream import payload_bytes
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import BundleError, NotFound

SCHEMA_VERSION = 1
MAX_BUNDLE_BYTES = 8_000_000
BUNDLES_VARIABLE = "WEAKLINK_BUNDLES"
MANIFEST, ENCODER, EDGE, CARD, RECORDING = "bundle.json", "encoder.bin", "edge.safetensors", "card.md", "recording.npz"
REFERENCE = "encoder.safetensors"
MEASURED = ("ber", "level", "accuracy_percent")
LARGEST_VERSION = 999_999_999  # which the messages of both services have room for
TEMPERATURES = 0.01, 100.0
_NAME = re.compile(r"[^\W_][^/\\\x00-\x1f\x7f]*")  # it is a folder's, too
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str, "version": int, "codec_id": int, "family": str, "tasks": list, "height": int, "width": int,
    "symbols": int, "bits_per_symbol": int, "levels": list, "ber_min": (int, float), "ber_max": (int, float),
    "blind_ber": (int, float), "files": dict, "edge": dict, "calibration": dict, "encoder": dict, "accuracy": list,
    "training": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Level:
    """A prefix of the symbols at which the codec decodes."""

    number: int
    symbols: int
    payload_bytes: int


@dataclass(frozen=True)
class Task:
    """One tail's output."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """``bundle.json``. ``ber_min``..``ber_max`` is the trained range, ``blind_ber`` the prior where nothing is known.

    ``twin_of`` names the codec whose very bits this bundle decodes otherwise, for comparison; twins do not serve.
    """

    name: str
    version: int
    codec_id: int
    family: str
    tasks: tuple[Task, ...]
    height: int
    width: int
    symbols: int
    bits_per_symbol: int
    levels: tuple[Level, ...]
    ber_min: float
    ber_max: float
    blind_ber: float
    files: dict[str, str]
    edge: dict[str, Any]
    calibration: dict[str, Any]
    encoder: dict[str, Any]
    accuracy: list[dict[str, Any]]
    training: dict[str, Any]
    twin_of: str
    raw: dict[str, Any] = field(repr=False)

    @property
    def bits(self) -> int:
        """Payload bits of the longest level."""
        return self.symbols * self.bits_per_symbol


@dataclass(frozen=True)
class Bundle:
    """A checked bundle: its folder, manifest and the bytes of its encoder's file, ``encoder.bin`` or a reference in floats,
    and of ``edge.safetensors``; whatever becomes of the folder."""

    folder: Path
    manifest: Manifest
    encoder_data: bytes = field(repr=False)
    edge_data: bytes = field(repr=False)

    @property
    def runs_on_devices(self) -> bool:
        """Whether it has an integer encoder."""
        return ENCODER in self.manifest.files

    @property
    def encoder_bin(self) -> bytes:
        """The bytes of ``encoder.bin``; :class:`BundleError` where there is only a reference in floats."""
        if not self.runs_on_devices:
            raise BundleError(
                f"bundle {self.manifest.name} of the family {self.manifest.family!r} has no {ENCODER}, only a reference encoder "
                "in floats",
                allowed="weaklink evaluate, and the edge's half", fix="send with a codec that has an integer encoder",
            )  # fmt: skip
        return self.encoder_data

    @property
    def encoder_hash(self) -> bytes:
        """SHA-256 of the encoder's file, 32 bytes."""
        return hashlib.sha256(self.encoder_data).digest()


@dataclass(frozen=True)
class Recording:
    """What the device sent for the whole test split: bitstreams uint8 (N, bytes of the longest level), labels int64 (N,)."""

    bitstreams: np.ndarray
    labels: np.ndarray


def is_utf8(text: str) -> bool:
    """Whether it can be sent and printed: names of folders need not be."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def parse_manifest(raw: dict[str, Any]) -> Manifest:
    """Check a decoded ``bundle.json``; :class:`BundleError` names the field, its value and what is allowed."""
    if raw.get("schema_version") != SCHEMA_VERSION:
        raise _refuse(f"schema_version is {raw.get('schema_version')!r}", f"{SCHEMA_VERSION}")
    for name, kind in _FIELDS.items():
        if not isinstance(raw.get(name), kind) or isinstance(raw.get(name), bool):
            raise _refuse(f"{name} is {raw.get(name)!r}", f"a value of type {kind}")
    try:
        tasks = tuple(Task(task["name"], tuple(map(str, task["classes"]))) for task in raw["tasks"])
    except (KeyError, TypeError, ValueError) as error:
        raise _refuse(f"tasks cannot be read ({error!r})", "[{name, classes}]") from error
    for text in (text for task in tasks for text in (task.name, *task.classes)):
        if not isinstance(text, str) or not is_utf8(text):  # no answer could be sent that holds it
            raise _refuse(f"tasks name {text!r}", "text that UTF-8 can write")
    if wrong := first_wrong(raw):
        raise _refuse(*wrong)
    lengths = raw["levels"]
    levels = tuple(
        Level(number, symbols, payload_bytes(symbols, raw["bits_per_symbol"])) for number, symbols in enumerate(lengths)
    )
    for problem, allowed in (
        (lengths[-1] != raw["symbols"] and f"levels are {lengths}", f"the last {raw['symbols']}, all symbols"),
        (not tasks and "there is no task", "one task or more"),
        ((EDGE not in raw["files"] or len({ENCODER, REFERENCE} & raw["files"].keys()) != 1) and f"files are {sorted(raw['files'])}",
         f"{EDGE}, and {ENCODER} or {REFERENCE}, with their SHA-256"),
    ):  # fmt: skip
        if problem:
            raise _refuse(problem, allowed)
    _check_calibration(raw["calibration"], len(levels))
    for row in raw["accuracy"]:
        _check_measured(row, raw["name"], len(levels))
    return Manifest(**{**{name: raw[name] for name in _FIELDS}, "tasks": tasks, "levels": levels}, twin_of=str(raw.get("twin_of", "")), raw=raw)


def first_wrong(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first of ``name``, ``codec_id``, ``version``, ``bits_per_symbol``, ``levels``, ``ber_min``, ``ber_max`` and
    ``blind_ber`` that no bundle may have, and what is allowed; None where all may stand. Training asks this too, before it
    begins."""
    name, codec_id, version, levels = values["name"], values["codec_id"], values["version"], list(values["levels"])
    low, high, blind_ber, bits = values["ber_min"], values["ber_max"], values["blind_ber"], values["bits_per_symbol"]
    ascending = all(type(symbols) is int and symbols >= 1 for symbols in levels) and levels == sorted(set(levels))
    lengths = [payload_bytes(symbols, bits) for symbols in levels] if ascending else []
    for holds, problem, allowed in (
        (_NAME.fullmatch(name), f"name is {name!r}", "a letter or digit, and behind it no slash, backslash or control character"),
        (0 <= codec_id <= 63, f"codec_id is {codec_id}", "0 to 63"),
        (1 <= version <= LARGEST_VERSION, f"version is {version}", f"1 to {LARGEST_VERSION}"),
        (1 <= bits <= 8, f"bits_per_symbol is {bits}", "1 to 8"),
        (1 <= len(levels) <= 16, f"there are {len(levels)} levels", "1 to 16"),
        (ascending, f"levels are {levels}", "ascending whole numbers of symbols from 1 on"),
        (len(set(lengths)) == len(lengths), f"levels are {levels}, of {lengths} bytes", "a length of its own for each"),
        (0 <= low <= high <= 0.5, f"BER range is {low} to {high}", "within 0 to 0.5"),
        (0 < blind_ber <= 0.5, f"blind_ber is {blind_ber}", "above 0, at most 0.5"),
    ):
        if not holds:
            return problem, allowed
    return None


def load_bundle(folder: str | Path) -> Bundle:
    """Read a bundle folder, check schema and hashes. :class:`NotFound` or :class:`BundleError` says what is wrong."""
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound(f"there is no {path}", allowed="a bundle folder", fix="check the name, or export the bundle")
    try:
        raw = json.loads(path.read_text())
    except ValueError as error:
        raise _refuse(f"{MANIFEST} is not JSON ({error})", "a JSON object") from error
    manifest = parse_manifest(raw if isinstance(raw, dict) else {})
    contents: dict[str, bytes] = {}
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise _refuse(f"files names {name!r}", "plain file names in the bundle folder")
        if not (folder / name).is_file():
            raise _refuse(f"{name} is missing", "every file that files names")
        contents[name] = (folder / name).read_bytes()
        actual = hashlib.sha256(contents[name]).hexdigest()
        if actual != expected:
            raise _refuse(f"{name} has the SHA-256 {actual[:12]}…", f"{str(expected)[:12]}…, which {MANIFEST} names")
    bundle = Bundle(folder, manifest, contents[ENCODER if ENCODER in manifest.files else REFERENCE], contents[EDGE])
    if bundle.runs_on_devices:
        _check_program(EncoderProgram.from_bytes(bundle.encoder_bin), manifest)
    return bundle


def bundle_roots() -> list[Path]:
    """Folders that are searched: ``$WEAKLINK_BUNDLES`` (separated like PATH), else the bundles that came with the package."""
    given = os.environ.get(BUNDLES_VARIABLE)
    if given:
        return [Path(part) for part in given.split(os.pathsep) if part]
    return [Path(__file__).resolve().parents[1] / "bundles"]


def is_version(text: str) -> bool:
    """Whether a folder of this name is taken for a version's."""
    return re.fullmatch("[0-9]{1,18}", text) is not None


def bundle_folders(root: str | Path) -> list[Path]:
    """Every ``<name>/<version>`` folder below ``root`` that holds a manifest, by name, then version ascending."""
    found = [path.parent for path in Path(root).glob(f"*/*/{MANIFEST}") if is_version(path.parent.name)]
    return sorted(found, key=lambda folder: (folder.parent.name, int(folder.name)))


def find_bundle(name: str, version: int = 0, roots: list[Path] | None = None) -> Bundle:
    """Load a bundle by name (newest version where ``version`` is 0), or by the path of its folder or of its codec's."""
    if (Path(name) / MANIFEST).is_file():
        return load_bundle(name)
    folders = [folder for root in (roots or bundle_roots()) for folder in bundle_folders(root)]
    below = [path.parent for path in Path(name).glob(f"*/{MANIFEST}") if is_version(path.parent.name)]
    versions = [folder for folder in folders if folder.parent.name == name] or below
    matching = [folder for folder in versions if version in (0, int(folder.name))]
    if not matching:
        known = ", ".join(f"{folder.parent.name} {folder.name}" for folder in folders) or "none"
        raise NotFound(
            f"there is no bundle {name!r}" + (f" of version {version}" if version else ""),
            allowed=known,
            fix=f"name one of these, or set {BUNDLES_VARIABLE} to the folder that holds it",
        )
    return load_bundle(max(matching, key=lambda folder: int(folder.name)))


def load_recording(bundle: Bundle) -> Recording:
    """The bundle's recording; :class:`NotFound` where it has none, :class:`BundleError` where it is damaged or shapes do not fit."""
    path = bundle.folder / RECORDING
    if not path.is_file():
        raise NotFound(f"bundle {bundle.manifest.name} has no recording", allowed=RECORDING, fix="use a bundle that has one")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            recording = Recording(stored["bitstreams"], stored["labels"].astype(np.int64))
    except Exception as error:  # damage makes NumPy, zipfile and zlib raise a dozen kinds, and no hash guards this file
        raise _refuse(f"{RECORDING} cannot be read ({type(error).__name__})", "arrays bitstreams and labels, as exported") from error
    if recording.labels.ndim != 1:
        raise _refuse(f"labels have the shape {recording.labels.shape}", "one label per bitstream")
    expected = (len(recording.labels), bundle.manifest.levels[-1].payload_bytes)
    if recording.bitstreams.dtype != np.uint8 or recording.bitstreams.shape != expected:
        raise _refuse(f"bitstreams are {recording.bitstreams.dtype} {recording.bitstreams.shape}", f"uint8 {expected}")
    return recording


def _check_calibration(calibration: dict[str, Any], levels: int) -> None:
    """What ``calibration.Calibration`` relies on; a table may be absent, the floor too."""
    floor, bers, table = calibration.get("floor", 0.0), calibration.get("ber", []), calibration.get("temperature", [])
    if not _within(floor, 0, 1):
        raise _refuse(f"calibration has the floor {floor!r}", "0 to 1")
    if not isinstance(bers, list) or not all(_within(ber, 0, 0.5) for ber in bers) or bers != sorted(set(bers)):
        raise _refuse(f"calibration has the BERs {bers!r}", "ascending numbers from 0 to 0.5")
    rows = levels if bers else 0
    fits = isinstance(table, list) and len(table) == rows and all(isinstance(row, list) and len(row) == len(bers) for row in table)
    if not fits or not all(_within(value, *TEMPERATURES) for row in table for value in row):
        raise _refuse(
            f"calibration has the temperatures {table!r}",
            f"{rows} rows, one per level, of {len(bers)} numbers, one per BER, from {TEMPERATURES[0]} to {TEMPERATURES[1]}",
        )


def _check_measured(row: Any, name: str, levels: int) -> None:
    """A row of the accuracy table; what it does not have may be absent. Rows of other bundles have levels of their own."""
    if isinstance(row, dict):
        numbers = levels if row.get("bundle", name) == name else 16
        ber, level, percent = (row.get(column, 0) for column in MEASURED)
        if _within(ber, 0, 0.5) and type(level) is int and 0 <= level < numbers and _within(percent, 0, 100):
            return
    raise _refuse(
        f"accuracy has the row {row!r}",
        f"objects whose {MEASURED[0]} is from 0 to 0.5, {MEASURED[1]} a level's whole number, {MEASURED[2]} from 0 to 100",
    )


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _check_program(program: EncoderProgram, manifest: Manifest) -> None:
    """The hash says that a file is the one that was exported; this, that it is this codec's."""
    for name, of_program in (
        ("height", program.height), ("width", program.width), ("bits_per_symbol", program.bits_per_symbol),
    ):  # fmt: skip
        if of_program != getattr(manifest, name):
            raise _refuse(f"{ENCODER} has {name} {of_program}", f"{getattr(manifest, name)}, as in {MANIFEST}")
    positions = math.prod(program.latent_shape[1:])
    if not program.symbols - positions < manifest.symbols <= program.symbols:  # the longest level may leave out part of a plane
        raise _refuse(
            f"{ENCODER} has symbols {program.symbols}", f"{manifest.symbols}, as in {MANIFEST}, or more by less than {positions}"
        )


def _refuse(problem: str, allowed: str) -> BundleError:
    return BundleError(f"bundle refused: {problem}", allowed=allowed, fix="export the bundle again, or restore it from its source")
