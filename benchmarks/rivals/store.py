"""Rows that outlive an interrupted run: every finished row is written at once, and found again by what it was made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semantic_codec.errors import ConfigError
from semantic_codec.report import git_state, read_rows, write_json

Row = dict[str, Any]


def refuse_fewer(path: Path | None, images: int, draws: int) -> None:
    """ConfigError: the rows in ``path`` are of more images (0 for all) or draws than a run that would take their place."""
    rows = read_rows(path) if path else []
    most_images, most_draws = (max((row.get(key) or 0 for row in rows), default=0) for key in ("images", "draws"))
    if 0 < images < most_images or draws < most_draws:
        raise ConfigError(
            f"images {images or 'all'}, draws {draws}: {path} has rows of {most_images} and {most_draws}",
            allowed="no fewer than the file has", fix="leave --json and --docs out for a quick look, or name other files",
        )  # fmt: skip


class Store:
    """Rows in ``path``, in the order in which this run asked for them. ``path`` None keeps them in memory.

    ``measures`` False: rows that are not there yet are left as not measured, for a later run to measure. ``also`` are files
    of other runs whose rows are taken over where they were made from the same.
    """

    def __init__(self, path: Path | None, seed: int, measures: bool = True, also: Sequence[Path] = ()):
        self._path, self._seed, self._measures = path, seed, measures
        self.earlier = read_rows(path) if path else []
        """What ``path`` had."""
        commit, dirty = git_state()
        self._commit = f"{commit}, changed since" if dirty else commit
        self._known: dict[str, Row] = {}
        for rows in (*map(read_rows, also), self.earlier):
            self._known |= {row["key"]: row for row in rows if "key" in row}
        self.rows: list[Row] = []

    def row(self, parameters: Row, measure: Callable[[], Row]) -> Row:
        """The stored row of these ``parameters``, else they, what ``measure`` returns and the commit; written before this returns."""
        key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:16]
        if key not in self._known and not self._measures:
            self.rows.append(parameters | {"accuracy_percent": None})
            return self.rows[-1]
        if key not in self._known:
            self._known[key] = parameters | measure() | {"key": key, "commit": self._commit}
            self.rows.append(self._known[key])
            asked = {row["key"] for row in self.rows}
            self._write([*self.rows, *(row for key, row in self._known.items() if key not in asked)])
        else:
            self.rows.append(self._known[key])
        return self._known[key]

    def close(self, more: list[Row]) -> None:
        """Write the rows that were asked for and ``more``, such as the verdicts on them; no other rows stay."""
        self._write([*self.rows, *more])

    def _write(self, rows: list[Row]) -> None:
        if self._path is None:
            return
        partial = self._path.with_name(self._path.name + ".partial")
        write_json(partial, rows, self._seed)
        os.replace(partial, self._path)
