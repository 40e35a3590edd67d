"""``python -m codec_training.local BUNDLE ...``: how well the device would do alone.

A bundle's encoder with a linear layer in place of its last one is a complete int8 network of the encoder's own cost: what the
device could run instead of sending anything. That layer is fitted here, to the features of training images, with the
regularization that is best on validation images; the whole is measured on the whole test split, in integers.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from codec_training.datasets import Split, trained_on
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import WeaklinkError
from semantic_codec.nn.integer import IntegerReference
from semantic_codec.report import print_table, results_file, write_json

REGULARIZATIONS = (1e-3, 1e-2, 1e-1)
"""Inverse strengths, `LogisticRegression`'s C, that are tried."""
ROUNDS, ENOUGH = 1000, 1e-3
"""Steps at most, and the slope of the loss at which to stop."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m codec_training.local", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundles", nargs="+", help="names")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--json", type=results_file, metavar="FILE", help="write the table there as well")
    try:
        arguments = parser.parse_args(argv)
        rows = [measure(find_bundle(name), arguments.data) for name in arguments.bundles]
    except WeaklinkError as error:
        parser.error(str(error))
    print_table(rows, list(rows[0]))
    if arguments.json:
        write_json(arguments.json, rows, 0)
    return 0


@dataclass(frozen=True)
class IntegerLayer:
    """``weight`` int8 (classes, C), ``bias`` int (classes,): what the device adds up behind its features."""

    weight: np.ndarray
    bias: np.ndarray

    def answer(self, features: np.ndarray) -> np.ndarray:
        """Classes int (B,) of features, int (B, C)."""
        return (features @ self.weight.T.astype(np.int64) + self.bias).argmax(1)


def measure(bundle: Bundle, folder: str | None = None) -> dict:
    """A row of the table. folder: as for `load_dataset`."""
    dataset = trained_on(bundle.manifest, folder)
    program = EncoderProgram.from_bytes(bundle.encoder_data)
    train, validation, test = (pooled(program, split) for split in (dataset.train, dataset.validation, dataset.test))
    layers = [fit(train, dataset.train.labels, strength) for strength in REGULARIZATIONS]
    best = max(layers, key=lambda layer: (layer.answer(validation) == dataset.validation.labels).mean())
    return {
        "bundle": bundle.manifest.name,
        "encoder_hash": bundle.encoder_hash.hex(),
        "encoder_macs": program.macs,
        "images": len(dataset.test),
        "accuracy_percent": round(100 * float((best.answer(test) == dataset.test.labels).mean()), 2),
    }


def pooled(program: EncoderProgram, split: Split) -> np.ndarray:
    """Features of the last layer but one, summed over the map: int64 (N, C)."""
    reference = IntegerReference(program)
    parts = [reference.features(part).sum((2, 3)) for part in torch.from_numpy(split.images).split(500)]
    return torch.cat(parts).numpy().astype(np.int64)


def fit(features: np.ndarray, labels: np.ndarray, strength: float) -> IntegerLayer:
    """A logistic regression on features, int (N, C), its weights rounded to int8."""
    middle, scale = features.mean(0), features.std()
    model = LogisticRegression(C=strength, max_iter=ROUNDS, tol=ENOUGH)
    found = model.fit(((features - middle) / scale).astype(np.float32), labels)
    coefficients, intercepts = found.coef_, found.intercept_
    if len(coefficients) == 1:  # of two classes scikit-learn gives the second one's alone
        coefficients, intercepts = np.concatenate([-coefficients, coefficients]), np.concatenate([-intercepts, intercepts])
    step = np.abs(coefficients).max() / 127
    weight = np.round(coefficients / step)
    bias = np.round(intercepts * scale / step - weight @ middle)
    return IntegerLayer(weight.astype(np.int8), bias.astype(np.int64))


if __name__ == "__main__":
    raise SystemExit(main())
