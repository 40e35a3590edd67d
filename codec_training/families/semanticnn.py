"""The family ``semanticnn``: SemanticNN (arXiv 2511.11038) as its paper describes it (nn/semanticnn.py), on true bit flips.

``recipe = "paper"`` has the stages base, autoencoder (a denoising one) and task: cross-entropy, asymmetry compensation, even
use of the centers, the base as it is. ``"ours"`` may train the base on (``joint``), tune the tail, distil from a teacher and tie
noisy answers to clean ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from codec_training.datasets import Dataset
from codec_training.families import split
from codec_training.families.split import SplitConfig, SplitTraining, load_run, train
from semantic_codec.errors import ConfigError
from semantic_codec.nn.semanticnn import SemanticnnConfig

__all__ = ["Config", "check_fit", "load_run", "train"]
OURS = ("distil", "consistency", "joint_epochs", "tail_epochs")


@dataclass(frozen=True)
class SemanticnnTraining(SplitTraining):
    """``recipe`` is paper or ours."""

    recipe: str = "paper"
    attribution: float = 1.0
    usage: float = 2.0


@dataclass(frozen=True)
class Config(SplitConfig):
    edge: SemanticnnConfig = field(default_factory=SemanticnnConfig)
    training: SemanticnnTraining = field(default_factory=SemanticnnTraining)


def check_fit(config: Config, dataset: Dataset) -> None:
    """Refuse a configuration that does not fit its data set, itself or the paper that it claims to follow."""
    training = config.training
    if training.recipe not in ("paper", "ours"):
        raise ConfigError(f"[training] recipe is {training.recipe!r}", allowed="paper, ours", fix="name one of these")
    extras = {name: getattr(training, name) for name in OURS if getattr(training, name)}
    if training.recipe == "paper" and extras:
        raise ConfigError(f"the paper's recipe with {extras}", allowed="none of these", fix='set recipe = "ours", or leave them out')
    split.check_fit(config, dataset)
