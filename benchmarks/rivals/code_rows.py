"""Rows of bits: ours, the error-free codec behind codes of each rate, the best rate for each channel, the bound, local."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.latency import local_accuracy
from benchmarks.rivals.channels import BERS, Condition
from benchmarks.rivals.codes import CODES
from benchmarks.rivals.contest import Contest, Rival, rivals
from benchmarks.rivals.fec import READINGS
from benchmarks.rivals.label_code import read_right
from benchmarks.rivals.store import Row, Store
from codec_training.datasets import trained_on
from codec_training.evaluate import record
from codec_training.statistics import interval_percent, paired_interval_percent
from semantic_codec.boards import read_measurement
from semantic_codec.bundle import Bundle
from semantic_codec.frame import HEADER_BYTES

BOUND = "normal-approximation"
GENIE = "genie"
LOCAL = "local"
VALIDATION_IMAGES = 5000
"""On which the genie chooses, at most."""


def device_columns(bundle: Bundle) -> Row:
    """What the encoder takes on the device. RAM is that of the firmware on an STM32F405, where it was measured."""
    return {
        "encoder_macs": bundle.manifest.encoder.get("macs"),
        "encoder_bytes": len(bundle.encoder_data),
        "encoder_ram_bytes": read_measurement(bundle, "f405").ram_bytes,
    }


def figures(right: np.ndarray, ours: np.ndarray | None) -> Row:
    """Accuracy of right (draws, N), and how far ours (draws, N) on the same images and flips is above it."""
    row = {"accuracy_percent": 100 * float(right.mean()), "interval_percent": interval_percent(right)}
    if ours is not None:
        row["ours_above_percent"] = 100 * float(ours.mean() - right.mean())
        row["ours_above_interval_percent"] = list(paired_interval_percent(ours, right))
    return row


class CodeRows:
    """The rows of one bundle. ``base`` are the parameters that all rows share; ``folder`` is where its data set lies."""

    def __init__(self, store: Store, contest: Contest, base: Row, folder: str | None, validation_images: int, threads: int):
        self._store, self._contest, self._base = store, contest, base
        self._folder, self._validation_images, self._threads = folder, validation_images, threads
        self._bundle = contest.bundle
        self._device = device_columns(self._bundle)

    def measure(self, conditions: tuple[Condition, ...]) -> None:
        every = rivals(self._bundle, tuple(CODES))
        bounds = rivals(self._bundle, (BOUND,))
        for size in (1, *(level.payload_bytes for level in self._bundle.manifest.levels)):
            for ber in BERS:
                self._local(size, ber)
        for size in (level.payload_bytes for level in reversed(self._bundle.manifest.levels)):
            for condition in conditions:
                self._ours(size, condition)
                coded = [self._coded(rival, condition) for rival in every if rival.coded_bytes == size]
                if coded:
                    self._genie(size, condition, coded)
                if condition.channel == "bsc":
                    for rival in (bound for bound in bounds if bound.coded_bytes == size):
                        self._bound(rival, condition)
        self._store.row(
            self._parameters("ldpc-5g", "codecs trained for one size each", None, Condition("bsc")),
            lambda: {"accuracy_percent": None},
        )

    def measure_ours(self, conditions: tuple[Condition, ...], shorter: tuple[int, ...] = ()) -> None:
        """The bundle's own rows alone, from the longest level to the shortest, then prefixes ``shorter`` than these, in bytes."""
        for size in (*(level.payload_bytes for level in reversed(self._bundle.manifest.levels)), *shorter):
            for condition in conditions:
                self._ours(size, condition)

    def _parameters(self, family: str, variant: str, size: int | None, condition: Condition) -> Row:
        return self._base | {
            "family": family,
            "variant": variant,
            "payload_bytes": size,
            "channel": condition.channel,
            "ber": condition.ber,
            "erased": condition.erased,
        }

    def _ours(self, size: int, condition: Condition) -> None:
        manifest = self._bundle.manifest
        is_level = any(level.payload_bytes == size for level in manifest.levels)
        self._store.row(
            self._parameters(manifest.family, f"{size} B" if is_level else f"{size} B, no level", size, condition),
            lambda: figures(self._contest.ours(size, condition), None) | {"on_air_bytes": size + HEADER_BYTES} | self._device,
        )

    def _coded(self, rival: Rival, condition: Condition) -> Row:
        """How words of each degree of trust are read is chosen on validation images through this channel."""

        def measure() -> Row:
            tried = self._validation.tried(rival, condition)
            row = self._above(rival, condition, *self._contest.rival(rival, condition, tried.readings))
            return row | {"readings": list(tried.readings), "validation_percent": 100 * tried.accuracy}

        return self._store.row(self._rival_parameters(rival, condition) | {"chosen_among": list(READINGS)}, measure)

    def _bound(self, rival: Rival, condition: Condition) -> None:
        self._store.row(
            self._rival_parameters(rival, condition), lambda: self._above(rival, condition, *self._contest.bound(rival, condition))
        )

    def _rival_parameters(self, rival: Rival, condition: Condition) -> Row:
        return self._parameters(rival.name, rival.variant, rival.coded_bytes, condition) | {"info_bytes": rival.info_bytes}

    def _above(self, rival: Rival, condition: Condition, right: np.ndarray, decoded: float) -> Row:
        row = figures(right, self._contest.ours(rival.coded_bytes, condition))
        return row | {"on_air_bytes": rival.coded_bytes + HEADER_BYTES, "decoded_percent": 100 * decoded} | self._device

    def _genie(self, size: int, condition: Condition, coded: list[Row]) -> None:
        """The rate that is best on validation images through this channel; its figures are those of its own row."""

        def measure() -> Row:
            chosen = max(coded, key=lambda row: row["validation_percent"])
            kept = ("accuracy_percent", "interval_percent", "ours_above_percent", "ours_above_interval_percent")
            return {name: chosen[name] for name in (*kept, "decoded_percent", "on_air_bytes")} | self._device | {
                "info_bytes": chosen["info_bytes"], "chosen": f"{chosen['family']}, {chosen['variant']}",
            }  # fmt: skip

        among = {"among": [row.get("key") for row in coded]}  # none of a row that is not measured
        self._store.row(self._parameters(GENIE, f"best rate in {size} B", size, condition) | among, measure)

    @cached_property
    def _validation(self) -> Contest:
        validation = trained_on(self._bundle.manifest, self._folder).validation
        held_out = validation.take(np.arange(min(self._validation_images, len(validation))))
        recording = record(self._bundle, held_out.images, held_out.labels)
        return Contest(self._bundle, recording, 1, self._base["seed"] + 1, self._threads)

    def _local(self, size: int, ber: float) -> None:
        """The device's own answer: its label in a code that fills ``size`` bytes; a wrong label is wrong."""
        accuracy = local_accuracy(self._bundle)

        def measure() -> Row:
            if accuracy is None:
                return {"accuracy_percent": None, "on_air_bytes": size + HEADER_BYTES} | self._device
            right = accuracy / 100 * read_right(len(self._bundle.manifest.tasks[0].classes), 8 * size, ber)
            spread = 196 * (right * (1 - right) / self._contest.images) ** 0.5
            return {"accuracy_percent": 100 * right, "interval_percent": spread, "on_air_bytes": size + HEADER_BYTES} | self._device

        parameters = self._parameters(LOCAL, f"label coded in {size} B", size, Condition("bsc", ber))
        self._store.row(parameters | {"label_accuracy_percent": accuracy}, measure)


def base_parameters(bundle: Bundle, images: int, draws: int, seed: int, validation_images: int) -> dict[str, Any]:
    """What every row of a bundle hangs on; ``seeds`` is the number of trainings behind a row."""
    manifest = bundle.manifest
    return {
        "dataset": manifest.training["data_set"],
        "bundle": manifest.name,
        "bundle_version": manifest.version,
        "bundle_files": {name: digest[:16] for name, digest in sorted(manifest.files.items())},
        "images": images,
        "validation_images": validation_images,
        "draws": draws,
        "seed": seed,
        "seeds": 1,
    }
