"""Sequences are never handed out twice, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_client import sequences
from device_client.sequences import SequenceFile
from semantic_codec.errors import ConfigError, Unavailable


@mock.patch("os.fsync")  # a disk takes milliseconds for each, and no power is cut here
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 5))
def test_no_number_comes_twice(fsync, tmp_path_factory, runs, block):
    path = tmp_path_factory.mktemp("device") / "sequence"
    taken = []
    for count in runs:
        file = SequenceFile(path, block)
        taken += [file.take() for _ in range(count)]
        file.close()
    assert taken == sorted(set(taken)) and (not taken or taken[0] == 0)


def test_the_rest_of_a_block_is_skipped(tmp_path: Path):
    file = SequenceFile(tmp_path / "sequence", block=16)
    assert [file.take() for _ in range(17)] == list(range(17))
    file.close()
    assert (tmp_path / "sequence").read_text() == "32\n"
    file = SequenceFile(tmp_path / "sequence", block=16)
    assert file.take() == 32
    file.close()


def test_a_killed_process_wrote_its_block_before_it_used_it(tmp_path: Path):
    path = tmp_path / "sequence"
    code = (
        "import os\nfrom device_client.sequences import SequenceFile\n"
        f"print(SequenceFile({str(path)!r}).take(), flush=True)\nos._exit(9)"
    )
    root = Path(__file__).parents[2]
    firsts = [
        int(subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, timeout=60).stdout)
        for _ in range(2)
    ]
    assert firsts == [0, 256]


def test_two_processes_cannot_share_a_file(tmp_path: Path):
    first = SequenceFile(tmp_path / "sequence")
    with pytest.raises(ConfigError, match="another process uses it"):
        SequenceFile(tmp_path / "sequence")
    first.close()
    first.close()
    SequenceFile(tmp_path / "sequence").close()


def test_a_link_is_the_file_that_it_names(tmp_path: Path):
    link, target = tmp_path / "link", tmp_path / "sequence"
    link.symlink_to(target)
    file = SequenceFile(link, block=4)
    with pytest.raises(ConfigError, match="another process uses it"):
        SequenceFile(target)
    assert file.take() == 0
    file.close()
    assert link.is_symlink() and target.read_text() == "4\n"


def test_the_last_number(tmp_path: Path):
    path = tmp_path / "sequence"
    path.write_text(str(2**28 - 1))
    file = SequenceFile(path)
    assert file.take() == 2**28 - 1
    for _ in range(2):
        with pytest.raises(Unavailable, match="new key on both ends"):
            file.take()
        file.close()
        file = SequenceFile(path)
    file.close()


@pytest.mark.parametrize("content", ["", "x", "-1", str(2**28 + 1)])
def test_a_damaged_file_is_refused_rather_than_begun_anew(tmp_path: Path, content):
    path = tmp_path / "sequence"
    path.write_text(content)
    for _ in range(2):
        with pytest.raises(ConfigError, match="never go back"):
            SequenceFile(path)


def test_a_disk_that_cannot_be_written_hands_out_nothing(tmp_path: Path, monkeypatch):
    file = SequenceFile(tmp_path / "sequence", block=1)
    assert file.take() == 0
    with monkeypatch.context() as broken:
        broken.setattr(sequences.os, "fsync", _fail)
        with pytest.raises(ConfigError, match="cannot be used"):
            file.take()
    assert file.take() == 1
    file.close()


def _fail(_):
    raise OSError(28, "No space left on device")


def test_a_system_that_is_no_unix_hands_out_the_same(tmp_path: Path, monkeypatch):
    real_open = os.open

    def open_file(path, *flags):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *flags)

    monkeypatch.setattr(sequences, "fcntl", None)
    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.delattr(os, "O_CLOEXEC")
    for first in (0, 4):
        file = SequenceFile(tmp_path / "sequence", block=4)
        assert [file.take(), file.take()] == [first, first + 1]
        file.close()


def test_a_closed_file_hands_out_nothing(tmp_path: Path):
    file = SequenceFile(tmp_path / "sequence")
    assert file.take() == 0
    file.close()
    with pytest.raises(ConfigError, match="it is closed"):
        file.take()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # other tests' threads: the child takes none of their locks
def test_a_forked_process_hands_out_nothing(tmp_path: Path):
    file = SequenceFile(tmp_path / "sequence")
    assert file.take() == 0
    child = os.fork()
    if not child:
        try:
            with pytest.raises(ConfigError, match="forked.*in the process that uses it"):
                file.take()
            file.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(ConfigError, match="another process uses it"):  # what the child closed was not the lock
        SequenceFile(tmp_path / "sequence")
    assert file.take() == 1
    file.close()


def test_refused_at_construction(tmp_path: Path):
    with pytest.raises(ConfigError, match="block is 0"):
        SequenceFile(tmp_path / "sequence", 0)
    with pytest.raises(ConfigError, match="cannot be used"):
        SequenceFile(tmp_path / "nowhere" / "sequence")
