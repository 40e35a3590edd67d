"""Sequences that are never used twice, not even after a loss of power: reserved in blocks in a file, ahead of their use."""

import os
from errno import ENOENT

from .errors import InvalidRequest, Unavailable

SEQUENCES, BLOCK = 1 << 28, 256
_NOT_THERE = (ENOENT, 44)  # 44: WebAssembly's file system, whatever errno says there


class SequenceFile:
    """Hands out 0, 1, 2, ... of one device under one key.

    The file holds the first number that is not reserved; what a block has left at a restart is skipped. Several objects,
    one for each codec of the device, may share it: each reserves blocks of its own. Keep the file as long as the key:
    without it the numbers begin at 0, and the same keystream hides other payloads.
    """

    def __init__(self, path):
        self.path = path
        self._next = self._reserved = self._read()

    def take(self):
        """The next number."""
        if self._next >= self._reserved:
            self._next = max(self._next, self._read())  # another object may have reserved since
            if self._next >= SEQUENCES:
                raise Unavailable(
                    "all %d sequences of %s are used" % (SEQUENCES, self.path),
                    "each number once under one key",
                    "give the device a new key on both ends, and delete this file",
                )
            self._reserve(min(SEQUENCES, self._next + BLOCK))
        self._next += 1
        return self._next - 1

    def _read(self):
        text = self._content(self.path)
        if text is None:
            # Power may fail where a file system cannot replace one file by another in one step. The next reservation
            # begins by emptying the new file, which must not be the only one then.
            text = self._content(self.path + ".new")
            if text is None:
                return 0
            try:
                os.rename(self.path + ".new", self.path)
                _sync()
            except OSError as error:
                raise self._unusable(error)
        try:
            reserved = int(text)
            if 0 <= reserved <= SEQUENCES:
                return reserved
        except ValueError:
            pass
        raise InvalidRequest(
            "the sequence file %s holds %r" % (self.path, text),
            "a whole number up to %d" % SEQUENCES,
            "give the device a new key on both ends, and delete this file",
        )

    def _reserve(self, first_free):
        new = self.path + ".new"
        try:
            with open(new, "w") as file:
                file.write("%d\n" % first_free)
            _sync()
            try:
                os.rename(new, self.path)
            except OSError:  # FAT does not replace files
                os.remove(self.path)
                os.rename(new, self.path)
            _sync()
        except OSError as error:
            raise self._unusable(error)
        self._reserved = first_free

    def _content(self, path):
        try:
            with open(path) as file:
                return file.read()
        except OSError as error:
            # Taken for a new file, one that cannot be read would begin at 0 again.
            if error.errno not in _NOT_THERE:
                raise self._unusable(error)

    def _unusable(self, error):
        return Unavailable(
            "the sequence file %s cannot be used: %s" % (self.path, error),
            "a file system that reads and writes it, with room",
            "mend the file system, or make room; nothing is sent without a number",
        )


def _sync():
    if hasattr(os, "sync"):
        os.sync()
