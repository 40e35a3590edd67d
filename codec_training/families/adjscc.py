"""The family ``adjscc``: ADJSCC (arXiv 2012.00533; nn/adjscc.py), first as an autoencoder, then for the task."""

from __future__ import annotations

from dataclasses import dataclass, field

from codec_training.config import CodecConfig
from codec_training.families.split import SplitTraining, check_fit, load_run, train
from codec_training.teacher import TeacherConfig
from semantic_codec.nn.adjscc import AdjsccConfig
from semantic_codec.nn.channel import ChannelConfig

__all__ = ["Config", "check_fit", "load_run", "train"]


@dataclass(frozen=True)
class AdjsccTraining(SplitTraining):
    """Two stages of equal length behind the base."""

    task_epochs: int = 30


@dataclass(frozen=True)
class Config:
    """One training run; ``edge`` is the architecture, the device's half included. Height and width are the data set's."""

    codec: CodecConfig
    edge: AdjsccConfig = field(default_factory=AdjsccConfig)
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    training: AdjsccTraining = field(default_factory=AdjsccTraining)
    teacher: TeacherConfig | None = None
