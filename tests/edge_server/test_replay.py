"""The replay window: a standard sliding window, and one that outlives restarts, kills and a full disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server import replay
from edge_server.replay import WINDOW, ReplayWindows, Window
from semantic_codec.errors import ConfigError

KEY = b"key1"


def reopened(windows: ReplayWindows, path: Path) -> ReplayWindows:
    windows.close()
    return ReplayWindows(path)


@given(st.lists(st.integers(0, 300), max_size=200))
def test_the_window_takes_what_its_definition_says(sequences):
    window, taken, highest = Window(), set(), -1
    for sequence in sequences:
        fresh = sequence > highest or (sequence > highest - WINDOW and sequence not in taken)
        assert window.accept(sequence) is fresh
        if fresh:
            taken.add(sequence)
            highest = max(highest, sequence)
    assert window.sequences() == sorted(sequence for sequence in taken if sequence > highest - WINDOW)


def test_very_old_and_very_new_sequences():
    window = Window()
    assert window.accept(2**28 - 1) and not window.accept(0) and not window.accept(2**28 - 1)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 200)), max_size=60))
def test_a_restart_changes_nothing(tmp_path_factory, frames):
    path = tmp_path_factory.mktemp("replay") / "window"
    kept, lasting = ReplayWindows(None), ReplayWindows(path)
    for device, sequence in frames:
        lasting = reopened(lasting, path)
        assert lasting.accept(device, KEY, sequence) is kept.accept(device, KEY, sequence)
    lasting.close()


def test_a_killed_server_remembers_every_frame(tmp_path):
    """What was accepted is in the file at once, with no flush and no close."""
    path = tmp_path / "window"
    windows = ReplayWindows(path)
    for sequence in range(100):
        assert windows.accept(7, KEY, sequence)
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    found = ReplayWindows(copy)
    assert not any(found.accept(7, KEY, sequence) for sequence in range(100)) and found.accept(7, KEY, 100)
    found.close()
    windows.close()


def test_devices_and_keys_have_windows_of_their_own(tmp_path):
    path = tmp_path / "window"
    windows = ReplayWindows(path)
    assert windows.accept(7, KEY, 500) and windows.accept(8, KEY, 500) and windows.accept(7, b"new!", 0)
    windows = reopened(windows, path)
    assert not windows.accept(7, KEY, 0) and not windows.accept(7, b"new!", 0)
    windows.close()


def test_a_record_cut_short_loses_nothing_before_it(tmp_path):
    path = tmp_path / "window"
    windows = ReplayWindows(path)
    for sequence in range(10):
        windows.accept(7, KEY, sequence)
    windows.close()
    path.write_bytes(path.read_bytes()[:-5])
    windows = ReplayWindows(path)
    assert not windows.accept(7, KEY, 8) and windows.accept(7, KEY, 9)
    windows.close()


def test_a_damaged_record_costs_no_other(tmp_path, caplog):
    path = tmp_path / "window"
    windows = ReplayWindows(path)
    for device in range(20):
        windows.accept(device, KEY, 5)
    windows.close()
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    path.write_bytes(data)
    found = ReplayWindows(path)
    assert sum(found.accept(device, KEY, 5) for device in range(20)) == 1
    assert "1 damaged records of 20" in caplog.text
    found.close()


def test_the_file_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "SPARE_RECORDS", 100)
    path = tmp_path / "window"
    windows = ReplayWindows(path)
    for sequence in range(2000):
        windows.accept(7, KEY, sequence)
    assert path.stat().st_size <= 12 * (100 + WINDOW + 1)
    windows = reopened(windows, path)
    assert not windows.accept(7, KEY, 1999) and windows.accept(7, KEY, 2000)
    windows.close()


def test_a_full_disk_does_not_silence_the_devices(tmp_path, monkeypatch):
    path = tmp_path / "window"
    windows = ReplayWindows(path)
    with monkeypatch.context() as broken:
        broken.setattr(replay.os, "write", _no_space)
        assert windows.accept(7, KEY, 1) and windows.accept(7, KEY, 2) and not windows.accept(7, KEY, 2)
    assert windows.accept(7, KEY, 3)
    windows.flush_to_disk()()
    windows = reopened(windows, path)
    assert not any(windows.accept(7, KEY, sequence) for sequence in (1, 2, 3)), "written anew once there was room"
    windows.close()


def _no_space(*_):
    raise OSError(28, os.strerror(28))


def test_one_server_per_file(tmp_path):
    first = ReplayWindows(tmp_path / "window")
    with pytest.raises(ConfigError, match="another server uses it"):
        ReplayWindows(tmp_path / "window")
    first.close()
    first.close()
    ReplayWindows(tmp_path / "window").close()


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--replay-file"):
        ReplayWindows(tmp_path / "nowhere" / "window")
