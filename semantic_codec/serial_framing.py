"""Frames on a serial line: a sync word before each, searched for with errors allowed; lengths known beforehand.

    line:  ... noise | FA F3 20 | frame | FA F3 20 | frame ...

No length and no escape is sent, since one flipped bit in either would move everything behind it. The receiver tries,
behind each place that looks like the sync word, every length that it knows; the frame's own check tells which one is
right. The sync word is the 24-bit pattern of IRIG 106, chapter 4 (Maury and Styles 1964).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from semantic_codec.errors import ConfigError

SYNC = bytes.fromhex("faf320")
SYNC_ERRORS = 5
"""Wrong bits of 24 in which a sync word may differ: it is missed once in 1,039 frames at a BER of 0.05, and noise looks
like one at every 303rd byte."""

MOST_BYTES = 4096
"""Bytes looked at in one go, so that a receiver's memory stays bounded however much it is fed at once."""

Found = TypeVar("Found")
_WEIGHTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1).astype(np.uint8)


def add_sync(frame: bytes) -> bytes:
    """What goes on the line for one frame or reply: 3 bytes more."""
    return SYNC + frame


@dataclass
class Counts:
    """What a receiver saw: bytes fed, places that looked like a sync word, frames found."""

    received: int = 0
    sync_words: int = 0
    frames: int = 0


class SerialReceiver(Generic[Found]):
    """Finds frames in a stream of bytes; remembers no more of it than one frame of the longest kind and a sync word.

    Args:
        sizes: lengths in bytes that frames may have, sync word not counted.
        read: a batch of candidates of these lengths -> what each is, None for those that are no frames. It must not
        count or remember them: a candidate that it knows may still be dropped, for lying in another frame.
        sync_errors: wrong bits allowed in a sync word, 0 to 8.

    Every candidate is offered as soon as its last byte is there, so a false sync word delays no frame. A frame that is
    found ends the search in its own bytes.

    >>> line = SerialReceiver([2], lambda frames: [frame if frame == b"ok" else None for frame in frames])
    >>> line.feed(b"..." + add_sync(b"ok")[:4]), line.feed(b"k...")
    ([], [b'ok'])
    """

    def __init__(
        self,
        sizes: Iterable[int],
        read: Callable[[Sequence[bytes]], Sequence[Found | None]],
        sync_errors: int = SYNC_ERRORS,
    ):
        self.expect(sizes)
        if not 0 <= sync_errors <= 8:
            raise ConfigError(
                f"sync_errors is {sync_errors}", allowed="0 to 8 of 24 bits", fix=f"leave it at {SYNC_ERRORS}"
            )
        self._read, self._sync_errors = read, sync_errors
        self.counts = Counts()
        self._buffer = b""
        self._starts: list[int] = []
        """Where in the buffer a frame may begin, behind its sync word, ascending."""

    @property
    def buffered(self) -> int:
        """Bytes remembered."""
        return len(self._buffer)

    def expect(self, sizes: Iterable[int]) -> None:
        """Search for frames of these lengths from now on."""
        ordered = sorted(set(sizes))
        if not ordered or ordered[0] < 1:
            raise ConfigError(
                f"the lengths of frames are {ordered}", allowed="one or more, each at least 1", fix="name a codec"
            )
        self._sizes = ordered

    def feed(self, data: bytes) -> list[Found]:
        """The frames that these further bytes complete, in order."""
        found: list[Found] = []
        for first in range(0, len(data), MOST_BYTES):
            found += self._feed(data[first : first + MOST_BYTES])
        return found

    def _feed(self, data: bytes) -> list[Found]:
        self.counts.received += len(data)
        before = len(self._buffer)
        self._buffer += data
        self._starts += self._find_sync_words(before)
        found = self._take(before)
        self._forget()
        return found

    def _find_sync_words(self, before: int) -> list[int]:
        """Places behind those sync words that end in the bytes from `before` on."""
        first = max(0, before - len(SYNC) + 1)
        window = np.frombuffer(self._buffer, dtype=np.uint8, offset=first)
        if len(window) < len(SYNC):
            return []
        ends = len(window) - len(SYNC) + 1
        errors = sum(_WEIGHTS[window[place : place + ends] ^ byte] for place, byte in enumerate(SYNC))
        starts = np.flatnonzero(errors <= self._sync_errors) + first + len(SYNC)
        self.counts.sync_words += len(starts)
        return starts.tolist()

    def _take(self, before: int) -> list[Found]:
        """Offer every candidate whose last byte came after `before`, in the order in which they end."""
        complete = sorted(
            (start + size, start)
            for start in self._starts
            for size in self._sizes
            if before < start + size <= len(self._buffer)
        )
        results = self._read([self._buffer[start:end] for end, start in complete]) if complete else []
        found: list[Found] = []
        taken = 0
        for (end, start), result in zip(complete, results, strict=True):
            if result is not None and start >= taken:
                found.append(result)
                taken = end
        self.counts.frames += len(found)
        if found:
            self._starts = [start for start in self._starts if start >= taken]
        return found

    def _forget(self) -> None:
        """Drop what no candidate needs any more."""
        end, longest = len(self._buffer), self._sizes[-1]
        self._starts = [start for start in self._starts if start + longest > end]
        # The last bytes may be the beginning of a sync word.
        keep = min([*self._starts, max(0, end - len(SYNC) + 1)])
        self._buffer = self._buffer[keep:]
        self._starts = [start - keep for start in self._starts]
