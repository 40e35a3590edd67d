"""The family ``adjscc``: ADJSCC (arXiv 2012.00533; nn/adjscc.py), first as an autoencoder, then for the task."""

from __future__ import annotations

from dataclasses import dataclass, field

from codec_training.families.split import SplitConfig, SplitTraining, check_fit, load_run, train
from semantic_codec.nn.adjscc import AdjsccConfig

__all__ = ["Config", "check_fit", "load_run", "train"]


@dataclass(frozen=True)
class Config(SplitConfig):
    edge: AdjsccConfig = field(default_factory=AdjsccConfig)
    training: SplitTraining = field(default_factory=SplitTraining)
