"""The keys file: read, refused, reloaded."""

from __future__ import annotations

import os
from pathlib import Path

from edge_server.keyring import Keyring
from tests.semantic_codec.test_key_file import ONE, TWO, secret


def test_a_changed_file_is_read_again(tmp_path: Path):
    path = secret(tmp_path / "keys.toml", f'7 = "{ONE}"\n')
    keys = Keyring(path)
    assert list(keys) == [7] and keys.reload() is None
    secret(path, f'7 = "{TWO}"\n8 = "{ONE}"\n')
    assert keys.reload() == "ok" and keys.reload() is None
    assert len(keys) == 2 and keys[7].secret.hex() == TWO and 9 not in keys


def test_a_bad_file_keeps_the_earlier_keys(tmp_path: Path):
    path = secret(tmp_path / "keys.toml", f'7 = "{ONE}"\n')
    keys = Keyring(path)
    secret(path, "7 = 1\n")
    assert keys.reload() == "failed" and keys[7].secret.hex() == ONE
    path.unlink()
    assert keys.reload() == "failed" and keys[7].secret.hex() == ONE
    secret(path, f'9 = "{TWO}"\n')
    assert keys.reload() == "ok" and list(keys) == [9]


def test_a_file_that_no_check_foresaw_keeps_the_earlier_keys(tmp_path: Path):
    path = secret(tmp_path / "keys.json", f'{{"7": "{ONE}"}}')
    keys = Keyring(path)
    secret(path, "[" * 100_000)  # RecursionError
    assert keys.reload() == "failed" and keys.reload() is None and keys[7].secret.hex() == ONE


def test_a_replaced_file_of_the_same_size_is_noticed(tmp_path: Path):
    path = secret(tmp_path / "keys.toml", f'7 = "{ONE}"\n')
    keys = Keyring(path)
    other = secret(tmp_path / "new.toml", f'7 = "{TWO}"\n')
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert keys.reload() == "ok" and keys[7].secret.hex() == TWO
