"""Which answers a device was given, for feedback that may come later: as compact as they are many.

Every answer takes the place of one that has long left the processor's caches. So nothing is made for it that can be
shared with others, and nothing that only feedback needs.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple


class Given(NamedTuple):
    """What answers have in common with many others: the codec and its version, and the class given per task."""

    codec: str
    version: int
    classes: dict[str, int]


@lru_cache(4096)
def shared_given(codec: str, version: int, tasks: tuple[str, ...], *classes: int) -> Given:
    """These classes of these tasks. The same object for the same, as long as it is asked for."""
    return Given(codec, version, dict(zip(tasks, classes)))


@dataclass(slots=True)
class RememberedAnswer:
    """``judged``: the tasks of which feedback came; to be added to."""

    given: Given
    ber: float
    judged: set[str]


class RememberedAnswers:
    """The last ones of one device."""

    __slots__ = ("_sequences", "_bers", "_given", "_judged", "_oldest")

    def __init__(self) -> None:
        self._sequences: list[int] = []
        self._bers = array("d")
        self._given: list[Given] = []
        self._judged: dict[int, set[str]] = {}  # by place, of those that were looked for
        self._oldest = 0  # its place, which is the next to be taken once there are enough

    def add(self, sequence: int, ber: float, given: Given, most: int) -> None:
        """Remember one, of ``most`` that are."""
        if len(self._sequences) < most:
            self._sequences.append(sequence)
            self._bers.append(ber)
            self._given.append(given)
            return
        place = self._oldest
        self._sequences[place], self._bers[place], self._given[place] = sequence, ber, given
        self._oldest = (place + 1) % most
        if self._judged:
            self._judged.pop(place, None)

    def find(self, sequence: int) -> RememberedAnswer | None:
        """The latest of this number."""
        count = len(self._sequences)
        for age in range(1, count + 1):
            place = (self._oldest - age) % count
            if self._sequences[place] == sequence:
                return RememberedAnswer(self._given[place], self._bers[place], self._judged.setdefault(place, set()))
        return None
