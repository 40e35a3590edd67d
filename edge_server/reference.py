"""Tables of every setting and every metric in the operator's guide, from the code.

    python -m edge_server.reference docs/operating.md           writes them between their markers
    python -m edge_server.reference --check docs/operating.md   says whether they are up to date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from edge_server.metrics import Metrics
from edge_server.settings import Settings, flag, shown_default
from semantic_codec.errors import ConfigError, WeaklinkError


def settings_table() -> str:
    """Markdown, one row per setting."""
    rows = [
        (f"`{flag(name)}`", f"`WEAKLINK_{name.upper()}`", f"`{shown_default(field)}`", field.description)
        for name, field in Settings.model_fields.items()
    ]
    return _table(("flag", "environment", "default", "meaning"), rows)


def metrics_table() -> str:
    """Markdown, one row per metric on ``/metrics``, counters with the suffix that they have there."""
    metrics = Metrics(CollectorRegistry())
    rows = [
        (
            f"`{family.name}{'_total' * (family.type == 'counter')}`",
            family.type,
            ", ".join(f"`{label}`" for label in metrics.labels.get(family.name, ())),
            family.documentation,
        )
        for family in metrics.registry.collect()
    ]
    return _table(("metric", "type", "labels", "meaning"), rows)


TABLES: dict[str, Callable[[], str]] = {"settings": settings_table, "metrics": metrics_table}


def rewritten(text: str) -> str:
    """``text`` with every table written anew between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    ConfigError: a marker is missing.
    """
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        parts = re.split(f"({re.escape(begin)}|{re.escape(end)})", text)
        if parts[1::2] != [begin, end]:
            raise ConfigError(
                f"the markers of {name} are {parts[1::2]}", allowed=f"{begin} and {end}, once each", fix="add them"
            )
        text = f"{parts[0]}{begin}\n{table()}{end}{parts[4]}"
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """0: written, or up to date; 1 with ``--check``: out of date; 2: no such file, or a marker is missing."""
    parser = argparse.ArgumentParser(prog="python -m edge_server.reference", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="Markdown with the markers")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(argv)
    try:
        text = options.file.read_text()
        wanted = rewritten(text)
    except (OSError, WeaklinkError) as error:
        print(f"error: {options.file}: {error}", file=sys.stderr)
        return 2
    if not options.check:
        options.file.write_text(wanted)
    elif text != wanted:
        print(f"{options.file} is out of date; fix: python -m edge_server.reference {options.file}", file=sys.stderr)
        return 1
    return 0


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
