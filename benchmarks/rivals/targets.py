"""What the rows say: where ours is above its rivals and by how much, and how many bytes it takes at equal accuracy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from benchmarks.rivals.channels import BERS
from benchmarks.rivals.code_rows import BOUND, GENIE
from benchmarks.rivals.codes import CODES
from benchmarks.rivals.store import Row
from semantic_codec.bundle import Manifest
from semantic_codec.frame import HEADER_BYTES

GENIE_LIMITS = {0.0: -1, 1e-3: -1, 1e-2: -1, 3e-2: -1, 5e-2: -2, 0.1: -3, 0.2: None}
"""How far ours may be below the genie at each BER, in points; at 0.2 it is only told."""
STRIPPED_RATIO, FILE_RATIO = 3, 15


def verdicts(rows: list[Row], manifests: Iterable[Manifest]) -> list[Row]:
    """One row per question: ``verdict``, the ``value`` and its ``limit`` (at least), ``reached``; None: not measured, no limit.

    ``manifests`` of the bundles that the rows are of.
    """
    found = []
    for manifest in manifests:
        own = [row for row in rows if row["bundle"] == manifest.name]
        found += [{"bundle": manifest.name} | verdict for verdict in (*_against_codes(own), *_bytes(own, manifest))]
    return found


def _verdict(text: str, value: float | None, limit: float | None) -> Row:
    reached = None if value is None or limit is None else bool(value >= limit)
    return {"verdict": text, "value": value, "limit": limit, "reached": reached}


def _against_codes(rows: list[Row]) -> Iterable[Row]:
    above: dict[tuple[str, int, str], dict[float, float]] = {}
    for row in rows:
        if row["family"] in (*CODES, GENIE, BOUND) and row["channel"] == "bsc" and row["payload_bytes"]:
            by_ber = above.setdefault((row["family"], row["payload_bytes"], row["variant"]), {})
            if row.get("ours_above_percent") is not None:
                by_ber[row["ber"]] = row["ours_above_percent"]
    singles = {place: by_ber for place, by_ber in above.items() if place[0] in CODES}
    for (family, _, variant), by_ber in singles.items():
        whole = set(by_ber) == set(BERS)
        yield _verdict(f"mean over all BERs above {family}, {variant}: points", float(np.mean(list(by_ber.values()))) if whole else None, 0)
    if singles:
        whole = all(set(by_ber) == set(BERS) for by_ber in singles.values())
        least = min(min(by_ber.values()) for by_ber in singles.values()) if whole else None
        yield _verdict("least distance above any single rate at any BER: points", least, -1)
        every = [row for row in rows if row["family"] in CODES and row["channel"] == "bsc" and row.get("ours_above_interval_percent")]
        unsure = sum(row["ours_above_interval_percent"][0] <= 0 for row in every)
        yield _verdict(f"single rates at one BER each, {len(every)} rows: those whose paired interval does not lie above 0", unsure, None)
    for family in (GENIE, BOUND):
        group = [by_ber for place, by_ber in above.items() if place[0] == family]
        name = "the genie" if family == GENIE else "the best ideal code (normal approximation)"
        for ber in BERS:
            values = [by_ber.get(ber) for by_ber in group]
            limit = GENIE_LIMITS[ber] if family == GENIE else None
            if values:
                yield _verdict(f"least distance above {name} at BER {ber:g}: points", None if None in values else min(values), limit)


def _bytes(rows: list[Row], manifest: Manifest) -> Iterable[Row]:
    """Ratios at equal accuracy on an error-free link."""
    ours = [row for row in rows if (row["family"], row["channel"], row["ber"]) == (manifest.family, "bsc", 0.0)]
    for row in (row for row in ours if row["accuracy_percent"] is not None):
        size, on_air = row["payload_bytes"], row["on_air_bytes"]
        for receiver in dict.fromkeys(other["receiver"] for other in rows if "receiver" in other):
            for kind in ("jpeg", "webp"):
                for key, what, limit in (("on_air_bytes", "stripped", STRIPPED_RATIO), ("file_on_air_bytes", "whole file", FILE_RATIO)):
                    taken = bytes_at(rows, kind, receiver, key, row["accuracy_percent"])
                    text = f"{kind}, {what}, network {receiver}: times the on-air bytes of {size} B at equal accuracy"
                    yield _verdict(text, None if taken is None else taken / on_air, limit if kind == "jpeg" else None)
        raw = 3 * manifest.height * manifest.width
        yield _verdict(f"raw 8-bit image: times the on-air bytes of {size} B", (raw + HEADER_BYTES) / on_air, None)
        stem = manifest.training["config"].get("encoder")
        if stem is not None:  # other families have no layer of that name
            floats = 4 * stem["stem_channels"] * (manifest.height // stem["stem_stride"]) * (manifest.width // stem["stem_stride"])
            yield _verdict(f"float32 features behind the first layer: times the payload of {size} B", floats / size, None)


def bytes_at(rows: list[Row], kind: str, receiver: str, key: str, accuracy_percent: float) -> float | None:
    """Mean on-air bytes of a picture format at an accuracy: between two qualities by a line over log bytes, the better colours.

    None where no quality is as accurate, or nothing was measured.
    """
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["family"] == kind and row.get("receiver") == receiver and row.get(key) and "file_on_air_bytes" in row:
            colours = row["variant"].partition(",")[2]
            curves.setdefault(colours, []).append((row[key], row["accuracy_percent"]))
    found = []
    for curve in curves.values():
        (first, low), *rest = sorted(curve)
        if low >= accuracy_percent:
            found.append(first)
        for size, accuracy in rest:
            if low < accuracy_percent <= accuracy:
                found.append(float(np.exp(np.interp(accuracy_percent, [low, accuracy], np.log([first, size])))))
                break
            first, low = size, max(low, accuracy)
    return min(found, default=None)
