"""Sequences that are never used twice, not even after a crash: reserved in blocks in a file, ahead of their use."""

from __future__ import annotations

import os
from pathlib import Path

from semantic_codec.errors import ConfigError, Unavailable
from semantic_codec.keyed import SEQUENCES

BLOCK = 256
FIX = "give each device a file of its own, in a folder that it may write; never go back to an older copy"

try:
    import fcntl
except ImportError:  # not a Unix: two processes that share a file are not noticed
    fcntl = None


class SequenceFile:
    """Hands out 0, 1, 2, ... of one device under one key.

    The file holds the first number that is not reserved. It is written, and on the disk, before a number of the next
    block is handed out; what a block has left when the process ends is skipped. Keep the file as long as the key:
    without it the numbers begin at 0, and the same keystream hides other payloads.

    Args:
        path: made where it does not exist. block: numbers per reservation; one write each.

    ConfigError: the file cannot be used, or another process uses it. Unavailable: all 2^28 numbers are used.
    """

    def __init__(self, path: str | os.PathLike[str], block: int = BLOCK):
        if not 1 <= block <= SEQUENCES:
            raise ConfigError(f"the block is {block}", allowed=f"1 to {SEQUENCES}", fix=f"leave it at {BLOCK}")
        # A link's name would have a lock of its own, and the file would take the link's place.
        self.path, self._block = Path(os.path.realpath(path)), block
        self._process = os.getpid()
        self._lock = self._locked()
        self._next = self._reserved = self._read()

    def take(self) -> int:
        """The next number. ConfigError: the file is closed, or belongs to the process that this one was forked from: another
        one may hand out its numbers."""
        if self._lock is None:
            raise self._unusable("it is closed", "open it again")
        if self._process != os.getpid():  # a fork inherits the lock and what is left of the block
            raise self._unusable(
                "it was opened before this process was forked", "make the Device in the process that uses it"
            )
        if self._next >= SEQUENCES:
            raise Unavailable(
                f"all {SEQUENCES} sequences of {self.path} are used",
                allowed="each number once under one key",
                fix="give the device a new key on both ends, and delete this file",
            )
        if self._next >= self._reserved:
            self._reserve(min(SEQUENCES, self._next + self._block))
        self._next += 1
        return self._next - 1

    def close(self) -> None:
        """Let another process use the file; may be called twice. In a forked process it leaves the lock to the first one."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _locked(self) -> int | None:
        try:
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error.strerror) from error
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                raise self._unusable("another process uses it") from None
        return lock

    def _read(self) -> int:
        try:
            reserved = int(self.path.read_text())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            self.close()
            raise self._unusable(str(error)) from None
        if not 0 <= reserved <= SEQUENCES:
            self.close()
            raise self._unusable(f"it holds {reserved}")
        return reserved

    def _reserve(self, first_free: int) -> None:
        """Replace the file in one step, so that a crash leaves the old number or the new one."""
        temporary = Path(f"{self.path}.new")
        try:
            with open(temporary, "w") as file:
                file.write(f"{first_free}\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
            if fcntl is not None:  # a Unix: elsewhere folders cannot be opened
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except OSError as error:
            raise self._unusable(error.strerror) from error
        self._reserved = first_free

    def _unusable(self, reason: str | None, fix: str = FIX) -> ConfigError:
        return ConfigError(
            f"the sequence file {self.path} cannot be used: {reason}",
            allowed=f"a file of one process, with a whole number up to {SEQUENCES}",
            fix=fix,
        )
