"""The family ``aecnn``: AECNN (arXiv 2211.13745; nn/aecnn.py), step by step: the base, the base with its attention, encoder and
decoder around the base as it is, all together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from codec_training.datasets import Dataset
from codec_training.families import Trained, split
from codec_training.families.split import SETTLING_IMAGES, SplitConfig, SplitTraining, check_fit, train
from semantic_codec.bitstream import unpack_symbols
from semantic_codec.entropy_coding import count_symbols
from semantic_codec.nn.aecnn import AecnnConfig

__all__ = ["Config", "check_fit", "load_run", "train"]


@dataclass(frozen=True)
class AecnnTraining(SplitTraining):
    """Three steps behind the base."""

    attention_epochs: int = 5
    autoencoder_epochs: int = 0
    task_epochs: int = 15
    joint_epochs: int = 20


@dataclass(frozen=True)
class Config(SplitConfig):
    edge: AecnnConfig = field(default_factory=AecnnConfig)
    training: AecnnTraining = field(default_factory=AecnnTraining)


def load_run(folder: Path, config: Config, dataset: Dataset) -> Trained:
    """A finished run; its notes hold what entropy coding needs, how often each channel sends each symbol."""
    trained = split.load_run(folder, config, dataset)
    device = trained.device
    sent = unpack_symbols(device.encode(dataset.train.images[:SETTLING_IMAGES]), device.symbols, device.bits_per_symbol)
    counts = count_symbols(sent.reshape(len(sent), device.latent_shape[0], -1), device.bits_per_symbol)
    return replace(trained, notes=trained.notes | {"symbol_counts": np.asarray(counts).tolist()})
