"""The tables of ``weaklink bench rivals`` as Markdown."""

from __future__ import annotations

from benchmarks.rivals.channels import BERS, CONDITIONS
from benchmarks.rivals.code_rows import BOUND, GENIE, LOCAL
from benchmarks.rivals.codes import CODES
from benchmarks.rivals.store import Row
from semantic_codec.report import NOT_MEASURED

NAMES = {"ldpc-5g": "LDPC", "convolutional-k7": "K=7", "repetition": "repetition", GENIE: "genie", BOUND: "ideal code"}
PICTURES = {"jpeg": "JPEG", "webp": "WebP", "raw": "raw image"}


def markdown(rows: list[Row], verdicts: list[Row]) -> str:
    """All tables, bundle after bundle."""
    parts = []
    for bundle in dict.fromkeys(row["bundle"] for row in rows):
        own = [row for row in rows if row["bundle"] == bundle]
        parts += [f"### `{bundle}`", device(own)]
        for size in sorted({row["payload_bytes"] for row in own if row["family"] in (*CODES, GENIE) and row["payload_bytes"]}):
            parts += [f"{size} B of payload, accuracy in %:", codes(own, size)]
        parts += ["The device alone, its label in a code that fills the payload:", by_ber([row for row in own if row["family"] == LOCAL])]
        parts += ["Pictures on an error-free link:", pictures(own)]
        hurt = [row for row in own if row["family"] in PICTURES and "file_on_air_bytes" not in row and row.get("on_air_bytes")]
        if hurt:
            repeated = [row for row in hurt if row["variant"].endswith("until whole")]
            parts += ["Repeated until whole, on-air bytes expected:", by_ber(repeated, "on_air_bytes")]
            parts += ["Sent once, accuracy in %:", by_ber([row for row in hurt if row not in repeated])]
        parts.append(answers([row for row in verdicts if row["bundle"] == bundle]))
    return "\n\n".join(parts)


def device(rows: list[Row]) -> str:
    row = next(row for row in rows if row.get("encoder_bytes"))
    ram = f"RAM ({NOT_MEASURED})" if row["encoder_ram_bytes"] is None else f"{row['encoder_ram_bytes']:,} B of RAM"
    images, draws = row["images"], row["draws"]
    widest = max(row["interval_percent"] for row in rows if row.get("interval_percent") is not None)
    return (
        f"{images:,} images, {draws} draws; 95 % intervals are at most +-{widest:.2f} points. Ours and the codec behind FEC take "
        f"{row['encoder_macs']:,} MACs, {row['encoder_bytes']:,} B of weights and tables and {ram} on the device."
    )


def codes(rows: list[Row], size: int) -> str:
    """One size: ours, each code and rate, the best of them for each channel, the bound; a column for each channel."""
    heads = [head(condition.channel, condition.ber, condition.erased) for condition in CONDITIONS]
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.get("payload_bytes") != size or row["family"] in (LOCAL, *PICTURES):
            continue
        name = f"{NAMES[row['family']]}, {row['variant']}" if row["family"] in NAMES else f"**ours**, {row['variant']}"
        lines.setdefault(name, {})[head(row["channel"], row["ber"], row["erased"])] = percent(row["accuracy_percent"])
    return grid("", heads, lines)


def by_ber(rows: list[Row], key: str = "accuracy_percent") -> str:
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        accuracy = key == "accuracy_percent"
        on_air = f"{row['on_air_bytes']:,.0f} B on air" if accuracy and row.get("on_air_bytes") else ""
        name = ", ".join(filter(None, (PICTURES.get(row["family"], ""), row["variant"], row.get("receiver", ""), on_air)))
        value = row.get(key)
        lines.setdefault(name, {})[f"BER {row['ber']:g}"] = percent(value) if accuracy or value is None else f"{value:,.0f}"
    return grid("", [f"BER {ber:g}" for ber in BERS], lines)


def pictures(rows: list[Row]) -> str:
    heads = ["accuracy %", "on air, stripped", "on air, whole file"]
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["family"] in PICTURES and ("file_on_air_bytes" in row or row["accuracy_percent"] is None):
            name = ", ".join(filter(None, (PICTURES[row["family"]], row["variant"], row["receiver"])))
            if row["accuracy_percent"] is None:
                lines[name] = dict.fromkeys(heads, NOT_MEASURED)
            else:
                values = (percent(row["accuracy_percent"]), f"{row['on_air_bytes']:,.0f} B", f"{row['file_on_air_bytes']:,.0f} B")
                lines[name] = dict(zip(heads, values, strict=True))
    return grid("", heads, lines)


def answers(verdicts: list[Row]) -> str:
    heads = ["value", "at least", "reached"]
    lines = {}
    for row in verdicts:
        shown = {True: "yes", False: "**no**", None: ""}[row["reached"]]
        value = NOT_MEASURED if row["value"] is None else f"{row['value']:.2f}"
        lines[row["verdict"]] = dict(zip(heads, (value, "" if row["limit"] is None else f"{row['limit']:g}", shown), strict=True))
    return grid("question", heads, lines)


def percent(value: float | None) -> str:
    """Two digits behind the point; "not measured" for None."""
    return NOT_MEASURED if value is None else f"{value:.2f}"


def head(channel: str, ber: float, erased: float) -> str:
    """The heading of a channel's column."""
    return {"bsc": f"BER {ber:g}", "bursts": f"bursts {ber:g}", "erasures": f"{100 * erased:g} % lost"}[channel]


def grid(corner: str, heads: list[str], lines: dict[str, dict[str, str]]) -> str:
    """A Markdown table; blank where a line has no value."""
    table = [f"| {corner} | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    table += [f"| {name} | {' | '.join(cells.get(head, '') for head in heads)} |" for name, cells in lines.items()]
    return "\n".join(table)
