"""Bundles from folders: those that serve, by name and version, and those that were refused, with the reason."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from semantic_codec.bundle import Bundle, Level, Manifest, load_bundle
from semantic_codec.errors import BundleError, ConfigError, NotFound, WeaklinkError

TOLERANCE = 1.0  # points of accuracy that a shorter level may cost and still be advised


@dataclass(frozen=True)
class Refusal:
    """A bundle folder that does not serve."""

    path: str
    reason: str


def measured_accuracy(manifest: Manifest) -> dict[float, dict[int, float]]:
    """Percent by BER, ascending, and level: the bundle's own rows of the manifest's accuracy table over independent
    flips (channel "bsc", which is also what a row without a channel means)."""
    table: dict[float, dict[int, float]] = {}
    for row in manifest.accuracy:
        measured_here = (row.get("bundle", manifest.name), row.get("channel", "bsc")) == (manifest.name, "bsc")
        if measured_here and {"ber", "level", "accuracy_percent"} <= row.keys():
            table.setdefault(row["ber"], {})[row["level"]] = row["accuracy_percent"]
    return dict(sorted(table.items()))


class LevelAdvice:
    """The shortest level within :data:`TOLERANCE` points of the longest one, by BER, as measured."""

    def __init__(self, manifest: Manifest):
        longest = manifest.levels[-1].number
        complete = {ber: levels for ber, levels in measured_accuracy(manifest).items() if longest in levels}
        self._bers = list(complete)
        self._levels = [
            min(number for number, accuracy in levels.items() if accuracy >= levels[longest] - TOLERANCE)
            for levels in complete.values()
        ]

    def level(self, ber: float) -> int | None:
        """Advice at the next measured BER not below ``ber`` (the last one beyond the table); None without a table."""
        if not self._levels:
            return None
        return self._levels[min(bisect_left(self._bers, ber), len(self._levels) - 1)]


class ServedCodec:
    """A bundle and what each request needs of it, looked up once."""

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.name = bundle.manifest.name
        self.version = bundle.manifest.version
        self.short_hash = bundle.encoder_hash[:8]
        self.levels: tuple[Level, ...] = bundle.manifest.levels
        self.level_by_length = {level.payload_bytes: level for level in bundle.manifest.levels}
        self.classes = {task.name: task.classes for task in bundle.manifest.tasks}
        self.task_names = tuple(self.classes)
        self.blind_ber = float(bundle.manifest.blind_ber)
        self.advice = LevelAdvice(bundle.manifest)


class Repository:
    """What :func:`load_repository` found. ``codecs`` by name, then version; ``newest`` by name."""

    def __init__(self, codecs: Iterable[ServedCodec], refused: Iterable[Refusal] = ()):
        self.codecs = tuple(sorted(codecs, key=lambda codec: (codec.name, codec.version)))
        self.refused = tuple(refused)
        self.newest = {codec.name: codec for codec in self.codecs}
        self._by_version = {(codec.name, codec.version): codec for codec in self.codecs}

    def get(self, name: str, version: int = 0) -> ServedCodec:
        """An empty name is the only codec, a version of 0 the newest. NotFound names what serves."""
        if not name and len(self.newest) == 1:
            name = next(iter(self.newest))
        codec = self._by_version.get((name, version)) if version else self.newest.get(name)
        if codec is None:
            raise NotFound(
                f"codec {name!r}" + (f" version {version}" if version else ""),
                allowed=", ".join(f"{codec.name} {codec.version}" for codec in self.codecs),
                fix="name one of these" if name else "say which codec: several serve",
            )
        return codec


def load_repository(roots: Sequence[Path], prepare: Callable[[Bundle], None]) -> Repository:
    """Every ``<root>/<name>/<version>`` folder, each passed to ``prepare``, which may refuse it too.

    A broken bundle is refused with its reason and the others serve; ConfigError if none does.
    """
    codecs: dict[tuple[str, int], ServedCodec] = {}
    names: dict[int, str] = {}
    refused = []
    for root in roots:
        for folder in _version_folders(root):
            path = f"{folder.parent.name}/{folder.name}"
            try:
                codec = ServedCodec(load_bundle(folder))
                if codec.manifest.twin_of:
                    continue  # made to be compared with, not to serve
                _check_place(codec, path, codecs, names)
                prepare(codec.bundle)
            except ConfigError:
                raise  # the runtime's fault, not the bundle's
            except (WeaklinkError, OSError) as error:
                refused.append(Refusal(path, str(error)))
                continue
            codecs[codec.name, codec.version] = codec
            names[codec.manifest.codec_id] = codec.name
    if not codecs:
        reasons = "; ".join(f"{refusal.path}: {refusal.reason}" for refusal in refused) or "no bundle found"
        raise ConfigError(
            f"no bundle can serve from {', '.join(map(str, roots)) or 'nowhere'} ({reasons})",
            allowed="folders that hold <name>/<version>/bundle.json",
            fix="change --bundles or WEAKLINK_BUNDLES, or export a bundle there",
        )
    return Repository(codecs.values(), refused)


def _version_folders(root: Path) -> list[Path]:
    """Also those without a manifest: an incomplete bundle must be seen as refused, not as absent."""
    found = [folder for folder in root.glob("*/*") if folder.is_dir() and folder.name.isdigit()]
    return sorted(found, key=lambda folder: (folder.parent.name, int(folder.name)))


def _check_place(
    codec: ServedCodec, path: str, codecs: dict[tuple[str, int], ServedCodec], names: dict[int, str]
) -> None:
    if f"{codec.name}/{codec.version}" != path:
        raise BundleError(
            f"the manifest says {codec.name} version {codec.version}",
            allowed=f"what the folder says, {path}",
            fix="rename the folder, or export the bundle again",
        )
    if (codec.name, codec.version) in codecs:
        raise BundleError(
            f"{path} is already loaded from {codecs[codec.name, codec.version].bundle.folder}",
            allowed="one folder per codec and version",
            fix="remove one of the two",
        )
    owner = names.get(codec.manifest.codec_id, codec.name)
    if owner != codec.name:
        raise BundleError(
            f"codec_id {codec.manifest.codec_id} belongs to {owner}",
            allowed="one codec name per codec_id",
            fix="export the bundle with a codec_id of its own",
        )
