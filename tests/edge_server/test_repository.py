from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from edge_server.repository import LevelAdvice, load_repository
from semantic_codec.bundle import Bundle, parse_manifest
from semantic_codec.errors import BundleError, ConfigError, NotFound
from tests.edge_server.conftest import make_bundle


def accept(*_) -> None:
    """A runtime that takes every bundle."""


def break_hash(folder: Path) -> None:
    (folder / "encoder.bin").write_bytes(b"another encoder")


def remove_weights(folder: Path) -> None:
    (folder / "edge.safetensors").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / "bundle.json").unlink()


def change(**fields):
    def edit(folder: Path) -> None:
        path = folder / "bundle.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return edit


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_hash, "encoder.bin has the SHA-256"),
        (remove_weights, "edge.safetensors is missing"),
        (remove_manifest, "there is no"),
        (change(schema_version=99), "schema_version is 99"),
        (change(name="impostor"), "the manifest says impostor version 3"),
        (change(codec_id=64), "codec_id is 64"),
        (change(accuracy=[5]), "accuracy has the row 5"),
        (change(tasks=[{"name": ["a"], "classes": ["b"]}]), "tasks name ['a']"),
    ],
)
def test_a_broken_bundle_is_refused_and_the_others_serve(tmp_path: Path, damage, reason: str):
    make_bundle(tmp_path)
    damage(make_bundle(tmp_path, "worse", 3, codec_id=9))
    repository = load_repository([tmp_path], accept)
    assert [codec.name for codec in repository.codecs] == ["toy"]
    (refusal,) = repository.refused
    assert refusal.path == "worse/3" and reason in refusal.reason


def test_a_bundle_that_fails_as_no_check_foresees_is_refused_and_the_others_serve(tmp_path: Path):
    def prepare(bundle: Bundle, _) -> None:
        if bundle.manifest.name == "worse":
            raise KeyError("heads")

    make_bundle(tmp_path)
    make_bundle(tmp_path, "worse", codec_id=9)
    repository = load_repository([tmp_path], prepare)
    assert [codec.name for codec in repository.codecs] == ["toy"]
    assert [(refusal.path, refusal.reason) for refusal in repository.refused] == [("worse/1", "KeyError('heads')")]


def test_a_root_that_is_not_there_is_told_and_the_others_serve(tmp_path: Path):
    make_bundle(tmp_path / "here")
    repository = load_repository([tmp_path / "here", tmp_path / "typo"], accept)
    assert [codec.name for codec in repository.codecs] == ["toy"]
    assert [(refusal.path, refusal.reason) for refusal in repository.refused] == [(str(tmp_path / "typo"), "there is no such folder")]


def sealed(patch: pytest.MonkeyPatch, *folders: Path, listed: bool = False) -> None:
    """Folders of another owner: none that this user may enter, nor list unless ``listed``. Root is refused nothing."""
    scandir, stat = os.scandir, Path.stat

    def denied(path: Path) -> PermissionError:
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def guarded_scandir(path):
        if path in folders and not listed:
            raise denied(path)
        return scandir(path)

    def guarded_stat(path: Path, **options):
        if not set(path.parents).isdisjoint(folders):
            raise denied(path)
        return stat(path, **options)

    patch.setattr(os, "scandir", guarded_scandir)
    patch.setattr(Path, "stat", guarded_stat)


@pytest.mark.parametrize("listed", [False, True])
def test_a_folder_that_cannot_be_read_is_refused_and_the_others_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool):
    make_bundle(tmp_path)
    worse = make_bundle(tmp_path, "worse", 3, codec_id=9).parent
    sealed(monkeypatch, worse, listed=listed)
    repository = load_repository([tmp_path], accept)
    assert [codec.name for codec in repository.codecs] == ["toy"]
    (refusal,) = repository.refused
    assert refusal.path == ("worse/3" if listed else "worse") and "Permission denied" in refusal.reason
    sealed(monkeypatch, tmp_path, listed=listed)
    with pytest.raises(ConfigError, match="Permission denied"):
        load_repository([tmp_path], accept)


def test_the_folder_for_what_a_file_system_found_is_no_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_bundle(tmp_path)
    (tmp_path / "lost+found").mkdir()
    sealed(monkeypatch, tmp_path / "lost+found")
    assert not load_repository([tmp_path], accept).refused


def test_a_folder_that_is_no_number_is_no_version(tmp_path: Path):
    make_bundle(tmp_path)
    (tmp_path / "toy" / "²").mkdir()
    (tmp_path / "toy" / "9").mkdir()
    (tmp_path / "toy" / "default").write_text("²")
    repository = load_repository([tmp_path], accept)
    assert repository.get("toy").version == 1
    assert [refusal.path for refusal in repository.refused] == ["toy/9", "toy/default"]


def test_a_twin_does_not_serve(tmp_path: Path):
    make_bundle(tmp_path)
    change(twin_of="toy")(make_bundle(tmp_path, "toy-blind"))
    repository = load_repository([tmp_path], accept)
    assert [codec.name for codec in repository.codecs] == ["toy"] and not repository.refused
    (twin,) = repository.twins
    assert twin.path == "toy-blind/1" and "a twin of toy" in twin.reason
    shutil.rmtree(tmp_path / "toy")
    with pytest.raises(ConfigError, match="a twin of toy"):
        load_repository([tmp_path], accept)


def test_what_the_runtime_refuses_is_refused(tmp_path: Path):
    make_bundle(tmp_path)
    make_bundle(tmp_path, version=2)

    def prepare(bundle: Bundle, revision: int) -> None:
        if bundle.manifest.version == 2:
            raise BundleError("weights do not fit", allowed="others", fix="export again")

    repository = load_repository([tmp_path], prepare)
    assert repository.get("toy").version == 1
    assert "weights do not fit" in repository.refused[0].reason


def test_two_codecs_may_not_share_a_number_nor_two_folders_a_version(tmp_path: Path):
    make_bundle(tmp_path / "one")
    make_bundle(tmp_path / "two")
    make_bundle(tmp_path / "two", "zebra")
    repository = load_repository([tmp_path / "one", tmp_path / "two"], accept)
    assert [(one.path, one.reason.split(";")[0].split(" from ")[0]) for one in repository.refused] == [
        ("toy/1", "toy/1 is already loaded"),
        ("zebra/1", "codec_id 5 belongs to toy"),
    ]


def test_names_and_versions(tmp_path: Path):
    for version in (1, 2, 10):
        make_bundle(tmp_path, version=version)
    repository = load_repository([tmp_path], accept)
    assert [repository.get(name, version).version for name, version in (("toy", 0), ("", 0), ("toy", 2), ("", 1))] == [
        10, 10, 2, 1,
    ]  # fmt: skip
    for name, version in (("other", 0), ("toy", 3)):
        with pytest.raises(NotFound, match="toy 1, toy 2, toy 10"):
            repository.get(name, version)
    make_bundle(tmp_path, "zebra", codec_id=9)
    with pytest.raises(NotFound, match="say which codec"):
        load_repository([tmp_path], accept).get("")


def test_nothing_to_serve_is_an_error_with_the_reasons(tmp_path: Path):
    with pytest.raises(ConfigError, match="absent: there is no such folder"):
        load_repository([tmp_path / "absent"], accept)
    with pytest.raises(ConfigError, match="no bundle found"):
        load_repository([tmp_path], accept)
    break_hash(make_bundle(tmp_path))
    with pytest.raises(ConfigError, match="toy/1: bundle refused: encoder.bin has the SHA-256"):
        load_repository([tmp_path], accept)


def test_advice_is_the_shortest_level_within_a_point(tmp_path: Path):
    raw = json.loads((make_bundle(tmp_path) / "bundle.json").read_text())
    advice = LevelAdvice(parse_manifest(raw))
    assert [advice.level(ber) for ber in (0.0, 1e-3, 1e-2, 0.02, 0.1, 0.4)] == [1, 1, 1, 2, 2, 2]
    assert LevelAdvice(parse_manifest(raw | {"accuracy": []})).level(0.01) is None


def test_advice_ignores_rows_of_other_channels_and_bundles(tmp_path: Path):
    raw = json.loads((make_bundle(tmp_path) / "bundle.json").read_text())
    flattering = [
        {"ber": 0.1, "level": 0, "accuracy_percent": 99, "channel": "bursts"},
        {"ber": 0.1, "level": 0, "accuracy_percent": 99, "bundle": "toy-blind"},
    ]
    advice = LevelAdvice(parse_manifest(raw | {"accuracy": raw["accuracy"] + flattering}))
    assert advice.level(0.1) == 2
