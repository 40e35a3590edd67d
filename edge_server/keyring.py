"""The devices' keys, read again when their file changes."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from semantic_codec.errors import ConfigError
from semantic_codec.key_file import read_keys
from semantic_codec.keyed import DeviceKey

_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR)
"""Reasons why a file cannot be read that say nothing about the file: the next look tries again."""
log = logging.getLogger(__name__)


class Keyring(Mapping[int, DeviceKey]):
    """Keys by device number. Any thread may look them up; one thread calls :meth:`reload`.

    ConfigError: the file cannot be used. Only at construction: a later bad file leaves the keys as they are.
    """

    def __init__(self, path: Path):
        self._path = path
        self._seen = self._stamp()
        self._keys = read_keys(path)

    def __getitem__(self, device: int) -> DeviceKey:
        return self._keys[device]

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def reload(self) -> str | None:
        """Read the file again where it changed: "ok", "failed" (the old keys stay), or None where it did not."""
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        try:
            self._keys = read_keys(self._path)
        except ConfigError as error:
            if getattr(error.__context__, "errno", None) not in _PASSING:
                self._seen = stamp
            log.warning("keys not reloaded, the earlier %d stay: %s", len(self._keys), error)
            return "failed"
        self._seen = stamp
        log.info("keys of %d devices reloaded", len(self._keys))
        return "ok"

    def _stamp(self) -> tuple[int, ...] | None:
        """What changes when the file does; None where there is none. Its mode is part: chmod may make it usable."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode
