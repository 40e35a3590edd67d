"""``weaklink keys``: both halves of every secret, made once, and struck for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from device_client.credentials import read_token
from edge_server.keys_command import device_list, main
from edge_server.tokens import Caller, Role, read_tokens
from semantic_codec.errors import ConfigError
from semantic_codec.key_file import read_key, read_keys


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_edge_and_owners_get_their_halves(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = tmp_path / "secrets"
    assert main(["init", str(folder), "--devices", "1,7"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 6 and "--tokens" in said.err
    keys, tokens = read_keys(folder / "edge/keys.toml"), read_tokens(folder / "edge/tokens.toml")
    for device in (1, 7):
        assert keys[device] == read_key(folder / f"devices/{device}.key")
        token = read_token(folder / f"devices/{device}.token")
        assert tokens.caller(token) == Caller(str(device), Role.DEVICES)
    for role in (Role.METRICS, Role.ADMIN):
        token = (folder / f"{role.value}/{role.value}.token").read_text().strip()
        assert tokens.caller(token) == Caller(role.value, role)
    assert mode(folder / "metrics/metrics.token") == 0o644 and mode(folder / "metrics") == 0o755
    for name in ("edge", "devices", "admin"):
        assert mode(folder / name) == 0o700
        assert {mode(path) for path in (folder / name).iterdir()} == {0o600}


def test_a_second_call_adds_what_is_missing_and_changes_nothing(tmp_path: Path):
    main(["init", str(tmp_path), "--devices", "1"])
    (tmp_path / "devices/1.token").unlink()  # handed over to the device
    before = {path: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert main(["init", str(tmp_path), "--devices", "1"]) == 0
    assert {path: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()} == before
    assert main(["init", str(tmp_path), "--devices", "2"]) == 0
    assert set(read_keys(tmp_path / "edge/keys.toml")) == {1, 2}
    tokens = read_tokens(tmp_path / "edge/tokens.toml")
    for name in ("admin/admin.token", "devices/2.token"):
        assert tokens.caller((tmp_path / name).read_text().strip()) is not None


@pytest.mark.parametrize("tail", ["", "\n# spare"])
def test_a_keys_file_without_a_newline_at_its_end_is_added_to(tmp_path: Path, tail: str):
    main(["init", str(tmp_path), "--devices", "7"])
    keys = tmp_path / "edge/keys.toml"
    keys.write_text(keys.read_text().rstrip("\n") + tail)
    assert main(["init", str(tmp_path), "--devices", "8"]) == 0
    assert set(read_keys(keys)) == {7, 8}


@pytest.mark.parametrize("writes", range(12))
def test_a_call_that_was_cut_short_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int):
    """Wherever it was cut: an owner's file and what the edge knows of it belong together afterwards."""
    left = iter(range(writes))

    def cut(change):
        def changed(*arguments):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return change(*arguments)

        return changed

    with monkeypatch.context() as cutting, pytest.raises(KeyboardInterrupt):
        cutting.setattr(Path, "rename", cut(Path.rename))
        cutting.setattr("edge_server.keys_command.os.replace", cut(os.replace))
        cutting.setattr("edge_server.keys_command.os.fsync", cut(os.fsync))
        main(["init", str(tmp_path)])
    assert main(["init", str(tmp_path)]) == 0
    assert read_keys(tmp_path / "edge/keys.toml") == {1: read_key(tmp_path / "devices/1.key")}
    tokens = read_tokens(tmp_path / "edge/tokens.toml")
    for name in ("devices/1", "metrics/metrics", "admin/admin"):
        assert tokens.caller((tmp_path / f"{name}.token").read_text().strip())
    assert not list(tmp_path.rglob("*.new"))


def test_who_was_struck_by_hand_stays_so(tmp_path: Path, capsys: pytest.CaptureFixture):
    main(["init", str(tmp_path), "--devices", "1,2"])
    stolen = (tmp_path / "devices/2.key").read_text()
    keys, tokens = tmp_path / "edge/keys.toml", tmp_path / "edge/tokens.toml"
    keys.write_text(keys.read_text().splitlines(keepends=True)[0])
    tokens.write_text("".join(line for line in tokens.read_text().splitlines(True) if line[:2] not in ('"2', '"a')))
    before = (keys.read_text(), tokens.read_text().split())
    capsys.readouterr()
    assert main(["init", str(tmp_path), "--devices", "1,2"]) == 0
    assert (keys.read_text(), tokens.read_text().split()) == before
    said = capsys.readouterr()
    struck = [f"{tmp_path / name}: the edge does not know it" for name in ("devices/2.key", "devices/2.token", "admin/admin.token")]
    assert not said.out and [line.split(", so")[0] for line in said.err.splitlines()[:-1]] == struck
    for path in (tmp_path / "devices").glob("2.*"):
        path.unlink()
    assert main(["init", str(tmp_path), "--devices", "2"]) == 0
    assert read_keys(keys)[2] == read_key(tmp_path / "devices/2.key") and (tmp_path / "devices/2.key").read_text() != stolen


def test_a_struck_device_gets_another_key(tmp_path: Path, capsys: pytest.CaptureFixture):
    main(["init", str(tmp_path), "--devices", "1,2,3"])
    (tmp_path / "devices/2.key.sequence").write_text("512\n")
    keys, tokens = tmp_path / "edge/keys.toml", tmp_path / "edge/tokens.toml"
    keys.write_text(f"# spare\n{keys.read_text()}".replace("\n2 =", '\n "02" ='))
    stolen, token = read_key(tmp_path / "devices/2.key"), read_token(tmp_path / "devices/2.token")
    capsys.readouterr()
    assert main(["strike", str(tmp_path), "--devices", "2-3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert set(read_keys(keys)) == {1} and keys.read_text().startswith("# spare")
    assert read_tokens(tokens).caller(token) is None and read_tokens(tokens).caller(read_token(tmp_path / "devices/1.token"))
    assert {path.name for path in (tmp_path / "devices").iterdir()} == {"1.key", "1.token", "2.key.sequence"}
    assert main(["init", str(tmp_path), "--devices", "1,2"]) == 0
    assert read_keys(keys)[2] == read_key(tmp_path / "devices/2.key") != stolen
    assert read_tokens(tokens).caller(token) is None


def test_what_cannot_be_struck_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture):
    main(["init", str(tmp_path), "--devices", "1,2"])
    keys = tmp_path / "edge/keys.toml"
    before = {path: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert main(["strike", str(tmp_path), "--devices", "2,7"]) == 2
    assert "device 7 has neither key nor token" in capsys.readouterr().err
    assert {path: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()} == before
    keys.write_text(escaped := keys.read_text().replace("2 =", '"\\u0032" ='))
    assert main(["strike", str(tmp_path), "--devices", "2"]) == 2
    assert "by hand" in capsys.readouterr().err and keys.read_text() == escaped
    assert main(["strike", str(tmp_path / "nowhere"), "--devices", "2"]) == 2


def test_owner_group_and_mode_of_the_edges_files_stay(tmp_path: Path):
    """A service reads them by its group."""
    main(["init", str(tmp_path)])
    owner, group = (1234, 5678) if os.geteuid() == 0 else (os.geteuid(), os.getgroups()[-1])
    files = [tmp_path / "edge/keys.toml", tmp_path / "edge/tokens.toml"]
    for path in files:
        os.chown(path, owner, group)
        path.chmod(0o640)
    assert main(["init", str(tmp_path), "--devices", "2"]) == 0
    for path in files:
        assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (owner, group, 0o640)
    assert set((tmp_path / "edge").iterdir()) == set(files)


def test_a_group_that_cannot_be_kept_is_named(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    main(["init", str(tmp_path)])
    keys = tmp_path / "edge/keys.toml"
    before, own = keys.read_text(), os.fstat

    def of_another_group(handle: int) -> os.stat_result:
        status = list(own(handle))
        status[5] += 1
        return os.stat_result(status)

    def refuse(*_) -> None:
        raise PermissionError

    monkeypatch.setattr("edge_server.keys_command.os.fstat", of_another_group)
    monkeypatch.setattr("edge_server.keys_command.os.fchown", refuse)
    assert main(["init", str(tmp_path), "--devices", "2"]) == 2
    assert f"{keys} is of the group {keys.stat().st_gid}" in capsys.readouterr().err
    assert keys.read_text() == before and len(list(keys.parent.iterdir())) == 2


def test_nothing_is_written_through_a_link(tmp_path: Path):
    main(["init", str(tmp_path)])
    (victim := tmp_path / "victim").write_text("as it was")
    for name in ("keys.new", "tokens.new"):
        (tmp_path / "edge" / name).symlink_to(victim)
    assert main(["init", str(tmp_path), "--devices", "2"]) == 0
    assert victim.read_text() == "as it was"
    assert set(read_keys(tmp_path / "edge/keys.toml")) == {1, 2}


def test_device_lists(tmp_path: Path):
    assert device_list("7, 1,10-12,11") == [1, 7, 10, 11, 12]
    for text in ("", "a", "-1", "5-", "65536", "3-1", "0-65535", "1,,2", "1-2-3"):
        with pytest.raises(ConfigError, match="--devices is"):
            device_list(text)


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "file").write_text("")
    assert main(["init", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err
