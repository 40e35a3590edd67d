"""The family ``deepcod``: DeepCOD (doi 10.1145/3384419.3430898; nn/deepcod.py), for the task and for features like the base's."""

from __future__ import annotations

from dataclasses import dataclass, field

from codec_training.families.split import SplitConfig, SplitTraining, check_fit, load_run, train
from semantic_codec.nn.deepcod import DeepcodConfig

__all__ = ["Config", "check_fit", "load_run", "train"]


@dataclass(frozen=True)
class DeepcodTraining(SplitTraining):
    """One stage behind the base, with a term that ties restored features to the base's."""

    autoencoder_epochs: int = 0
    task_epochs: int = 40
    features: float = 1.0


@dataclass(frozen=True)
class Config(SplitConfig):
    edge: DeepcodConfig = field(default_factory=DeepcodConfig)
    training: DeepcodTraining = field(default_factory=DeepcodTraining)
