"""Accuracy against BER: ours, every code and rate, the best rate and the bound, a panel for each payload size."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  the backend must be chosen first

from benchmarks.rivals.code_rows import BOUND, GENIE  # noqa: E402
from benchmarks.rivals.codes import CODES  # noqa: E402
from benchmarks.rivals.store import Row  # noqa: E402
from benchmarks.rivals.tables import NAMES  # noqa: E402
from codec_training.plots import LEFT_END, ber_axis  # noqa: E402

STYLES = {"ldpc-5g": "-", "convolutional-k7": "--", "repetition": (0, (5, 1)), GENIE: "-.", BOUND: ":"}


def plot_codes(rows: list[Row], path: Path) -> None:
    """Draw a line of panels for each bundle; BER 0 stands at the left end of the logarithmic axis. Nothing without measured codes."""
    shown = [row for row in rows if row["channel"] == "bsc" and row.get("interval_percent") is not None]
    sizes: dict[str, list[int]] = {}
    for bundle in dict.fromkeys(row["bundle"] for row in shown):
        coded = (row for row in shown if row["bundle"] == bundle and row["family"] in (*CODES, GENIE, BOUND))
        sizes[bundle] = sorted({row["payload_bytes"] for row in coded})
    sizes = {bundle: those for bundle, those in sizes.items() if those}
    if not sizes:
        return
    columns = max(map(len, sizes.values()))
    figure, panels = plt.subplots(len(sizes), columns, figsize=(5.5 * columns, 4.4 * len(sizes)), dpi=150, squeeze=False)
    for line, (bundle, those) in zip(panels, sizes.items(), strict=True):
        for axes, size in zip(line, those, strict=False):
            draw_size(axes, [row for row in shown if row["bundle"] == bundle and row.get("payload_bytes") == size])
            axes.set_title(f"{bundle}, {size} B of payload")
        line[0].set_ylabel("accuracy, %")
        for axes in line[len(those) :]:
            axes.set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def draw_size(axes: plt.Axes, rows: list[Row]) -> None:
    """Lines over the BER, of rows of one bundle and size."""
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["family"] not in ("local", "raw", "jpeg", "webp"):
            lines.setdefault((row["family"], row["variant"]), []).append(row)
    for (family, variant), points in lines.items():
        points = sorted(points, key=lambda row: row["ber"])
        own = family not in NAMES
        axes.plot(
            [max(row["ber"], LEFT_END) for row in points], [row["accuracy_percent"] for row in points],
            linestyle=STYLES.get(family, "-"), color="black" if own else None, linewidth=2.4 if own else 1.2, marker="o", markersize=3,
            label=f"ours, {variant}" if own else f"{NAMES[family]}, {variant}",
        )  # fmt: skip
    ber_axis(axes, sorted({row["ber"] for row in rows}))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=7)
