"""Which sequences of keyed frames were taken: a sliding window per key, kept in a file so that it outlives a restart.

Each frame that is taken appends one record before it is answered. A killed process loses nothing, for the operating
system holds what was written; a power cut may lose the records since the last :meth:`ReplayWindows.flush_to_disk`.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from binascii import crc_hqx
from collections.abc import Callable
from pathlib import Path

from semantic_codec.errors import ConfigError

try:
    import fcntl
except ImportError:  # not a Unix: two servers that share a file are not noticed
    fcntl = None

WINDOW = 64
SPARE_RECORDS = 65_536
"""Records beyond those needed at which the file is written anew: under 1 MB."""

_RECORD = struct.Struct(">H4sI")
_SIZE = _RECORD.size + 2
log = logging.getLogger(__name__)


class Window:
    """The sliding window of RFC 4303, section 3.4.3: the highest sequence taken, and a bit for each of the last 64."""

    __slots__ = ("highest", "taken")

    def __init__(self) -> None:
        self.highest, self.taken = -1, 0

    def accept(self, sequence: int) -> bool:
        """Take a sequence: False where it was taken before, or is older than the window."""
        ahead = sequence - self.highest
        if ahead > 0:
            self.taken = (self.taken << ahead | 1) & (1 << WINDOW) - 1 if ahead < WINDOW else 1
            self.highest = sequence
            return True
        if -ahead >= WINDOW or self.taken >> -ahead & 1:
            return False
        self.taken |= 1 << -ahead
        return True

    def sequences(self) -> list[int]:
        """Those taken that are still in the window, ascending."""
        return [self.highest - age for age in range(WINDOW - 1, -1, -1) if self.taken >> age & 1]


class ReplayWindows:
    """Windows by device and key; a device with a new key has a new window. One thread uses them.

    Args:
        path: made where it does not exist; None keeps the windows in memory only.

    ConfigError: the file cannot be written, or another server uses it.
    """

    def __init__(self, path: Path | None):
        self._path = path
        self._windows: dict[tuple[int, bytes], Window] = {}
        self._file: int | None = None
        self._lock: int | None = None
        self._records = 0
        self._broken = False
        if path is not None:
            self._lock = self._locked()
            try:
                self._load()
                self._rewrite()
            except OSError as error:
                self.close()
                raise self._unusable(error.strerror) from error

    def accept(self, device: int, key_id: bytes, sequence: int) -> bool:
        """Take the sequence of an authentic frame: False where it is a replay. key_id: 4 bytes that name the key."""
        window = self._windows.setdefault((device, key_id), Window())
        if not window.accept(sequence):
            return False
        if self._file is not None:
            self._append(_packed(device, key_id, sequence))
        return True

    def flush_to_disk(self) -> Callable[[], None]:
        """What brings the records written so far to the disk, for another thread to call: it may take long.

        Writes the file anew where writing failed before.
        """
        if self._file is None:
            return lambda: None
        if self._broken:
            self._try_to_rewrite()
            if not self._broken:
                log.warning("the replay window is written again, nothing of it is missing")
        try:
            descriptor = os.dup(self._file)
        except OSError as error:  # no descriptor is free: the next call tries again
            log.error("the replay window is not safe on the disk: %s", error)
            return lambda: None

        def flush() -> None:
            try:
                os.fsync(descriptor)
            except OSError as error:
                log.error("the replay window is not safe on the disk: %s", error)
            finally:
                os.close(descriptor)

        return flush

    def close(self) -> None:
        """Flush, and let another server use the file; may be called twice."""
        self.flush_to_disk()()
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def _append(self, record: bytes) -> None:
        if self._broken:
            return
        try:
            if os.write(self._file, record) != len(record):  # what a disk does before it is full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # Frames are still answered: a full disk must not silence the devices. The next flush tries again.
            self._broken = True
            log.error("the replay window is not written, a restart may accept old frames: %s", error)
        self._records += 1
        if self._records > SPARE_RECORDS + WINDOW * len(self._windows):
            self._try_to_rewrite()

    def _try_to_rewrite(self) -> None:
        try:
            self._rewrite()
        except OSError as error:
            self._broken = True
            log.error("the replay window is not written, a restart may accept old frames: %s", error)

    def _load(self) -> None:
        """The windows of the file; without what a power cut left of its last record, and without damaged ones."""
        data = self._path.read_bytes() if self._path.exists() else b""
        damaged = 0
        for first in range(0, len(data) - _SIZE + 1, _SIZE):
            record = data[first : first + _SIZE]
            if crc_hqx(record, 0xFFFF) != 0:
                damaged += 1  # all have one size: the others stand where they stood
                continue
            device, key_id, sequence = _RECORD.unpack(record[: _RECORD.size])
            self._windows.setdefault((device, key_id), Window()).accept(sequence)
        if damaged:
            log.warning("%s has %d damaged records of %d, which are left out", self._path, damaged, len(data) // _SIZE)

    def _rewrite(self) -> None:
        """Replace the file by one that holds no more than the windows, in one step."""
        temporary = Path(f"{self._path}.new")
        records = [
            _packed(device, key_id, sequence)
            for (device, key_id), window in self._windows.items()
            for sequence in window.sequences()
        ]
        made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(os.dup(made), "wb") as file:
                file.write(b"".join(records))
            os.fsync(made)
            temporary.replace(self._path)
        except OSError:
            os.close(made)
            raise
        if self._file is not None:
            os.close(self._file)
        self._file, self._records, self._broken = made, len(records), False

    def _locked(self) -> int:
        try:
            lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error.strerror) from error
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                raise self._unusable("another server uses it") from None
        return lock

    def _unusable(self, reason: str | None) -> ConfigError:
        return ConfigError(
            f"the replay file {self._path} cannot be used: {reason}",
            allowed="a file in a folder that this user may write, for one server",
            fix="choose another with --replay-file, and keep it as long as the keys",
        )


def _packed(device: int, key_id: bytes, sequence: int) -> bytes:
    record = _RECORD.pack(device, key_id, sequence)
    return record + crc_hqx(record, 0xFFFF).to_bytes(2, "big")
