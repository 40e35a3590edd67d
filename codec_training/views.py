"""Training images as a fixed set of crops per image, so that a slow teacher looks at each crop once.

A teacher must see the crop that the student sees (Beyer et al., "Knowledge distillation: a good teacher is patient and
consistent", arXiv 2106.05237); mirroring is left free, with the mirrored crop taking the logits of the crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from codec_training.augment import crop, pad_reflect
from codec_training.checkpoint import reading, replacing
from codec_training.config import LearningConfig
from codec_training.datasets import Split
from codec_training.teacher import predict


@dataclass(frozen=True)
class Batch:
    """uint8 images (B, H, W, 3), labels int64 (B,), teacher logits float32 (B, classes) or None."""

    images: torch.Tensor
    labels: torch.Tensor
    teacher: torch.Tensor | None


class Views:
    """``config.views`` crops of every image of a split, drawn once from the seed."""

    def __init__(self, split: Split, config: LearningConfig):
        self.size = tuple(split.images.shape[1:3])
        self.labels = torch.from_numpy(split.labels)
        self.count, self.mirror, self.margin, self.seed = config.views, config.mirror, config.margin, config.seed
        self.padded = pad_reflect(torch.from_numpy(split.images), config.margin)
        generator = torch.Generator().manual_seed(config.seed)
        self.offsets = torch.randint(0, 2 * config.margin + 1, (config.views, len(split), 2), generator=generator)
        self.teacher_logits: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: torch.Tensor, view: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
        """The crops ``view`` int64 (B,) of the images ``index`` int64 (B,), mirrored where bool (B,) says so."""
        return crop(self.padded[index], self.offsets[view, index], mirrored, self.size)

    def distil(self, teacher: torch.nn.Module, folder: Path) -> None:
        """Ask the teacher about every crop once; the logits are kept in its ``folder`` as float16 (views, N, classes).

        Logits of fewer crops are added to: the first offsets of a seed don't depend on how many are drawn.
        """
        cache = folder / f"logits-margin{self.margin}-seed{self.seed}.npy"
        everything = torch.arange(len(self))
        plain = torch.zeros(len(self), dtype=torch.bool)
        logits = []
        if cache.is_file():
            with reading(cache, fix="delete it: the teacher is asked again"):
                logits += torch.from_numpy(np.load(cache))
        missing = range(len(logits), self.count)
        for view in tqdm(missing, desc="teacher looks at the crops"):
            crops = self.images(everything, torch.full_like(everything, view), plain)
            logits.append(predict(teacher, crops).half())
        if missing:
            with replacing(cache) as file:
                np.save(file, torch.stack(logits).numpy())
        self.teacher_logits = torch.stack(logits[: self.count])

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch: every image once, each in a random view."""
        order = torch.randperm(len(self), generator=generator)
        for start in range(0, len(self) - size + 1, size):
            index = order[start : start + size]
            view = torch.randint(0, self.count, (size,), generator=generator)
            mirrored = (torch.rand(size, generator=generator) < 0.5) & self.mirror
            teacher = None if self.teacher_logits is None else self.teacher_logits[view, index].float()
            yield Batch(self.images(index, view, mirrored), self.labels[index], teacher)
