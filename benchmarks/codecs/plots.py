"""Accuracy against BER, against on-air bytes, and against the device's multiply-accumulates, a panel for each data set."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  the backend must be chosen first

from benchmarks.codecs.repeat_rows import PROTECTION as REPEATED  # noqa: E402
from benchmarks.codecs.rows import BASE, RIVALS, is_ablation  # noqa: E402
from benchmarks.rivals.code_rows import BOUND, GENIE  # noqa: E402
from benchmarks.rivals.store import Row  # noqa: E402
from benchmarks.rivals.tables import NAMES, PICTURES  # noqa: E402
from codec_training.plots import LEFT_END, ber_axis  # noqa: E402

WORKING_BER = 0.05
"""At which codecs are compared by bytes and by MACs."""


def draw(rows: list[Row], folder: Path) -> None:
    """codecs-ber.png, codecs-bytes.png and codecs-macs.png; one that would be empty is left out. Blind twins would lie on others,
    the tables have them."""
    shown = [row for row in rows if not row["bundle"].endswith("-blind") and not is_ablation(row)]
    measured = [row for row in shown if row.get("accuracy_percent") is not None and row.get("channel") == "bsc" and row.get("payload_bytes")]
    for name, panel in (("codecs-ber", by_ber), ("codecs-bytes", by_bytes), ("codecs-macs", by_macs)):
        datasets = list(dict.fromkeys(row["dataset"] for row in measured))
        if not datasets:
            continue
        figure, panels = plt.subplots(1, len(datasets), figsize=(6.5 * len(datasets), 5.4), dpi=150, squeeze=False)
        for axes, dataset in zip(panels[0], datasets, strict=True):
            panel(axes, [row for row in measured if row["dataset"] == dataset])
            axes.set_title(dataset)
            axes.set_ylabel("accuracy, %")
            axes.grid(alpha=0.3)
            axes.legend(frameon=False, fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.13))
        figure.tight_layout()
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{name}.png")
        plt.close(figure)


def by_ber(axes, rows: list[Row]) -> None:
    """One line for each codec and size; repeated symbols would lie on others, too."""
    axes.set_prop_cycle(color=plt.get_cmap("tab20").colors)
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if row["family"] not in RIVALS and row["variant"] != BASE and row.get("protection") != REPEATED:
            lines.setdefault(f"{row['bundle']}, {row['variant']}", []).append(row)
    for label, points in lines.items():
        points = sorted(points, key=lambda row: row["ber"])
        axes.errorbar(
            [max(row["ber"], LEFT_END) for row in points], [row["accuracy_percent"] for row in points],
            [row["interval_percent"] for row in points], marker="o", markersize=3, capsize=2, linewidth=1.2, label=label,
        )  # fmt: skip
    ber_axis(axes, sorted({row["ber"] for row in rows}))


def by_bytes(axes, rows: list[Row]) -> None:
    """Codecs, the best rate and the bound behind a code at :data:`WORKING_BER`; pictures and bases without an error."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        if row["family"] in PICTURES or row["variant"] == BASE:
            if row["ber"] == 0 and (row["variant"] == BASE or row.get("file_on_air_bytes")):
                label = f"{row['bundle']}, {BASE}" if row["variant"] == BASE else f"{PICTURES[row['family']]}, {row['receiver']}, no errors"
                lines.setdefault(label, []).append(row)
        elif row["ber"] == WORKING_BER and row["family"] in (GENIE, BOUND):
            lines.setdefault(f"{NAMES[row['family']]}, BER {WORKING_BER:g}", []).append(row)
        elif row["ber"] == WORKING_BER and row["family"] not in RIVALS:
            protection = f", {row['protection']}" if "protection" in row else ""
            lines.setdefault(f"{row['bundle']}{protection}, BER {WORKING_BER:g}", []).append(row)
    for label, points in lines.items():
        points = sorted(points, key=lambda row: row["on_air_bytes"])
        axes.plot(
            [row["on_air_bytes"] for row in points], [row["accuracy_percent"] for row in points], markersize=4, linewidth=1.2, label=label,
            color={GENIE: "black", BOUND: "navy"}.get(points[0]["family"]), marker="x" if "no errors" in label else "o",
            linestyle="-" if label.startswith(points[0]["bundle"]) and len(points) > 1 else "none",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("bytes on the air, header included")


def by_macs(axes, rows: list[Row]) -> None:
    """Each codec's best size at :data:`WORKING_BER`, and the front that no other codec is above and to the left of."""
    best: dict[str, Row] = {}
    for row in rows:
        if row["ber"] == WORKING_BER and row["family"] not in RIVALS and row.get("encoder_macs"):
            if row["accuracy_percent"] > best.get(row["bundle"], {"accuracy_percent": -1})["accuracy_percent"]:
                best[row["bundle"]] = row
    for bundle, row in best.items():
        point = row["encoder_macs"] / 1e6, row["accuracy_percent"], row["interval_percent"]
        axes.errorbar(*point, marker="o", capsize=2, linestyle="none", label=f"{bundle}, {row['payload_bytes']:.0f} B")
    front = pareto([(row["encoder_macs"] / 1e6, row["accuracy_percent"]) for row in best.values()])
    if front:
        axes.plot(*zip(*front), color="black", linewidth=0.8, drawstyle="steps-post", label="front")
    axes.set_xlabel(f"device encoder, million multiply-accumulates (BER {WORKING_BER:g})")


def pareto(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, gain), ascending, those that no other point beats in both."""
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front
