"""The tables of ``weaklink bench codecs`` as Markdown."""

from __future__ import annotations

from benchmarks.codecs.rows import BASE, RIVALS, averaged, is_ablation
from benchmarks.rivals.channels import CONDITIONS
from benchmarks.rivals.store import Row
from benchmarks.rivals.tables import NAMES, PICTURES, grid, head, percent
from semantic_codec.report import NOT_MEASURED

COSTS = ["payload", "on air", "MACs", "weights", "trainings"]


def markdown(rows: list[Row]) -> str:
    """Data set after data set: the codecs over all channels, ablations, then their rivals."""
    parts = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        bursts = [row for row in own if "interleaved" in row]
        ours = [row for row in own if row["family"] not in RIVALS and "interleaved" not in row]
        ablations = averaged([row for row in ours if is_ablation(row)])
        others = [row for row in ours if not is_ablation(row)]
        parts += [f"### `{dataset}`", note(own)]
        if others:
            parts.append(codecs(others))
        if ablations:
            parts += ["Ablations:", codecs(ablations)]
        if bursts:
            parts += ["Bursts, half of whose bits are wrong, on frames with and without interleaving:", interleaving(bursts)]
        rivals = [row for row in own if row["family"] in RIVALS]
        known = {name(row) for row in rivals if row["accuracy_percent"] is not None}
        rivals = [row for row in rivals if name(row) in known]
        if rivals:
            parts += ["Rivals that were measured beside `" + "`, `".join(dict.fromkeys(row["bundle"] for row in rivals)) + "`:", codecs(rivals)]
    return "\n\n".join(parts)


def note(rows: list[Row]) -> str:
    measured = [row for row in rows if row.get("accuracy_percent") is not None and "draws" in row]
    if not measured:
        return "Nothing of it was measured yet."
    counts = "/".join(f"{images:,} images and {draws} draws" for images, draws in sorted({(row["images"], row["draws"]) for row in measured}))
    widest = max(row["interval_percent"] for row in measured)
    return f"Accuracy in %, of {counts}; 95 % intervals are at most +-{widest:.2f} points."


def codecs(rows: list[Row]) -> str:
    """One line for each codec and size; costs, then a column for each channel. What was not trained has its name only."""
    heads = [head(condition.channel, condition.ber, condition.erased) for condition in CONDITIONS]
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(name(row), costs(row) | dict.fromkeys(heads, NOT_MEASURED if row["family"] not in RIVALS and row["variant"] != BASE else ""))
        if "channel" in row:
            line[head(row["channel"], row["ber"], row.get("erased", 0.0))] = percent(row["accuracy_percent"])
    return grid("", [*COSTS, *heads], lines)


def interleaving(rows: list[Row]) -> str:
    """One line for each codec, size and kind of burst."""
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(f"`{row['bundle']}`, {row['payload_bytes']} B, bursts of {row['burst_bits']} bits, BER {row['ber']:g}", {})
        line["interleaved" if row["interleaved"] else "in order"] = percent(row["accuracy_percent"])
        if "interleaved_above_percent" in row:
            low, high = row["interleaved_above_interval_percent"]
            line["interleaving earns"] = f"{row['interleaved_above_percent']:+.2f} ({low:+.2f} to {high:+.2f})"
    return grid("", ["interleaved", "in order", "interleaving earns"], lines)


def name(row: Row) -> str:
    if row["family"] in RIVALS:
        shown = NAMES.get(row["family"]) or PICTURES.get(row["family"], row["family"])
        return ", ".join(filter(None, (shown, row["variant"], row.get("receiver", ""))))
    return f"`{row['bundle']}` ({row['family']}), {row['variant']}"


def costs(row: Row) -> dict[str, str]:
    keys = ("payload_bytes", "on_air_bytes", "encoder_macs", "encoder_bytes")
    shown = {title: f"{row[key]:,.0f}" if row.get(key) else "" for title, key in zip(COSTS, keys)}
    return shown | {"trainings": str(row.get("seeds", ""))}
