"""The family ``deepcod``: DeepCOD (doi 10.1145/3384419.3430898; nn/deepcod.py), for the task and for features like the base's."""

from __future__ import annotations

from dataclasses import dataclass, field

from codec_training.config import CodecConfig
from codec_training.families.split import SplitTraining, check_fit, load_run, train
from codec_training.teacher import TeacherConfig
from semantic_codec.nn.channel import ChannelConfig
from semantic_codec.nn.deepcod import DeepcodConfig

__all__ = ["Config", "check_fit", "load_run", "train"]


@dataclass(frozen=True)
class DeepcodTraining(SplitTraining):
    """One stage behind the base, with a term that ties restored features to the base's."""

    autoencoder_epochs: int = 0
    task_epochs: int = 60
    features: float = 1.0


@dataclass(frozen=True)
class Config:
    """One training run; ``edge`` is the architecture, the device's half included. Height and width are the data set's."""

    codec: CodecConfig
    edge: DeepcodConfig = field(default_factory=DeepcodConfig)
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    training: DeepcodTraining = field(default_factory=DeepcodTraining)
    teacher: TeacherConfig | None = None
