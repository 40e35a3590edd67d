"""What the stages of a ``weaklink`` training send, and what they lose.

    trunk    encoder and probe alone, nothing sent: a third of the work of a step of the next, and no flip disturbs it
    float    encoder in floats, decoder and tail, all through the channel
    integer  the same with int8 weights and activations simulated
    tail     decoder and tail alone, on the very bits that the exported integer encoder sends

The blind twin, a decoder that is told neither the BER nor the received share, starts as a copy of the aware one when the
integer stage begins and learns from the same bits and the same flips; its gradient does not reach the encoder. A probe, a
linear classifier on the encoder's averaged features, gives the encoder a gradient that no flip has disturbed (deep
supervision; Lee et al., arXiv 1409.5185); it is what a device would need to answer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from codec_training.config import TrainingConfig
from codec_training.datasets import Split
from codec_training.families.weaklink_bundle import taught
from codec_training.stages import consistency_loss, epochs_of, task_loss
from codec_training.views import Batch, Views
from semantic_codec.nn.channel import Received, draw_ber, transmit
from semantic_codec.nn.edge import EdgeNetwork, received_share
from semantic_codec.nn.encoder import FloatEncoder
from semantic_codec.nn.integer import IntegerReference
from semantic_codec.nn.precision import in_half
from semantic_codec.nn.quantizer import symbol_signs, transmitted

if TYPE_CHECKING:
    from codec_training.families.weaklink import Config

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
    """What a training step sends: ``signs`` float (B, n) of +-1, ``features`` float (B, C, h, w) where the encoder learns.

    ``drift``, zeros (B, N), carries the gradient of centers (``transmitted``) where the encoder learns them.
    """

    signs: torch.Tensor
    features: torch.Tensor | None
    batch: Batch
    drift: torch.Tensor | None = None


class TrunkLoss:
    """The loss of one step of the stage ``trunk``: of the probe, on the features in floats."""

    def __init__(self, encoder: FloatEncoder, probe: nn.Linear, training: TrainingConfig):
        self.encoder, self.probe, self.training = encoder, probe, training

    def __call__(self, batch: Batch) -> torch.Tensor:
        with in_half():
            features = self.encoder.features(batch.images)
        return task_loss(self.probe(features.float().mean((2, 3))), batch, self.training)


def trunk_validator(encoder: FloatEncoder, probe: nn.Linear, split: Split) -> Callable[[], dict[str, float]]:
    """Accuracy of the probe on the validation split, without a channel."""
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)

    @torch.no_grad()
    def validate() -> dict[str, float]:
        encoder.eval()
        right = [
            probe(encoder.features(part).mean((2, 3))).argmax(1) == labels_of_part
            for part, labels_of_part in zip(images.split(1000), labels.split(1000))
        ]
        return {"probe": 100 * float(torch.cat(right).float().mean())}

    return validate


class CodecLoss:
    """The loss of one step; ``twin`` where the blind network learns along."""

    def __init__(self, config: Config, heads: Heads, twin: bool):
        self.config, self.heads, self.twin = config, heads, twin

    def __call__(self, sent: Sent) -> torch.Tensor:
        """Half of the images cross the channel whole, half cut to a random level (tail-drop)."""
        config, training = self.config, self.config.training
        levels = torch.tensor(config.codec.levels) * config.encoder.bits
        count = len(sent.signs)
        prefix = torch.where(torch.rand(count) < 0.5, levels[-1], levels[torch.randint(len(levels), (count,))])
        received = transmit(sent.signs, draw_ber(count, config.channel), prefix, config.channel)
        with in_half():
            answer = self._answer(received, sent.drift)
            loss = task_loss(answer, sent.batch, training)
            if training.consistency:
                whole = torch.arange(sent.signs.shape[1]) < prefix[:, None]
                with torch.no_grad():
                    clean = self._answer(Received(sent.signs, torch.zeros(count), whole), None)
                loss = loss + training.consistency * consistency_loss(clean, answer)
            if self.twin:
                loss = loss + task_loss(self._twin_s_answer(received), sent.batch, training)
        if sent.features is not None:
            probed = task_loss(self.heads.probe(sent.features.mean((2, 3))), sent.batch, training)
            loss = loss + training.probe * probed
        return loss

    def _answer(self, received: Received, drift: torch.Tensor | None) -> torch.Tensor:
        network, soft = self.heads.aware, received.soft
        symbols = network.received(soft)
        if drift is not None:
            symbols = symbols + drift * received.known.unflatten(1, (-1, self.config.encoder.bits)).all(-1)
        return network.answer(symbols, received_share(soft), received.ber)[self.config.codec.task]

    def _twin_s_answer(self, received: Received) -> torch.Tensor:
        """Of the blind network, from which no gradient reaches encoder and centers."""
        soft = received.soft.detach()
        symbols = self.heads.blind.received(soft).detach()
        return self.heads.blind.answer(symbols, received_share(soft), received.ber)[self.config.codec.task]


def encoded(encoder: nn.Module, views: Views, config: Config, half: bool) -> Callable[[int], Iterator[Sent]]:
    """What a trainable encoder sends, one epoch at a time; ``half`` runs it in bfloat16, where that is faster."""

    def sent(batch: Batch) -> Sent:
        with in_half(half):
            features = encoder.features(batch.images)
            latents = encoder.latents(features)
        signs, drift = transmitted(latents.float(), encoder.centers, config.codec.levels[-1])
        return Sent(signs, features.float(), batch, drift)

    return epochs_of(sent, views, config)


def exported(reference: IntegerReference, views: Views, config: Config, teacher: nn.Module | None) -> Callable[[int], Iterator[Sent]]:
    """What the exported integer encoder sends, one epoch at a time; ``teacher``, where there is one, answers all of it."""

    def sent(batch: Batch) -> Sent:
        signs = symbol_signs(reference(batch.images)[:, : config.codec.levels[-1]], config.encoder.bits)
        return Sent(signs, None, batch if teacher is None else taught(batch, signs, teacher, config.codec.task))

    return epochs_of(sent, views, config)


def validator(heads: Heads, signs: Callable[[], torch.Tensor], split: Split, config: Config, twin: bool):
    """Accuracy on the validation split at :data:`WATCHED` points, with flips from a fixed seed."""
    labels = torch.from_numpy(split.labels)
    networks = {"": heads.aware} | ({"blind ": heads.blind} if twin else {})

    @torch.no_grad()
    def validate() -> dict[str, float]:
        heads.eval()
        sent = signs()
        scores = {}
        for position, ber in WATCHED:
            prefix = config.codec.levels[position] * config.encoder.bits
            generator = torch.Generator().manual_seed(1)
            flips = torch.rand(sent.shape, generator=generator) < ber
            known = (torch.arange(sent.shape[1]) < prefix).float()
            soft = torch.where(flips, -sent, sent) * known * (1 - 2 * ber)
            rate = torch.full((len(sent),), ber)
            for name, network in networks.items():
                right = network(soft, rate)[config.codec.task].argmax(1) == labels
                scores[f"{name}{prefix}b@{ber:g}"] = 100 * float(right.float().mean())
        return scores

    return validate
