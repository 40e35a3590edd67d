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

STYLES = {"ldpc-5g": "-", "convolutional-k7": "--", GENIE: "-.", BOUND: ":"}


def plot_codes(rows: list[Row], path: Path) -> None:
    """Draw the rows of the first bundle; BER 0 stands at the left end of the logarithmic axis."""
    shown = [row for row in rows if row["bundle"] == rows[0]["bundle"] and row["channel"] == "bsc" and row.get("interval_percent") is not None]
    coded = [row for row in shown if row["family"] in (*CODES, GENIE, BOUND)]
    sizes = sorted({row["payload_bytes"] for row in coded})
    figure, panels = plt.subplots(1, len(sizes), figsize=(5.5 * len(sizes), 4.4), dpi=150, sharey=True, squeeze=False)
    for axes, size in zip(panels[0], sizes, strict=True):
        lines: dict[tuple[str, str], list[Row]] = {}
        for row in shown:
            if row.get("payload_bytes") == size and row["family"] not in ("local", "raw", "jpeg", "webp"):
                lines.setdefault((row["family"], row["variant"]), []).append(row)
        for (family, variant), points in lines.items():
            points = sorted(points, key=lambda row: row["ber"])
            own = family not in NAMES
            axes.plot(
                [max(row["ber"], LEFT_END) for row in points], [row["accuracy_percent"] for row in points],
                STYLES.get(family, "-"), color="black" if own else None, linewidth=2.4 if own else 1.2, marker="o", markersize=3,
                label=f"ours, {variant}" if own else f"{NAMES[family]}, {variant}",
            )  # fmt: skip
        bers = sorted({row["ber"] for row in shown})
        ber_axis(axes, bers)
        axes.set_title(f"{size} B of payload")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=7)
    panels[0][0].set_ylabel("accuracy, %")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
