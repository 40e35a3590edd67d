"""The demo's picture: accuracy over BER, and the edge's estimate against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from semantic_codec.errors import ConfigError  # noqa: E402

LABELS = {"udp": "raw frames over UDP, BER measured by the edge", "grpc": "gRPC, BER told by the device"}
MARKERS = {"udp": "o", "grpc": "s"}
# A BER of 0 has no place on a logarithmic axis: it is drawn here and labelled 0.
ZERO_AT = 2e-4


def save_plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the PNG; :class:`ConfigError` where the folder cannot be written."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    try:
        codec = rows[0]["codec"]
        _accuracy(left, [row for row in rows if row["codec"] == codec])
        left.set_title(f"{codec}: {rows[0]['payload_bytes']:.0f} payload bytes per image")
        _estimates(right, [row for row in rows if row["codec"] == codec and row["transport"] == "udp"])
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", allowed="a writable folder", fix="give another --out"
        ) from error
    finally:
        pyplot.close(figure)


def _accuracy(axes, rows: Sequence[dict[str, Any]]) -> None:
    for transport, label in LABELS.items():
        own = [row for row in rows if row["transport"] == transport]
        axes.errorbar(
            [max(row["ber"], ZERO_AT) for row in own],
            [row["accuracy_percent"] for row in own],
            [row["accuracy_interval_percent"] for row in own],
            marker=MARKERS[transport],
            capsize=3,
            label=label,
        )
    bers = sorted({row["ber"] for row in rows})
    axes.set_xscale("log")
    axes.set_xticks([max(ber, ZERO_AT) for ber in bers], [f"{ber:g}" for ber in bers])
    axes.minorticks_off()
    axes.set(xlabel="bit error rate", ylabel="accuracy %, lost frames wrong")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize="small")


def _estimates(axes, rows: Sequence[dict[str, Any]]) -> None:
    pairs = [(row["true_ber"], row["estimated_ber"]) for row in rows if row["true_ber"] and row["estimated_ber"]]
    axes.plot([5e-4, 0.2], [5e-4, 0.2], color="grey", linewidth=1, label="exact")
    if pairs:
        axes.plot(*zip(*pairs, strict=True), "o", label="mean of the edge's estimates")
    axes.set(xscale="log", yscale="log", xlabel="true BER of the link", ylabel="BER used by the edge")
    axes.set_title("measured on the frames' headers")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")
