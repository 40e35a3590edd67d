"""Files that an operator may replace while the server runs."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from semantic_codec.errors import ConfigError

T = TypeVar("T")
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR)
"""Reasons why a file cannot be read that say nothing about the file: the next look tries again."""
log = logging.getLogger(__name__)


class WatchedFile(Generic[T]):
    """What ``read()`` made of some files. Any thread may use ``value``; one thread calls :meth:`reload`.

    name: for the log and the metric. ConfigError: the files cannot be used. Only at construction: later bad files
    leave the value as it is.
    """

    def __init__(self, name: str, paths: Sequence[Path], read: Callable[[], T]):
        self.name, self._paths, self._read = name, paths, read
        self._seen = self._stamps()
        self.value = read()

    def reload(self) -> str | None:
        """Read again where a file changed: "ok", "failed" (the old value stays), or None where none did."""
        stamps = self._stamps()
        if stamps == self._seen:
            return None
        try:
            self.value = self._read()
        except Exception as error:  # also what nobody foresaw in a file: the next look must come
            if getattr(error.__context__, "errno", None) not in _PASSING:
                self._seen = stamps
            reason = error if isinstance(error, ConfigError) else repr(error)
            log.warning("%s not reloaded, the earlier ones stay: %s", self.name, reason)
            return "failed"
        self._seen = stamps
        log.info("%s reloaded", self.name)
        return "ok"

    def _stamps(self) -> list[tuple[int, ...] | None]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does; None where there is none. Its mode is part: chmod may make it usable."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode
