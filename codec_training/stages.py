"""The three stages of training a codec.

    float    encoder in floats, decoder and tail, all through the channel
    integer  the same with int8 weights and activations simulated
    tail     decoder and tail alone, on the very bits that the exported integer encoder sends

The blind twin, a decoder that is told neither the BER nor the received share, starts as a copy of the aware one when the
integer stage begins and learns from the same bits and the same flips; its gradient does not reach the encoder. A probe, a
linear classifier on the encoder's averaged features, gives the encoder a gradient that no flip has disturbed (deep
supervision; Lee et al., arXiv 1409.5185); it is what a device would need to answer alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from codec_training.checkpoint import load_checkpoint, save_checkpoint
from codec_training.config import Config, as_table
from codec_training.datasets import Split
from codec_training.views import Batch, Views
from semantic_codec.nn.channel import draw_ber, transmit
from semantic_codec.nn.edge import EdgeNetwork
from semantic_codec.nn.integer import IntegerReference
from semantic_codec.nn.quantizer import binarize

# What is reported after every epoch: (level from the end, BER).
WATCHED = ((-1, 0.0), (-1, 0.05), (-1, 0.1), (0, 0.0))


class Heads(nn.Module):
    """The BER-aware network, its blind twin and the probe."""

    def __init__(self, aware: EdgeNetwork, blind: EdgeNetwork, probe: nn.Linear):
        super().__init__()
        self.aware, self.blind, self.probe = aware, blind, probe

    def copy_to_twin(self) -> None:
        """Give the blind twin the aware network's weights, all but those that the BER goes through."""
        twin = self.blind.state_dict()
        self.blind.load_state_dict({name: self.aware.state_dict()[name] for name in twin})


@dataclass(frozen=True)
class Sent:
    """What a training step sends: ``signs`` float (B, n) of +-1, ``features`` float (B, C, h, w) where the encoder learns."""

    signs: torch.Tensor
    features: torch.Tensor | None
    batch: Batch


class Stage:
    """One stage: what is trained, on which signs, for how long; ``twin`` where the blind network learns along."""

    def __init__(self, name: str, config: Config, folder: Path, heads: Heads, encoder: nn.Module | None, twin: bool, writer):
        self.name, self.config, self.folder = name, config, folder / name
        self.heads, self.encoder, self.twin, self.writer = heads, encoder, twin, writer

    def run(
        self,
        epochs: int,
        learning_rate: float,
        steps: int,
        sent: Callable[[int], Iterator[Sent]],
        validate: Callable[[], dict[str, float]],
    ) -> None:
        """Train ``epochs`` epochs of ``steps`` steps; ``sent(epoch)`` yields its batches."""
        parts = {"heads": self.heads} | ({"encoder": self.encoder} if self.encoder is not None else {})
        modules = nn.ModuleList(parts.values())
        optimizer = _optimizer(modules, learning_rate, self.config.training.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(steps * epochs))
        start = load_checkpoint(self.folder, **parts, optimizer=optimizer, schedule=schedule)
        for epoch in range(start, epochs):
            modules.train()
            total = 0.0
            progress = tqdm(sent(epoch), total=steps, desc=f"{self.name} {epoch + 1}/{epochs}", mininterval=5)
            for step in progress:
                loss = self._loss(step)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(modules.parameters(), 5.0)
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
            scores = validate()
            line = "  ".join(f"{name} {value:.2f}" for name, value in scores.items())
            print(f"{self.name} epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}  validation % {line}", flush=True)
            self.writer.add_scalar(f"{self.name}/loss", total / steps, epoch + 1)
            for name, value in scores.items():
                self.writer.add_scalar(f"{self.name}/validation {name}", value, epoch + 1)
            save_checkpoint(
                self.folder, epoch + 1, as_table(self.config), **parts, optimizer=optimizer, schedule=schedule
            )

    def _loss(self, sent: Sent) -> torch.Tensor:
        """Half of the images cross the channel whole, half cut to a random level (tail-drop)."""
        config = self.config
        levels = torch.tensor(config.codec.levels)
        count, task = len(sent.signs), config.codec.task
        prefix = torch.where(torch.rand(count) < 0.5, levels[-1], levels[torch.randint(len(levels), (count,))])
        received = transmit(sent.signs, draw_ber(count, config.channel), prefix, config.channel)
        with torch.autocast("cpu", torch.bfloat16):
            loss = self._task_loss(self.heads.aware(received.soft, received.ber)[task], sent.batch)
            if self.twin:
                loss = loss + self._task_loss(self.heads.blind(received.hard.detach(), received.ber)[task], sent.batch)
        if sent.features is not None:
            probed = self._task_loss(self.heads.probe(sent.features.mean((2, 3))), sent.batch)
            loss = loss + config.training.probe * probed
        return loss

    def _task_loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        training = self.config.training
        logits = logits.float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=training.label_smoothing)
        if batch.teacher is None or training.distil == 0:
            return loss
        heat = training.teacher_temperature
        teacher = F.log_softmax(batch.teacher / heat, dim=1)
        divergence = F.kl_div(F.log_softmax(logits / heat, dim=1), teacher, log_target=True, reduction="batchmean")
        return (1 - training.distil) * loss + training.distil * heat**2 * divergence


def encoded(encoder: nn.Module, views: Views, config: Config, half: bool) -> Callable[[int], Iterator[Sent]]:
    """What a trainable encoder sends, one epoch at a time; ``half`` runs it in bf16."""

    def sent(batch: Batch) -> Sent:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            features = encoder.features(batch.images)
            latents = encoder.layers[-1](features)
        return Sent(binarize(latents.float()), features.float(), batch)

    return _epochs(sent, views, config)


def exported(reference: IntegerReference, views: Views, config: Config) -> Callable[[int], Iterator[Sent]]:
    """What the exported integer encoder sends, one epoch at a time."""
    return _epochs(lambda batch: Sent(reference(batch.images).float() * 2 - 1, None, batch), views, config)


def _epochs(sent: Callable[[Batch], Sent], views: Views, config: Config) -> Callable[[int], Iterator[Sent]]:
    def epoch_sent(epoch: int) -> Iterator[Sent]:
        generator = torch.Generator().manual_seed(config.training.seed * 10_000 + epoch)
        return map(sent, views.batches(config.training.batch, generator))

    return epoch_sent


@torch.no_grad()
def validator(heads: Heads, signs: Callable[[], torch.Tensor], split: Split, config: Config, twin: bool):
    """Accuracy on the validation split at :data:`WATCHED` points, with flips from a fixed seed."""
    labels = torch.from_numpy(split.labels)

    @torch.no_grad()
    def validate() -> dict[str, float]:
        heads.eval()
        sent = signs()
        scores = {}
        for position, ber in WATCHED:
            prefix = config.codec.levels[position]
            generator = torch.Generator().manual_seed(1)
            flips = torch.rand(sent.shape, generator=generator) < ber
            known = (torch.arange(sent.shape[1]) < prefix).float()
            hard = torch.where(flips, -sent, sent) * known
            rate = torch.full((len(sent),), ber)
            networks = [("", heads.aware, hard * (1 - 2 * ber))] + ([("blind ", heads.blind, hard)] if twin else [])
            for name, network, soft in networks:
                right = network(soft, rate)[config.codec.task].argmax(1) == labels
                scores[f"{name}{prefix}b@{ber:g}"] = 100 * float(right.float().mean())
        return scores

    return validate


def _optimizer(module: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    decayed = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate)


def _warm_cosine(steps: int, warm_share: float = 0.05) -> Callable[[int], float]:
    warm = max(1, int(steps * warm_share))
    return lambda step: (
        (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / (steps - warm))))
    )
