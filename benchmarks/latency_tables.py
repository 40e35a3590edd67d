"""The tables of ``weaklink bench latency``: a line for each way, a column for each BER, and who wins where."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from semantic_codec.airtime import find_link
from semantic_codec.errors import ConfigError
from semantic_codec.report import NOT_MEASURED

Row = dict[str, Any]


def markdown(rows: list[Row]) -> str:
    """Times and energy of each link as Markdown, then where sending the image or staying local is better."""
    links = list(dict.fromkeys(row["link"] for row in rows))
    parts = [device_line(rows)]
    for name in links:
        own = [row for row in rows if row["link"] == name]
        parts += [
            f"**{find_link(name).title}.** Time to answer, p50 / p99:",
            grid(own, answer),
            "Energy of the radio per image, mJ:",
            grid(own, lambda row: number(row.get("on_air_energy_mj"))),
        ]
    # Without the encoder's share, ours would look better than it is.
    known = all(row["outcome"] != "not measured" for row in rows if row["way"] == "local")
    parts.append(verdict(rows) if known else "Which way is best: not measured, for want of the encoder's time.")
    return "\n\n".join(parts)


def device_line(rows: list[Row]) -> str:
    """How long the encoder takes and how often the local network is right, or that nobody measured it."""
    local = next(row for row in rows if row["way"] == "local")
    accuracy = local["accuracy_percent"]
    right = f"The local network's accuracy is {NOT_MEASURED if accuracy is None else f'{accuracy:.2f} %'}."
    if local["device_ms"] is None:
        return f"The encoder's time on the device is not measured: the times of ours below are without it. {right}"
    energy = local["device_energy_mj"]
    return f"The encoder takes {duration(local['device_ms'])}" + (f" and {energy:.3g} mJ on the device. " if energy else ". ") + right


def grid(rows: list[Row], cell: Callable[[Row], str]) -> str:
    bers = list(dict.fromkeys(row["ber"] for row in rows))
    ways = list(dict.fromkeys(row["way"] for row in rows))
    cells = {(row["way"], row["ber"]): cell(row) for row in rows}
    lines = ["| at BER | " + " | ".join(f"{ber:g}" for ber in bers) + " |", "| --- |" + " ---: |" * len(bers)]
    return "\n".join(lines + [f"| {way} | " + " | ".join(cells[way, ber] for ber in bers) + " |" for way in ways])


def answer(row: Row) -> str:
    """Median and 99th percentile; "never" for an image in two or a hundred that does not arrive."""
    if row["outcome"] != "arrives":
        return row["outcome"]
    return f"{duration(row['latency_p50_ms'])} / {duration(row['latency_p99_ms'])}"


def verdict(rows: list[Row]) -> str:
    """Per link and BER the way of offloading that is best, and by how much where it is not ours."""
    parts = []
    for heading, key, show in (
        ("Fastest way to offload, by p50:", lambda row: row["latency_p50_ms"], duration),
        ("Least energy to offload, mJ of radio and, where its current is known, processor:", energy, number),
    ):
        cells = {place: best(group, key, show) for place, group in by_place(rows).items()}
        titled = [{"way": find_link(link).title, "ber": ber, "cell": cell} for (link, ber), cell in cells.items()]
        parts += [heading, grid(titled, lambda row: row["cell"])]
    return "\n\n".join(parts)


def by_place(rows: list[Row]) -> dict[tuple[str, float], list[Row]]:
    """The rows of each link and BER whose answer arrives over the link."""
    places: dict[tuple[str, float], list[Row]] = {(row["link"], row["ber"]): [] for row in rows}
    for row in rows:
        if row["way"] != "local" and row["outcome"] == "arrives":
            places[row["link"], row["ber"]].append(row)
    return places


def best(rows: list[Row], key: Callable[[Row], float], show: Callable[[float], str]) -> str:
    """The way with the least `key`; behind a rival's stands what ours takes."""
    if not rows:
        return "none arrives"
    first, ours = min(rows, key=key), [row for row in rows if row["way"].startswith("ours")]
    cell = f"{first['way']}: {show(key(first))}"
    if first in ours:
        return cell
    return f"**{cell}** (ours {show(min(map(key, ours)))})" if ours else f"**{cell}** (ours does not arrive)"


def energy(row: Row) -> float:
    return (row["on_air_energy_mj"] or 0.0) + (row["device_energy_mj"] or 0.0)


def duration(milliseconds: float) -> str:
    if not math.isfinite(milliseconds):
        return "never"
    if milliseconds < 999.5:
        return f"{milliseconds:.3g} ms"
    return f"{milliseconds / 1e3:.3g} s" if milliseconds < 999_500 else f"{milliseconds / 1e3:,.0f} s"


def number(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def rewrite(page: Path, text: str, what: str = "tables") -> None:
    """Put the text between the page's marks, ``<!-- tables -->`` and ``<!-- end of tables -->``. ConfigError: it has none."""
    first, last = f"<!-- {what} -->", f"<!-- end of {what} -->"
    before, begin, rest = page.read_text().partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ConfigError(f"{page} has no marks for {what}", allowed=f"{first} and {last}", fix="add both lines")
    page.write_text(f"{before}{first}\n{text}\n{last}{after}")
