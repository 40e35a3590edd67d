"""Replay of a measured BER over time."""

from __future__ import annotations

import csv
import errno
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from channel_emulator import checks
from channel_emulator.channels.base import BitChannel
from channel_emulator.channels.registry import register
from semantic_codec.errors import ConfigError

MAX_ROWS = 1_000_000
# Points are part of the link's settings and given back with them, so they stay few.
MAX_POINTS = 10_000


def read_trace(path: Path) -> list[tuple[float, float]]:
    """The (time in seconds, BER) rows of a CSV file that starts with the line `time_s,ber`."""
    try:
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such regular file")
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            # The line itself is not quoted back: the file may be one that was never meant to be read from here.
            if [cell.strip() for cell in next(rows, [])] != ["time_s", "ber"]:
                raise ConfigError(
                    f"trace file {str(path)!r} has another first line",
                    allowed="a CSV file whose first line is 'time_s,ber'",
                    fix="add this line, then one row per change of the BER",
                )
            points = []
            for row in rows:
                if len(points) == MAX_ROWS:
                    raise ConfigError(
                        f"trace file {str(path)!r} is too long", allowed=f"{MAX_ROWS} rows", fix="thin it out"
                    )
                try:
                    time_s, ber = row
                    points.append((float(time_s), float(ber)))
                except ValueError:
                    raise ConfigError(
                        f"trace file {str(path)!r} line {rows.line_num} is {','.join(row)!r}",
                        allowed="two numbers: time_s,ber",
                        fix="correct or remove this line",
                    ) from None
            return points
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"trace file {str(path)!r} cannot be read ({getattr(error, 'strerror', None) or 'not text'})",
            allowed="a CSV file on the emulator's machine",
            fix="check the path, or give the rows as points",
        ) from None


@register("trace")
@dataclass
class Trace(BitChannel):
    """Independent flips at a BER that changes over time, from a CSV `file` (header `time_s,ber`) or from `points`.

    `points` is a list of [time_s, ber]; times grow strictly. Each BER holds until the next row; the last one holds as
    long as the one before it; then the trace starts again. Time 0 is the first frame after start or reset.
    """

    file: str | None = None
    points: list | None = None

    def __post_init__(self) -> None:
        if (self.file is None) == (self.points is None):
            raise ConfigError(
                "trace has both file and points" if self.file is not None else "trace has neither file nor points",
                allowed="exactly one of them",
                fix="give the path of a CSV file, or a list of [time_s, ber]",
            )
        if self.file is None:
            self._starts, self._bers = _checked(self.points, MAX_POINTS)
        elif isinstance(self.file, str):
            self._starts, self._bers = _checked(read_trace(Path(self.file)), MAX_ROWS)
        else:
            raise ConfigError(f"trace file is {self.file!r}", allowed="a path", fix="write it in quotes")
        holds = np.diff(self._starts)
        self._holds = np.append(holds, holds[-1]) if holds.size else np.ones(1)
        self._origin: float | None = None

    def start(self, rng: np.random.Generator, counts: Counter[str] | None = None) -> None:
        super().start(rng, counts)
        self._origin = None

    @property
    def expected_ber(self) -> float:
        return float(np.average(self._bers, weights=self._holds))

    def ber_at(self, times_s: np.ndarray) -> np.ndarray:
        """The BER at times in seconds from the start, float64 of the same shape."""
        where = np.asarray(times_s, dtype=np.float64) % self._holds.sum()
        return self._bers[np.searchsorted(self._starts, where, side="right") - 1]

    def flip_mask(
        self, n_frames: int, n_bits: int, rng: np.random.Generator, times_s: Sequence[float] | None = None
    ) -> np.ndarray:
        """As every bit channel; the first time ever given is the start, and without times one round is covered."""
        if times_s is None:
            times = np.arange(n_frames) * (self._holds.sum() / max(n_frames, 1))
        else:
            times = np.asarray(times_s, dtype=np.float64)
            if self._origin is None and times.size:
                self._origin = float(times[0])
            # Behind a delay with jitter, a frame may be due before the first one.
            times = np.maximum(times - (self._origin or 0.0), 0.0)
        return rng.random((n_frames, n_bits)) < self.ber_at(times)[:, None]


def _checked(points: object, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(start times from 0, BERs), float64 each, of the rows of a trace."""
    if not isinstance(points, (list, tuple)) or not 1 <= len(points) <= most:
        raise ConfigError(
            f"trace has {len(points) if isinstance(points, (list, tuple)) else 'no list of'} points",
            allowed=f"1 to {most} rows of [time_s, ber]",
            fix="give at least one row, and many rows as a file",
        )
    times, bers = [], []
    for index, point in enumerate(points):
        if not isinstance(point, (list, tuple)) or len(point) != 2:
            raise ConfigError(
                f"trace row {index} is {point!r}", allowed="[time_s, ber]", fix="give two numbers for each row"
            )
        times.append(checks.number(f"trace row {index} time_s", point[0], 0.0, 1e9, unit="s"))
        bers.append(checks.number(f"trace row {index} ber", point[1], 0.0, 0.5))
        if index and times[index] <= times[index - 1]:
            raise ConfigError(
                f"trace row {index} time_s is {times[index]:g} after {times[index - 1]:g}",
                allowed="times that grow from row to row",
                fix="sort the rows and drop repeated times",
            )
    return np.array(times) - times[0], np.array(bers)
