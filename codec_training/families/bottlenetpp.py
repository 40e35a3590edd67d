"""The family ``bottlenetpp``: BottleNet++ (arXiv 1910.14315; nn/bottlenetpp.py), end to end for the task: encoder and decoder
first, then with the base."""

from __future__ import annotations

from dataclasses import dataclass, field

from codec_training.families.split import SplitConfig, SplitTraining, check_fit, load_run, train
from semantic_codec.nn.bottlenetpp import BottlenetConfig

__all__ = ["Config", "check_fit", "load_run", "train"]


@dataclass(frozen=True)
class BottlenetTraining(SplitTraining):
    """The codec with the base as it is, then both."""

    autoencoder_epochs: int = 0
    joint_epochs: int = 20


@dataclass(frozen=True)
class Config(SplitConfig):
    edge: BottlenetConfig = field(default_factory=BottlenetConfig)
    training: BottlenetTraining = field(default_factory=BottlenetTraining)
