"""The family ``bottlenetpp``: BottleNet++ (arXiv 1910.14315; nn/bottlenetpp.py), end to end for the task: encoder and decoder
first, then with the base."""

from __future__ import annotations

from dataclasses import dataclass, field

from codec_training.config import CodecConfig
from codec_training.families.split import SplitTraining, check_fit, load_run, train
from codec_training.teacher import TeacherConfig
from semantic_codec.nn.bottlenetpp import BottlenetConfig
from semantic_codec.nn.channel import ChannelConfig

__all__ = ["Config", "check_fit", "load_run", "train"]


@dataclass(frozen=True)
class BottlenetTraining(SplitTraining):
    """The codec with the base as it is, then both."""

    autoencoder_epochs: int = 0
    task_epochs: int = 30
    joint_epochs: int = 30


@dataclass(frozen=True)
class Config:
    """One training run; ``edge`` is the architecture, the device's half included. Height and width are the data set's."""

    codec: CodecConfig
    edge: BottlenetConfig = field(default_factory=BottlenetConfig)
    channel: ChannelConfig = field(default_factory=ChannelConfig)
    training: BottlenetTraining = field(default_factory=BottlenetTraining)
    teacher: TeacherConfig | None = None
