"""What the stages of a training in ``split.py`` lose, and how they are watched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from codec_training.datasets import Split
from codec_training.families.attribution import asymmetry_loss, attributions
from codec_training.stages import consistency_loss, task_loss
from codec_training.views import Batch
from semantic_codec.nn.channel import Received, draw_ber, transmit
from semantic_codec.nn.encoder import pixels
from semantic_codec.nn.gdn import GDN
from semantic_codec.nn.precision import in_half
from semantic_codec.nn.split_codec import Device, SplitEdge

WATCHED = (0.0, 0.05, 0.1)


class _Loss:
    """``tail`` answers in place of the edge's, where that is not trained."""

    def __init__(self, config, device: Device, edge: SplitEdge, tail: nn.Module | None = None):
        self.config, self.device, self.edge, self.tail = config, device, edge, tail or edge.tail

    def _send(self, signs: torch.Tensor) -> Received:
        """The bits of all symbols as +-1, float (B, bits), through the channel that the configuration describes."""
        channel = self.config.channel
        whole = torch.full((len(signs),), signs.shape[1])
        return transmit(signs, draw_ber(len(signs), channel), whole, channel)

    def _through(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents (B, c, h, w) -> what arrives (B, N), what was sent (B, N), BER (B,), soft usage of the centers (K,).

        The gradient of what arrives is that of the soft assignment, and at flips also that of the center that came instead.
        """
        centers = self.device.centers
        levels, sent, usage = centers.quantize(latents.flatten(1))
        received = self._send(centers.signs(levels))
        return sent + self.edge.received(received.soft) - centers.values[levels], sent, received.ber, usage

    def _restored(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        """Features, computed in bfloat16 where that is faster: never in the tail, which may have depthwise convolutions."""
        with in_half():
            return self.edge.restored(latents, ber).float()

    def _answer(self, latents: torch.Tensor, ber: torch.Tensor) -> torch.Tensor:
        return self.tail(self._restored(latents, ber))


class AutoencoderLoss(_Loss):
    """Mean squared error of the features that the decoder restores."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            features = self.device.head(pixels(batch.images))
        arrived, _, ber, _ = self._through(self.device.encoder(features))
        return F.mse_loss(self._restored(arrived, ber), features)


class TaskLoss(_Loss):
    """Of the task, and where they weigh: features, the centers' usage, the attributions' asymmetry, noisy answers unlike clean ones."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        training = self.config.training
        features = self.device.head(pixels(batch.images))
        arrived, sent, ber, usage = self._through(self.device.encoder(features))
        restored = self._restored(arrived, ber)
        logits = self.tail(restored)
        loss = task_loss(logits, batch, training)
        if training.features:
            loss = loss + training.features * F.mse_loss(restored, features.detach())
        if training.usage:
            loss = loss + training.usage * F.mse_loss(usage, torch.full_like(usage, 1 / len(usage)))
        if training.attribution:
            few = slice(training.attribution_images)
            own = batch.labels[few, None]
            found = attributions(lambda latents: self._answer(latents, ber[few]).gather(1, own)[:, 0], arrived[few])
            loss = loss + training.attribution * asymmetry_loss(found)
        if training.consistency:
            with torch.no_grad():
                clean = self._answer(sent, torch.zeros_like(ber))
            loss = loss + training.consistency * consistency_loss(clean, logits)
        return loss


class TailLoss(_Loss):
    """Of the task, on the very symbols that the device sends."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        training, centers = self.config.training, self.device.centers
        with torch.no_grad():
            signs = centers.signs(centers.levels(self.device.eval()(batch.images).flatten(1)))
            received = self._send(signs)
            arrived, sent = self.edge.received(received.soft), self.edge.received(signs)
            clean = self._answer(sent, torch.zeros_like(received.ber)) if training.consistency else None
        logits = self._answer(arrived, received.ber)
        loss = task_loss(logits, batch, training)
        return loss if clean is None else loss + training.consistency * consistency_loss(clean, logits)


@torch.no_grad()
def base_accuracy(base: nn.Module, split: Split) -> dict[str, float]:
    """Of the uncompressed base, in percent."""
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    right = [(base.eval()(pixels(part)).argmax(1) == wanted).sum() for part, wanted in zip(images.split(500), labels.split(500))]
    return {"base": 100 * float(sum(right)) / len(labels)}


def codec_accuracy(device: Device, edge: SplitEdge, split: Split) -> Callable[[], dict[str, float]]:
    """Accuracy on a split at :data:`WATCHED` bit error rates, in percent, with flips from a fixed seed."""
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)

    @torch.no_grad()
    def validate() -> dict[str, float]:
        device.eval(), edge.eval()
        generator, scores = torch.Generator().manual_seed(1), dict.fromkeys(WATCHED, 0.0)
        for part, wanted in zip(images.split(500), labels.split(500)):
            signs = device.centers.signs(device.centers.levels(device(part).flatten(1)))
            draws = torch.rand(signs.shape, generator=generator)
            for ber in WATCHED:
                soft = torch.where(draws < ber, -signs, signs) * (1 - 2 * ber)
                answer = edge(soft, torch.full((len(part),), ber))[edge.task].argmax(1)
                scores[ber] += 100 * float((answer == wanted).sum()) / len(labels)
        return {f"b@{ber:g}": value for ber, value in scores.items()}

    return validate


@torch.no_grad()
def count_macs(module: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of one image in convolutions, linear layers and divisive norms."""
    counts = []

    def weighed(layer: nn.Conv2d | nn.Linear, _, output: torch.Tensor) -> None:
        counts.append(output[0].numel() * layer.weight[0].numel())

    def norm(layer: GDN, _, output: torch.Tensor) -> None:
        counts.append(output[0].numel() * len(layer.beta))

    weighing = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(weighed) for layer in weighing]
    hooks += [layer.register_forward_hook(norm) for layer in module.modules() if isinstance(layer, GDN)]
    module.eval()(torch.zeros(1, height, width, 3, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return sum(counts)
