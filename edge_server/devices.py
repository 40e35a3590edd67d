"""What the edge remembers about devices, all of it bounded: estimates, recent frames, answers that await feedback."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edge_server.answers import Given, RememberedAnswer, RememberedAnswers
from semantic_codec.ber import BerEstimator
from semantic_codec.header import SEQUENCES

WINDOW = 64  # frames in which a repeated sequence number is a duplicate
LAST_NUMBERS = SEQUENCES - WINDOW  # from here on they are about to run out


@dataclass(slots=True)
class RecentFrame:
    """A frame that was accepted: when, what was replied (None while under way), and who else waits for the reply."""

    received: float
    reply: bytes | None = None
    waiting: tuple[Any, ...] = ()


class DeviceState:
    """One device. ``estimator`` is None until its first frame told something about the link; ``heard`` is when the
    device was last heard, ``answered``, ``judged`` and ``right`` count its answers."""

    __slots__ = ("estimator", "frames", "answers", "heard", "answered", "judged", "right")

    def __init__(self) -> None:
        self.heard = 0.0
        self.answered = self.judged = self.right = 0
        self.estimator: BerEstimator | None = None
        self.frames: OrderedDict[int, RecentFrame] = OrderedDict()
        self.answers = RememberedAnswers()

    def accept(self, sequence: int, now: float, max_age: float) -> tuple[RecentFrame, bool]:
        """The frame of this number and whether it is a new one, for which the window was opened, or an earlier one
        that is repeated.

        A frame older than ``max_age`` seconds does not make its number a duplicate. Sequence 0 behind another number
        is a device that restarted: its window is cleared. Where the numbers may have run out just before, only the last of
        them stay, of which repeats may still come and which a device that restarted does not soon come to.
        """
        frames = self.frames
        if sequence == 0 and frames:
            last = next(reversed(frames))
            if last != 0:
                ran_out = last >= LAST_NUMBERS and 0 not in frames
                for number in [number for number in frames if not ran_out or number < LAST_NUMBERS]:
                    del frames[number]
        earlier = frames.get(sequence)
        if earlier is not None:
            if now - earlier.received <= max_age:
                return earlier, False
            del frames[sequence]
        recent = frames[sequence] = RecentFrame(now)
        if len(frames) > WINDOW:
            frames.popitem(last=False)
        return recent, True

    def evidence(self) -> BerEstimator:
        """The estimator, made at the first evidence."""
        if self.estimator is None:
            self.estimator = BerEstimator()
        return self.estimator


class DeviceTable:
    """Devices by name and by source address; beyond ``limit`` the least recently used one is forgotten."""

    def __init__(self, limit: int, answers: int, clock: Callable[[], float], max_age: float):
        self._limit, self._answers, self._clock, self._max_age = limit, answers, clock, max_age
        self._devices: OrderedDict[str, DeviceState] = OrderedDict()
        self._sources: OrderedDict[Any, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._devices)

    def find(self, device: str) -> DeviceState | None:
        return self._devices.get(device)

    def open(self, device: str) -> DeviceState:
        """The device's state, made where there is none, and now the most recently used."""
        state = self._devices.get(device)
        if state is None:
            state = self._devices[device] = DeviceState()
            if len(self._devices) > self._limit:
                self._devices.popitem(last=False)
        else:
            self._devices.move_to_end(device)
        state.heard = self._clock()
        return state

    def recent(self) -> Iterator[tuple[str, DeviceState, float]]:
        """Name, state, and seconds since it was heard, of every device, the latest first."""
        now = self._clock()
        for name in reversed(self._devices):
            state = self._devices[name]
            yield name, state, now - state.heard

    def active(self, silent_s: float) -> int:
        """Devices answered within ``silent_s`` seconds, and twice at least: noise may pass for one frame of a device
        that does not exist, hardly for two."""
        heard = itertools.takewhile(lambda device: device[2] <= silent_s, self.recent())
        return sum(state.answered > 1 for _, state, _ in heard)

    def estimated_ber(self, device: str) -> float | None:
        """The edge's own estimate for the device, in (0, 0.5]; None where nothing is known."""
        state = self._devices.get(device)
        return None if state is None or state.estimator is None else state.estimator.mean

    def heard(self, device: str, source: Any) -> None:
        """Remember that ``source`` speaks for this device."""
        self._sources[source] = device
        self._sources.move_to_end(source)
        if len(self._sources) > self._limit:
            self._sources.popitem(last=False)

    def accept_frame(self, device: str, sequence: int, source: Any) -> tuple[DeviceState, RecentFrame, bool]:
        """The device's state, and what :meth:`DeviceState.accept` returns; also remembers that ``source`` speaks for
        it."""
        ((_, *accepted),) = self.accept_frames((device,), (sequence,), (source,))
        return tuple(accepted)

    def accept_frames(
        self, devices: Iterable[Any], sequences: Iterable[int], sources: Iterable[Any]
    ) -> list[tuple[str, DeviceState, RecentFrame, bool]]:
        """As :meth:`accept_frame` of each, one after the other; the device's name first. devices: names, or
        what they are the names of."""
        accepted = []
        for device, sequence, source in zip(devices, sequences, sources):
            name = str(device)
            self.heard(name, source)
            state = self.open(name)
            accepted.append((name, state, *state.accept(sequence, state.heard, self._max_age)))
        return accepted

    def forget_frame(self, device: str, sequence: int) -> None:
        """A frame that got no answer may be sent again under its number."""
        state = self._devices.get(device)
        if state is not None:
            state.frames.pop(sequence, None)

    def failed_from(self, source: Any) -> None:
        """A frame from ``source`` could not be read: worse news about the device that speaks from there, if any."""
        state = self._devices.get(self._sources.get(source, ""))
        if state is not None:
            state.evidence().failure()

    def remember_all(
        self, devices: Sequence[str], sequences: Iterable[int], bers: Iterable[float], given: Iterable[Given]
    ) -> None:
        """The answer to one image each; none for an empty name."""
        for device, sequence, ber, each in zip(devices, sequences, bers, given):
            if device:
                state = self.open(device)
                state.answered += 1
                state.answers.add(sequence, ber, each, self._answers)

    def judge(self, device: str, correct: bool) -> None:
        """An answer of the device was compared with the truth."""
        state = self._devices[device]
        state.judged += 1
        state.right += correct

    def remembered(self, device: str, sequence: int) -> RememberedAnswer | None:
        state = self._devices.get(device)
        return None if state is None else state.answers.find(sequence)
