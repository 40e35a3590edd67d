"""Bundles from folders: those that serve, by name and version, and those that were refused, with the reason."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from edge_server.codec_statistics import CodecStatistics
from semantic_codec.bundle import MEASURED, Bundle, Level, Manifest, is_version, load_bundle
from semantic_codec.errors import BundleError, ConfigError, NotFound, WeaklinkError

TOLERANCE = 1.0  # points of accuracy that a shorter level may cost and still be advised
DEFAULT = "default"
"""File beside a codec's version folders that holds the number of its default version; without it, that is the newest."""
_OF_THE_VOLUME = "lost+found"
"""At the root of a file system, and for nobody to enter: no codec's folder."""
_revisions = count(1)


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
        if measured_here and row.keys() >= set(MEASURED):
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
    """A bundle and what each request needs of it, looked up once. ``revision`` differs for each that is ever made.

    ``in_flight`` is of what needs its network: requests that were checked against it and have not ended, and those that an
    engine was given and still has, also where they ended as late.
    """

    def __init__(self, bundle: Bundle):
        self.revision = next(_revisions)
        self.in_flight = 0
        self._on_idle: Callable[[], None] | None = None
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
        self.statistics = CodecStatistics()

    def leave(self) -> None:
        """What counted in ``in_flight`` no longer needs it."""
        self.in_flight -= 1
        if self._on_idle is not None and not self.in_flight:
            self._on_idle()

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Have ``on_idle`` called once nothing is in flight, now perhaps; to be called when no request can find it."""
        if self.in_flight:
            self._on_idle = on_idle
        else:
            on_idle()


@dataclass(frozen=True)
class Catalogue:
    """What serves at one time. ``defaults``: default version by name; where there is none, the newest. ``twins``: what is
    sound and never serves."""

    codecs: tuple[ServedCodec, ...] = ()
    refused: tuple[Refusal, ...] = ()
    defaults: Mapping[str, int] = field(default_factory=dict)
    twins: tuple[Refusal, ...] = ()


class Repository:
    """What serves. ``codecs`` by name, then version; ``default`` and ``newest`` by name.

    Belongs to the event loop's thread once it serves.
    """

    def __init__(self, catalogue: Catalogue):
        self._watchers: list[Callable[[], None]] = []
        self.replace(catalogue)

    def replace(self, catalogue: Catalogue) -> None:
        """Serve this from the next request on, and tell whoever watches."""
        self.codecs = tuple(sorted(catalogue.codecs, key=lambda codec: (codec.name, codec.version)))
        self.refused, self.twins = catalogue.refused, catalogue.twins
        self.newest = {codec.name: codec for codec in self.codecs}
        self._by_version = {(codec.name, codec.version): codec for codec in self.codecs}
        self.default = {
            name: self._by_version.get((name, catalogue.defaults.get(name, 0)), newest)
            for name, newest in self.newest.items()
        }
        for changed in self._watchers:
            changed()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed()`` now and after each replacement."""
        self._watchers.append(changed)
        changed()

    def catalogue(self) -> Catalogue:
        """What :meth:`replace` would need to bring this state back."""
        defaults = {name: codec.version for name, codec in self.default.items()}
        return Catalogue(self.codecs, self.refused, defaults, self.twins)

    def get(self, name: str, version: int = 0) -> ServedCodec:
        """An empty name is the only codec, a version of 0 the default one. NotFound names what serves."""
        if not name and len(self.default) == 1:
            name = next(iter(self.default))
        codec = self._by_version.get((name, version)) if version else self.default.get(name)
        if codec is None:
            raise NotFound(
                f"codec {name!r}" + (f" version {version}" if version else ""),
                allowed=", ".join(f"{codec.name} {codec.version}" for codec in self.codecs) or "none serves",
                fix="name one of these" if name else "say which codec: several serve",
            )
        return codec


Prepare = Callable[[Bundle, int], None]
"""Readies a bundle of a revision to serve, or raises a :class:`WeaklinkError` that refuses it."""


def load_repository(roots: Sequence[Path], prepare: Prepare) -> Repository:
    """Every ``<root>/<name>/<version>`` folder, each passed to ``prepare``, which may refuse it too.

    A broken bundle is refused with its reason and the others serve; ConfigError if none does.
    """
    return Repository(scan(roots, prepare))


def scan(roots: Sequence[Path], prepare: Prepare, earlier: Catalogue = Catalogue(), only: str = "") -> Catalogue:
    """What serves next, where ``earlier`` serves now: a bundle that did not change stays as it is, one that cannot be
    loaded is refused and its earlier self stays, as does what is in a folder that cannot be read; one whose folder is gone
    goes. ConfigError if nothing would serve.

    ``only`` is the one codec to look at; the others stay.
    """
    before = {(codec.name, codec.version): codec for codec in earlier.codecs}
    folders, unread = version_folders(roots, only)
    kept = [
        codec
        for codec in earlier.codecs
        if (only and codec.name != only) or not unread.keys().isdisjoint(codec.bundle.folder.parents)
    ]
    kept_names = {codec.name for codec in kept}
    codecs = {(codec.name, codec.version): codec for codec in kept}
    # Who serves under a codec_id keeps it: whoever comes with the same one is refused, wherever its name stands.
    names = {codec.manifest.codec_id: codec.name for codec in earlier.codecs if codec in kept or codec.bundle.folder in folders}
    refused, twins = (
        [refusal for refusal in refusals if only and refusal.path.split("/")[0] != only]
        for refusals in (earlier.refused, earlier.twins)
    )
    for root in roots:
        if not (only or root in unread or root.is_dir()):
            refused.append(Refusal(str(root), "there is no such folder"))
    for folder, reason in unread.items():
        if folder not in roots or not only:
            refused.append(Refusal(str(folder) if folder in roots else folder.name, f"cannot be read ({reason})"))
    for folder in folders:
        path = f"{folder.parent.name}/{folder.name}"
        old = before.get((folder.parent.name, int(folder.name)))
        try:
            bundle = load_bundle(folder)
            if bundle.manifest.twin_of:
                reason = f"it is a twin of {bundle.manifest.twin_of}, made to be compared with and not to serve"
                twins.append(Refusal(path, reason))
                continue
            codec = old if old and old.manifest.raw == bundle.manifest.raw else ServedCodec(bundle)
            _check_place(codec, path, codecs, names)
            if codec is not old:
                prepare(bundle, codec.revision)
        except ConfigError:
            raise  # the runtime's fault, not the bundle's
        except Exception as error:  # also what no check foresaw: the others serve
            foreseen = isinstance(error, WeaklinkError | OSError)
            refused.append(Refusal(path, str(error) if foreseen else repr(error)))
            if old is None or (old.name, old.version) in codecs:
                continue
            codec = old
        codecs[codec.name, codec.version] = codec
        names[codec.manifest.codec_id] = codec.name
    if not codecs:
        reasons = "; ".join(f"{refusal.path}: {refusal.reason}" for refusal in refused + twins) or "no bundle found"
        raise ConfigError(
            f"no bundle can serve from {', '.join(map(str, roots)) or 'nowhere'} ({reasons})",
            allowed="folders that hold <name>/<version>/bundle.json",
            fix="change --bundles or WEAKLINK_BUNDLES, or export a bundle there",
        )
    defaults = {name: version for name, version in earlier.defaults.items() if name in kept_names}
    for name in {name for name, _ in codecs} - kept_names:
        _read_default(name, roots, codecs, earlier, defaults, refused)
    return Catalogue(tuple(codecs.values()), tuple(refused), defaults, tuple(twins))


def version_folders(roots: Sequence[Path], only: str = "") -> tuple[list[Path], dict[Path, str]]:
    """Of each root, by name and version; also those without a manifest: an incomplete bundle must be seen as refused, not
    as absent. And which roots and codecs' folders cannot be read, with the reason."""
    found: list[Path] = []
    unread: dict[Path, str] = {}
    for root in roots:
        for codec in sorted(_folders(root, unread)):
            if codec.name == only or (not only and codec.name != _OF_THE_VOLUME):
                versions = [folder for folder in _folders(codec, unread) if is_version(folder.name)]
                found += sorted(versions, key=lambda folder: int(folder.name))
    return found, unread


def _folders(folder: Path, unread: dict[Path, str]) -> list[Path]:
    """Those in a folder, none where it is gone."""
    try:
        with os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if _is_folder(entry)]
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        unread[folder] = error.strerror
    return []


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to where this user may not look: refused when it is read
        return True


def _read_default(
    name: str,
    roots: Sequence[Path],
    codecs: Mapping[tuple[str, int], ServedCodec],
    earlier: Catalogue,
    defaults: dict[str, int],
    refused: list[Refusal],
) -> None:
    """Into ``defaults``, what the first DEFAULT file of the codec says; where that cannot be, what was, and a refusal."""
    for path in (root / name / DEFAULT for root in roots):
        try:
            text = path.read_text().strip()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            text = str(error)
        if is_version(text) and (name, int(text)) in codecs:
            defaults[name] = int(text)
        else:
            versions = ", ".join(str(version) for codec, version in sorted(codecs) if codec == name)
            reason = f"the default version is {text[:80]!r}; allowed: {versions}; fix: correct or remove the file"
            refused.append(Refusal(f"{name}/{DEFAULT}", reason))
            if name in earlier.defaults:
                defaults[name] = earlier.defaults[name]
        return


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
