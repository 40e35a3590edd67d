"""``python -m benchmarks.rivals.receiver CONFIG``: the network that classifies pictures, taught what JPEG and WebP do to them.

It starts as the teacher of a run of ``weaklink train CONFIG`` and sees training images through formats and qualities
drawn at random, untouched ones among them.
"""

from __future__ import annotations

import argparse
import json
from hashlib import blake2s
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.rivals.images import ImageFormat, read
from codec_training.augment import crop, pad_reflect
from codec_training.checkpoint import load_checkpoint, save_checkpoint
from codec_training.config import load_config
from codec_training.datasets import Dataset, hold_out, load_dataset
from codec_training.teacher import Teacher, TeacherConfig, accuracy_percent
from semantic_codec.nn.precision import in_half

EPOCHS, BATCH, LEARNING_RATE, MARGIN = 3, 500, 0.05, 4
PLAIN_SHARE = 0.1
FOLDER = "receiver"
"""Below a run's folder, beside its ``teacher``."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals.receiver", description=__doc__.split("\n\n")[0])
    parser.add_argument("config", help="a .toml file, or the name of one of ours, whose run has a teacher")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default: %(default)s")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="checkpoints (default: runs)")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config)
    dataset = hold_out(load_dataset(config.codec.dataset, arguments.data), config.training.validation)
    folder = Path(arguments.runs) / config.codec.name
    model = load_receiver(folder / "teacher", len(dataset.classes))
    if model is None:
        parser.error(f"there is no finished teacher in {folder / 'teacher'}; run: weaklink train {arguments.config}")
    fine_tune(model, dataset, arguments.epochs, config.training.seed, folder / FOLDER)
    return 0


def load_receiver(folder: Path, classes: int) -> Teacher | None:
    """The finished network in ``folder``, the teacher's or a fine-tuned one; None where there is none."""
    if not (folder / "config.json").is_file():
        return None
    settings = json.loads((folder / "config.json").read_text())
    widths = tuple(settings.get("widths", TeacherConfig.widths))
    model = Teacher(classes, widths, settings.get("mirror", True)).to(memory_format=torch.channels_last)
    return model.eval() if load_checkpoint(folder, model=model) >= settings["epochs"] else None


def fine_tune(model: Teacher, dataset: Dataset, epochs: int, seed: int, folder: Path) -> None:
    """Train on ``dataset.train`` through drawn formats; resumes from ``folder``, reports on ``dataset.validation``.

    ConfigError: what lies there began as another network, or saw other images.
    """
    widths = [group[0].out_channels for group in model.groups]
    settings = {"epochs": epochs, "seed": seed, "widths": widths} | ({} if model.mirror else {"mirror": False})
    began = blake2s(safetensors.torch.save({name: each.contiguous() for name, each in model.state_dict().items()})).hexdigest()
    fingerprint = settings | {"images": dataset.digest(), "began as": began}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=LEARNING_RATE, momentum=0.9, nesterov=True)
    batch = min(BATCH, len(dataset.train))
    steps = len(dataset.train) // batch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / (steps * epochs)))
    start = load_checkpoint(folder, fingerprint, model=model, optimizer=optimizer, schedule=schedule)
    labels = torch.from_numpy(dataset.train.labels)
    for epoch in range(start, epochs):
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        images = pad_reflect(torch.from_numpy(damage(dataset.train.images, np.random.default_rng([seed, epoch]))), MARGIN)
        order = torch.randperm(len(labels), generator=generator)
        model.train()
        for step in tqdm(range(steps), desc=f"receiver epoch {epoch + 1}/{epochs}", mininterval=10):
            index = order[step * batch : (step + 1) * batch]
            offsets = torch.randint(0, 2 * MARGIN + 1, (len(index), 2), generator=generator)
            mirrored = (torch.rand(len(index), generator=generator) < 0.5) & model.mirror
            with in_half():
                logits = model(crop(images[index], offsets, mirrored, dataset.shape[:2]))
            loss = F.cross_entropy(logits.float(), labels[index], label_smoothing=TeacherConfig.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        save_checkpoint(folder, epoch + 1, settings, fingerprint, model=model, optimizer=optimizer, schedule=schedule)
        print(f"receiver epoch {epoch + 1}: validation {accuracy_percent(model, dataset.validation):.2f} % untouched", flush=True)


def damage(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image uint8 (N, H, W, 3) through a format of its own, or untouched."""
    seen = images.copy()
    kind = rng.choice(3, len(images), p=[PLAIN_SHARE, (1 - PLAIN_SHARE) / 2, (1 - PLAIN_SHARE) / 2])
    quality = rng.integers(5, 96, len(images))
    subsampling = rng.choice([0, 2], len(images))
    for index in np.flatnonzero(kind):
        name = "jpeg" if kind[index] == 1 else "webp"
        form = ImageFormat(name, int(quality[index]), int(subsampling[index]))
        seen[index] = read(form.write(images[index]))
    return seen


if __name__ == "__main__":
    raise SystemExit(main())
