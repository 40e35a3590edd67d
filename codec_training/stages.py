"""One stage of a training, which resumes after every epoch, and the loss that all families share."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from codec_training.checkpoint import load_checkpoint, save_checkpoint
from codec_training.config import LearningConfig, as_table
from codec_training.optimizers import optimizers_of
from codec_training.views import Batch, Views
from semantic_codec.errors import ConfigError
from semantic_codec.nn.centers import Centers


class Stage:
    """One stage, which trains ``parts`` (modules by the name under which a checkpoint keeps them).

    ``fingerprint`` is what it depends on (fingerprints.py); ``weight_decay`` is the configuration's where none is given.
    """

    def __init__(
        self, name: str, config, folder: Path, parts: dict[str, nn.Module], writer, fingerprint: dict[str, Any], weight_decay: float | None = None
    ):
        self.name, self.config, self.folder = name, config, folder / name
        self.parts, self.writer, self.fingerprint = parts, writer, fingerprint
        self.weight_decay = config.training.weight_decay if weight_decay is None else weight_decay

    def run(
        self,
        epochs: int,
        learning_rate: float,
        steps: int,
        batches: Callable[[int], Iterator[Any]],
        loss_of: Callable[[Any], torch.Tensor],
        validate: Callable[[], dict[str, float]],
    ) -> None:
        """Train ``epochs`` epochs of ``steps`` steps; ``batches(epoch)`` yields what ``loss_of`` takes, step by step."""
        parts = self.parts
        modules = nn.ModuleList(parts.values())
        optimizers = optimizers_of(modules, self.config.training.optimizer, learning_rate, self.weight_decay)
        share = _warm_cosine(steps * epochs)
        schedules = {name: torch.optim.lr_scheduler.LambdaLR(each, share) for name, each in optimizers.items()}
        kept = parts | {f"{name}optimizer": each for name, each in optimizers.items()}
        kept |= {f"{name}schedule": each for name, each in schedules.items()}
        start = load_checkpoint(self.folder, self.fingerprint, **kept)
        for epoch in range(start, epochs):
            # Flips, cuts and dropout are drawn from torch's own generator, of which a checkpoint knows nothing.
            torch.manual_seed(zlib.crc32(f"{self.config.training.seed} {self.name} {epoch}".encode()))
            modules.train()
            total = 0.0
            progress = tqdm(batches(epoch), total=steps, desc=f"{self.name} {epoch + 1}/{epochs}", mininterval=5)
            for step in progress:
                loss = loss_of(step)
                if not torch.isfinite(loss):
                    raise ConfigError(
                        f"the loss of stage {self.name} is {float(loss.detach())} in epoch {epoch + 1}", allowed="a finite loss",
                        fix=f"lower its learning rate in [training], and delete {self.folder} and those of the stages after it",
                    )  # fmt: skip
                modules.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(modules.parameters(), 5.0)
                for each in (*optimizers.values(), *schedules.values()):
                    each.step()
                total += float(loss.detach())
            scores = validate()
            line = "  ".join(f"{name} {value:.2f}" for name, value in scores.items())
            print(f"{self.name} epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}  validation % {line}", flush=True)
            self.writer.add_scalar(f"{self.name}/loss", total / steps, epoch + 1)
            for name, value in scores.items():
                self.writer.add_scalar(f"{self.name}/validation {name}", value, epoch + 1)
            save_checkpoint(self.folder, epoch + 1, as_table(self.config), self.fingerprint, **kept)


def task_loss(logits: torch.Tensor, batch: Batch, training: LearningConfig) -> torch.Tensor:
    """Cross-entropy of (B, classes), and where there is a teacher its softened divergence (Hinton et al., arXiv 1503.02531)."""
    logits = logits.float()
    loss = F.cross_entropy(logits, batch.labels, label_smoothing=training.label_smoothing)
    if batch.teacher is None or training.distil == 0:
        return loss
    heat = training.teacher_temperature
    teacher = F.log_softmax(batch.teacher / heat, dim=1)
    divergence = F.kl_div(F.log_softmax(logits / heat, dim=1), teacher, log_target=True, reduction="batchmean")
    return (1 - training.distil) * loss + training.distil * heat**2 * divergence


def consistency_loss(clean: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    """KL(clean || noisy) of two answers' logits (B, classes); the clean one is not moved (arXiv 2503.12907)."""
    target = F.log_softmax(clean.detach().float(), dim=1)
    return F.kl_div(F.log_softmax(noisy.float(), dim=1), target, log_target=True, reduction="batchmean")


def epochs_of(made: Callable[[Batch], Any], views: Views, config) -> Callable[[int], Iterator[Any]]:
    """``epoch -> `` what ``made`` makes of each of its batches, which depend on the seed and the epoch alone."""

    def epoch_of(epoch: int) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(config.training.seed * 10_000 + epoch)
        return map(made, views.batches(config.training.batch, generator))

    return epoch_of


def _warm_cosine(steps: int, warm_share: float = 0.05) -> Callable[[int], float]:
    warm = max(1, int(steps * warm_share))
    return lambda step: (
        (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))
    )


def annealed(batches: Callable[[int], Iterator[Any]], centers: Centers, epochs: int, sharpness: tuple[float, float]):
    """The same batches; the soft assignment to ``centers`` gets geometrically sharper from epoch to epoch."""
    first, last = sharpness

    def epoch_of(epoch: int) -> Iterator[Any]:
        centers.sharpness = first * (last / first) ** (epoch / max(1, epochs - 1))
        return batches(epoch)

    return epoch_of
