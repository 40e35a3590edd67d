"""Tables of results: printed as plain text, written as JSON with the context that makes a figure repeatable.

Keys carry their units: ``payload_bytes``, ``ber``, ``accuracy_percent``, ``latency_p50_ms``, ``requests_per_s``.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from semantic_codec.errors import ConfigError

ROOT = Path(__file__).parents[1]
VERSIONED = ("weaklink", "numpy", "grpcio", "protobuf", "torch", "torchvision", "numba", "onnxruntime", "openvino")
NOT_MEASURED = "not measured"


def context(seed: int | None) -> dict[str, Any]:
    """Where a result comes from.

    Returns {commit, dirty, machine, versions, date, seed}: commit is "unknown" outside a git checkout, dirty says that
    tracked files differ from it, date is UTC in ISO 8601.
    """
    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "machine": machine(),
        "versions": versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
    }


def git_state(root: Path = ROOT) -> tuple[str, bool]:
    """(commit hash, whether tracked files differ) of the checkout at `root`; ("unknown", False) where there is none."""
    # An installed copy may lie inside somebody else's checkout, in its .venv: only a .git right here is ours.
    if not (root / ".git").exists():
        return "unknown", False
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "unknown", False


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def machine() -> str:
    """Processor model and the number of cores that this process may use: "AMD EPYC, 2 cores"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{_cpu_model()}, {cores} core{'s' if cores != 1 else ''}"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model") and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that move a figure, where installed; imports none of them."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_json(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], seed: int | None) -> None:
    """Write ``{"context": {...}, "rows": [...]}``; folders are made, NaN and infinities become null.

    ConfigError: `path` cannot be written.
    """
    text = json.dumps({"context": context(seed), "rows": _plain(rows)}, indent=2, allow_nan=False)
    with _writing(path) as file:
        file.write_text(text + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that :func:`write_json` wrote there; none where there is no file."""
    return json.loads(path.read_text())["rows"] if path.is_file() else []


def results_file(text: str) -> Path:
    """The path that a command will write its rows to, as argparse's `type`: what cannot be written shall not take the whole
    measurement to show. Its folder is made, a file that is there stays as it is. ConfigError: it cannot be written."""
    with _writing(text) as path:
        is_new = not os.path.lexists(path)
        if is_new or path.is_file() or path.is_dir():  # a reader of a pipe would take this for the end
            path.open("a").close()
        if is_new:
            path.unlink()
    return path


@contextmanager
def _writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", allowed="a file in a writable folder", fix="give another path"
        ) from error


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays, paths and tuples as what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def format_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str] | None = None
) -> str:
    """Aligned plain text, numbers to the right.

    columns: keys in order, or {key: heading}; by default the first row's keys. None and NaN read "not measured", a
    missing key is blank, floats show four significant digits, lists read "8/16/32".
    """
    if columns is None:
        columns = list(rows[0]) if rows else []
    headings = dict(columns) if isinstance(columns, Mapping) else {key: key for key in columns}
    cells = [[_cell(row[key]) if key in row else "" for key in headings] for row in rows]
    table = [list(headings.values()), *cells]
    widths = [max(len(line[i]) for line in table) for i in range(len(headings))]
    to_right = [all(_is_number(row.get(key)) for row in rows) for key in headings]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_right, strict=True)
        ).rstrip()
        for line in table
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str] | None = None) -> None:
    """Print `format_table(rows, columns)`."""
    print(format_table(rows, columns))


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float | np.integer | np.floating)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return NOT_MEASURED
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "/".join(map(_cell, value))
    return str(value)
