"""Pictures of results. Matplotlib draws without a display."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from semantic_codec.errors import ConfigError

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  the backend must be chosen first
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402

# BER 0 has no place on a logarithmic axis: it is drawn at its left end, or further left where a BER comes near that.
LEFT_END = 3e-4


def plot_accuracy(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy against BER, one line per bundle, version and level, with 95 % intervals; a blind twin's is dashed, in its
    codec's colour."""
    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=150)
    lines: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["bundle"], row["version"], row["payload_bytes"]), []).append(row)
    versions = Counter(bundle for bundle, _ in {line[:2] for line in lines})
    bers = sorted({row["ber"] for row in rows})
    zero = place_of_zero(bers)
    colours: dict[tuple[str, int, int], str] = {}
    for (bundle, version, size), points in lines.items():
        colour = colours.setdefault((bundle.removesuffix("-blind"), version, size), f"C{len(colours)}")
        name = f"{bundle} {version}" if versions[bundle] > 1 else bundle
        points = sorted(points, key=lambda row: row["ber"])
        axes.errorbar(
            [row["ber"] or zero for row in points],
            [row["accuracy_percent"] for row in points],
            [row["interval_percent"] for row in points],
            marker="o", markersize=3.5, capsize=2, linewidth=1.4, label=f"{name}, {size} B",
            linestyle="--" if bundle.endswith("-blind") else "-", color=colour,
        )  # fmt: skip
    ber_axis(axes, bers)
    axes.set_ylabel("accuracy on the whole test split, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def check_suffix(path: Path) -> None:
    """ConfigError where the name does not end as a picture's: asked before the hours that a picture's points may take."""
    kinds = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in kinds:
        raise ConfigError(f"the plot is {path}", allowed=f"a name that ends in .{', .'.join(sorted(kinds))}", fix="end it in .png")


def place_of_zero(bers: Sequence[float]) -> float:
    """Where BER 0 is drawn: left of all the others."""
    return min([LEFT_END, *(ber / 3 for ber in bers if ber)])


def ber_axis(axes, bers: Sequence[float]) -> None:
    """A logarithmic axis with a tick for each of ``bers``; 0 stands at :func:`place_of_zero`."""
    zero = place_of_zero(bers)
    axes.set_xscale("log")
    axes.set_xticks([ber or zero for ber in bers], [f"{ber:g}" for ber in bers])
    axes.minorticks_off()
    axes.set_xlabel("bit error rate of the link")
