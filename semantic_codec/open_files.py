"""How many files, and so sockets, a process may have open."""

from __future__ import annotations

import contextlib
import resource


def raise_open_files() -> None:
    """As many as this process may have at all: shells and service managers begin with 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has a lower bound of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
