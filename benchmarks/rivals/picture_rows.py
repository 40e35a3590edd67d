"""Rows of pictures: JPEG, WebP and the raw image to a network that classifies pictures, its errors corrected or not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.rivals.channels import BERS
from benchmarks.rivals.code_rows import figures
from benchmarks.rivals.codes import frame_error
from benchmarks.rivals.contest import SHARES
from benchmarks.rivals.images import ImageFormat, encode, whole_bytes
from benchmarks.rivals.receiver import FOLDER, load_receiver
from benchmarks.rivals.store import Row, Store
from codec_training.datasets import Split
from codec_training.teacher import Teacher, answers
from semantic_codec.frame import HEADER_BYTES

# Where pictures reach our accuracies to either network, in fine steps: a line between distant qualities would cut the curve's bend.
FORMATS = (
    *(ImageFormat("jpeg", quality, 2) for quality in (20, 30, 40, 60, 80, 95)),
    *(ImageFormat("jpeg", quality, 0) for quality in (20, 30, 40, 60, 65, 70, 80, 82, 84, 86, 88, 90, 92, 95)),
    *(ImageFormat("webp", quality) for quality in (0, 12, 18, 25, 50, 56, 62, 75, 78, 80, 82, 84, 86, 88, 95)),
)
RECEIVERS = {"as trained": "teacher", "fine-tuned": FOLDER}
"""Folders of a run by what a row says of the receiver's network."""


@dataclass(frozen=True)
class Sent:
    """What a network made of a format: ``right`` float (1, N); ``stripped`` and ``file`` bytes (N,)."""

    right: np.ndarray
    stripped: np.ndarray
    file: np.ndarray


def measure_pictures(store: Store, base: Row, test: Split, run: Path, classes: int, accuracy_percent: float) -> None:
    """The rows of every network that the folder of a training run holds; of one that it lacks those that the store's file has,
    and where it has none, that it was not measured.

    ``accuracy_percent`` is ours: the format that reaches it with the fewest bytes is measured over errors, too.
    """
    for name, folder in RECEIVERS.items():
        model = load_receiver(run / folder, classes)
        if model is not None:
            weights = {"receiver": name, "receiver_file": digest(run / folder / "checkpoint.pt")}
            PictureRows(store, base | weights, test, model).measure(FORMATS, accuracy_percent, raw=folder == "teacher")
            continue
        kept = [row for row in store.earlier if row.get("receiver") == name and "receiver_file" in row and base.items() <= row.items()]
        store.rows += kept
        for family in () if kept else ("jpeg", "webp", *(("raw",) if folder == "teacher" else ())):
            absent = {"family": family, "variant": "", "receiver": name, "channel": "bsc", "ber": 0.0}
            store.row(base | absent, lambda: {"accuracy_percent": None})


class PictureRows:
    """The rows of one network."""

    def __init__(self, store: Store, base: Row, test: Split, model: Teacher):
        self._store, self._base, self._test, self._model = store, base, test, model
        self._sent = cache(self._send)

    def measure(self, formats: tuple[ImageFormat, ...], enough_percent: float, raw: bool) -> None:
        """``enough_percent``: the accuracy to reach. ``raw``: the whole image, too."""
        clean = [(form, self._clean(form)) for form in formats]
        for kind in ("jpeg", "webp"):
            form = cheapest(clean, kind, enough_percent)
            if form is not None:
                self._over_errors(form)
        if raw:
            self._raw()

    def _send(self, form: ImageFormat) -> Sent:
        coded = encode(self._test.images, form)
        right = (answers(self._model, coded.images) == self._test.labels)[None].astype(float)
        return Sent(right, coded.stripped_bytes, coded.file_bytes)

    def _row(self, family: str, variant: str, ber: float, measure) -> Row:
        return self._store.row(self._base | {"family": family, "variant": variant, "channel": "bsc", "ber": ber}, measure)

    def _clean(self, form: ImageFormat) -> Row:
        def measure() -> Row:
            sent = self._sent(form)
            return figures(sent.right, None) | {
                "payload_bytes": float(sent.stripped.mean()),
                "on_air_bytes": float(sent.stripped.mean()) + HEADER_BYTES,
                "file_on_air_bytes": float(sent.file.mean()) + HEADER_BYTES,
            }

        return self._row(form.kind, form.variant, 0.0, measure)

    def _over_errors(self, form: ImageFormat) -> None:
        """The format that reaches our accuracy: repeated until whole, and behind ideal codes of each rate."""
        for ber in BERS[1:]:
            self._repeated(form.kind, form.variant, ber, lambda: self._sent(form))
        for share in SHARES:
            for ber in BERS:
                self._row(
                    form.kind, f"{form.variant}, ideal code of rate {share:g}", ber,
                    lambda: self._ideal(self._sent(form), share, ber),
                )  # fmt: skip

    def _ideal(self, sent: Sent, share: float, ber: float) -> Row:
        bits = 8 * sent.stripped
        error = frame_error(bits, bits / share, ber)
        on_air = float((sent.stripped / share).mean())
        # What does not decode is taken as wrong: a picture's stream does not survive flips.
        return figures(sent.right * (1 - error), None) | {
            "payload_bytes": on_air, "on_air_bytes": on_air + HEADER_BYTES, "decoded_percent": 100 * float((1 - error).mean()),
        }  # fmt: skip

    def _repeated(self, family: str, variant: str, ber: float, send) -> None:
        def measure() -> Row:
            sent = send()
            expected = float(whole_bytes(sent.stripped, ber, HEADER_BYTES).mean())
            return figures(sent.right, None) | {"payload_bytes": float(sent.stripped.mean()), "on_air_bytes": expected}

        self._row(family, f"{variant}, repeated until whole", ber, measure)

    def _raw(self) -> None:
        test, size = self._test, int(np.prod(self._test.images.shape[1:]))
        right = cache(lambda: (answers(self._model, test.images) == test.labels)[None].astype(float))
        sizes = np.full(len(test), size)
        for ber in BERS:
            self._row("raw", "flips and all", ber, lambda: figures(self._hurt(ber) if ber else right(), None) | {
                "payload_bytes": size, "on_air_bytes": size + HEADER_BYTES,
            })  # fmt: skip
            if ber:
                self._repeated("raw", "image", ber, lambda: Sent(right(), sizes, sizes))

    def _hurt(self, ber: float) -> np.ndarray:
        """Pictures with flipped bits, as they are, to the network: float (draws, N)."""
        test, rights = self._test, []
        for draw in range(self._base["draws"]):
            rng = np.random.default_rng([self._base["seed"], draw])
            received = np.concatenate(
                [part ^ np.packbits(rng.random((*part.shape, 8), dtype=np.float32) < ber, axis=-1)[..., 0]
                 for part in np.array_split(test.images, -(-len(test) // 500))]
            )  # fmt: skip
            rights.append(answers(self._model, received) == test.labels)
        return np.stack(rights).astype(float)


def cheapest(clean: list[tuple[ImageFormat, Row]], kind: str, accuracy_percent: float) -> ImageFormat | None:
    """The format of a kind with the fewest stripped bytes that is at least as accurate; None where none is."""
    measured = [(form, row) for form, row in clean if form.kind == kind and row["accuracy_percent"] is not None]
    enough = [(row["on_air_bytes"], form) for form, row in measured if row["accuracy_percent"] >= accuracy_percent]
    return min(enough, key=lambda pair: pair[0])[1] if enough else None


def digest(path: Path) -> str:
    """The first 16 digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
