"""The full model that codecs are distilled from: a fast-training CIFAR network that needs no download.

Architecture and schedule follow airbench94 (K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
arXiv 2404.00498): a fixed patch-whitening first layer, three groups of two convolutions, Nesterov SGD with a
triangular learning rate and decoupled hyper-parameters.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from hashlib import blake2s
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from codec_training.augment import crop, pad_reflect
from codec_training.checkpoint import load_checkpoint, save_checkpoint
from codec_training.datasets import Dataset
from semantic_codec.errors import ConfigError
from semantic_codec.nn.precision import in_half


SMALLEST = 9
"""Rows and columns of an image of which three halvings leave anything."""


@dataclass(frozen=True)
class TeacherConfig:
    """``learning_rate`` and ``weight_decay`` are per 1,024 examples, as in the paper; ``margin`` in pixels."""

    epochs: int = 12
    batch: int = 1000
    learning_rate: float = 11.5
    momentum: float = 0.85
    weight_decay: float = 0.0153
    bias_scale: float = 64.0
    label_smoothing: float = 0.1
    margin: int = 4
    widths: tuple[int, int, int] = (64, 256, 256)
    seed: int = 0


class ConvGroup(nn.Sequential):
    """conv, 2x2 pool, norm, GELU, conv, norm, GELU; convolutions start as the identity on the channels they share."""

    def __init__(self, channels_in: int, channels_out: int):
        layers = []
        for index, inputs in enumerate((channels_in, channels_out)):
            conv = nn.Conv2d(inputs, channels_out, 3, padding=1, bias=False)
            nn.init.dirac_(conv.weight.data[:inputs])
            norm = nn.BatchNorm2d(channels_out, momentum=0.4)
            norm.weight.requires_grad_(False)
            layers += [conv, *([nn.MaxPool2d(2)] if index == 0 else []), norm, nn.GELU()]
        super().__init__(*layers)


class Teacher(nn.Module):
    """uint8 (B, H, W, 3) -> logits (B, classes). mirror: a mirrored image is of the same class, :func:`answers` asks for both."""

    def __init__(self, classes: int, widths: tuple[int, int, int] = (64, 256, 256), mirror: bool = True):
        super().__init__()
        self.mirror = mirror
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))
        whitened = 2 * 3 * 2 * 2
        self.whiten = nn.Conv2d(3, whitened, 2)
        self.whiten.weight.requires_grad_(False)
        self.groups = nn.Sequential(*map(ConvGroup, (whitened, *widths[:-1]), widths))
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def fit_input(self, images: np.ndarray, eps: float = 5e-4) -> None:
        """Set mean, standard deviation and the whitening filters from uint8 (N, H, W, 3) training images."""
        scaled = torch.from_numpy(images).float() / 255
        self.mean.copy_(scaled.mean((0, 1, 2)))
        self.std.copy_(scaled.std((0, 1, 2)))
        patches = F.unfold(self._normalize(torch.from_numpy(images)), 2).transpose(1, 2).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / torch.sqrt(values + eps)).T.reshape(12, 3, 2, 2)
        self.whiten.weight.data.copy_(torch.cat([filters, -filters]))

    def _normalize(self, images: torch.Tensor) -> torch.Tensor:
        x = (images.float() / 255 - self.mean) / self.std
        return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.groups(F.gelu(self.whiten(self._normalize(images))))
        return self.head(x.amax((2, 3))) / 9


def shared_folder(dataset: Dataset, config: TeacherConfig, run: Path, mirror: bool = True) -> Path:
    """``run/teacher``, a link to the folder of all runs beside ``run`` that ask for this teacher of these training images.

    A folder that lies there itself, as in a copy of a run, stays: what it holds is compared when it is read.
    """
    link = run / "teacher"
    if link.is_symlink() or not link.exists():
        asked = json.dumps(_fingerprint(dataset, config, mirror))
        plain = re.sub(r"[^\w.]+", "-", dataset.name)
        name = f"{plain}-{blake2s(asked.encode(), digest_size=4).hexdigest()}"
        (run.parent / "teachers" / name).mkdir(parents=True, exist_ok=True)
        run.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "teachers", name), target_is_directory=True)
    return link


def _fingerprint(dataset: Dataset, config: TeacherConfig, mirror: bool) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(config))) | {"images": dataset.digest()} | ({} if mirror else {"mirror": False})


def train_teacher(dataset: Dataset, config: TeacherConfig, folder: Path, mirror: bool = True) -> Teacher:
    """Train on ``dataset.train``, report on ``dataset.validation``; resumes from ``folder`` and stays there.

    ``mirror``: it learns from half of the images mirrored, and answers with the mean of an image's answer and its mirror image's.
    ConfigError: images too small for its layers.
    """
    if min(dataset.shape[:2]) < SMALLEST:
        raise ConfigError(
            f"[teacher] would look at images of {dataset.shape[0]}x{dataset.shape[1]}", allowed=f"{SMALLEST}x{SMALLEST} and more",
            fix="leave [teacher] out, and set [training] distil to 0",
        )  # fmt: skip
    torch.manual_seed(config.seed)
    model = Teacher(len(dataset.classes), config.widths, mirror).to(memory_format=torch.channels_last)
    model.fit_input(dataset.train.images[:5000])
    steps = len(dataset.train) // config.batch
    optimizer, schedule = _optimizer(model, config, steps * config.epochs)
    fingerprint = _fingerprint(dataset, config, mirror)
    start = load_checkpoint(folder, fingerprint, model=model, optimizer=optimizer, schedule=schedule)
    padded = pad_reflect(torch.from_numpy(dataset.train.images), config.margin)
    labels = torch.from_numpy(dataset.train.labels)
    for epoch in range(start, config.epochs):
        generator = torch.Generator().manual_seed(config.seed * 1000 + epoch)
        order = torch.randperm(len(labels), generator=generator)
        model.train()
        # The bias of the whitening layer settles early; training it on costs a full-resolution backward pass.
        model.whiten.bias.requires_grad_(epoch < 3)
        progress = tqdm(range(steps), desc=f"teacher epoch {epoch + 1}/{config.epochs}", mininterval=10)
        for step in progress:
            index = order[step * config.batch : (step + 1) * config.batch]
            offsets = torch.randint(0, 2 * config.margin + 1, (len(index), 2), generator=generator)
            mirrored = (torch.rand(len(index), generator=generator) < 0.5) & mirror
            images = crop(padded[index], offsets, mirrored, dataset.shape[:2])
            with in_half():
                logits = model(images)
            loss = F.cross_entropy(
                logits.float(), labels[index], label_smoothing=config.label_smoothing, reduction="sum"
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        save_checkpoint(folder, epoch + 1, asdict(config) | {"mirror": mirror}, fingerprint, model=model, optimizer=optimizer, schedule=schedule)
        if dataset.validation is not None:
            print(f"teacher epoch {epoch + 1}: validation {accuracy_percent(model, dataset.validation):.2f} %", flush=True)
    return model.eval()


def _optimizer(model: Teacher, config: TeacherConfig, steps: int):
    kilo_steps = 1024 * (1 + 1 / (1 - config.momentum))
    rate = config.learning_rate / kilo_steps
    decay = config.weight_decay * config.batch / kilo_steps
    biases = [p for name, p in model.named_parameters() if p.requires_grad and name.endswith("bias")]
    others = [p for name, p in model.named_parameters() if p.requires_grad and not name.endswith("bias")]
    bias_rate = rate * config.bias_scale
    groups = [
        {"params": biases, "lr": bias_rate, "weight_decay": decay / bias_rate},
        {"params": others, "lr": rate, "weight_decay": decay / rate},
    ]
    optimizer = torch.optim.SGD(groups, momentum=config.momentum, nesterov=True)
    peak = 0.23 * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: 0.2 + 0.8 * step / peak if step < peak else 0.07 + 0.93 * max(0.0, (steps - step) / (steps - peak)),
    )
    return optimizer, schedule


@torch.inference_mode()
def predict(model: nn.Module, images: np.ndarray | torch.Tensor, batch: int = 1000) -> torch.Tensor:
    """Logits ``float32 (N, classes)`` in evaluation mode, in bfloat16 inside where that is faster."""
    model.eval()
    images = torch.as_tensor(images)
    with in_half():
        return torch.cat([model(part).float() for part in images.split(batch)])


def answers(model: Teacher, images: np.ndarray) -> np.ndarray:
    """Classes int64 (N,) of images uint8 (N, H, W, 3), by the mean over an image and its mirror image where ``mirror`` allows it."""
    asked = torch.from_numpy(images)
    logits = predict(model, asked)
    if model.mirror:
        logits = logits + predict(model, asked.flip(2))
    return logits.argmax(1).numpy()


def accuracy_percent(model: Teacher, split) -> float:
    """Top-1 accuracy of :func:`answers` in percent."""
    return 100.0 * (answers(model, split.images) == split.labels).mean()
