"""``weaklink train CONFIG``: train a codec and write its bundle. Stopped runs go on where they were."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from codec_training.checkpoint import load_checkpoint
from codec_training.config import Config, load_config
from codec_training.datasets import Dataset, hold_out, load_dataset
from codec_training.stages import Heads, Stage, encoded, exported, validator
from codec_training.teacher import train_teacher
from codec_training.views import Views
from semantic_codec.errors import ConfigError, NotFound
from semantic_codec.nn.edge import EdgeNetwork
from semantic_codec.nn.encoder import FloatEncoder
from semantic_codec.nn.integer import IntegerReference
from semantic_codec.nn.quantized import QuantizedEncoder
from semantic_codec.nn.quantizer import binarize


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink train", description=__doc__)
    parser.add_argument("config", help="a .toml file, or the name of one of ours: cifar10, digits")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie or go (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="checkpoints and TensorBoard logs (default: runs)")
    parser.add_argument("--bundles", metavar="DIR", help="where the bundle goes (default: RUNS/NAME/bundles)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = load_config(arguments.config)
    folder = Path(arguments.runs) / config.codec.name
    dataset = hold_out(load_dataset(config.codec.dataset, arguments.data), config.training.validation)
    train(config, dataset, folder)
    from codec_training.export import export_run

    paths = export_run(folder, dataset, config, Path(arguments.bundles or folder / "bundles"))
    print("\n".join(f"bundle: {path}" for path in paths))
    print(f"next: weaklink evaluate {' '.join(map(str, paths))} --data-set {config.codec.dataset}")
    return 0


def build(config: Config, classes: int) -> tuple[FloatEncoder, Heads]:
    """Fresh networks from the seed."""
    torch.manual_seed(config.training.seed)
    encoder = FloatEncoder(config.encoder)
    bits, tasks = config.codec.levels[-1], {config.codec.task: classes}
    blind = config.edge.__class__(**{**vars(config.edge), "aware": False})
    probe = torch.nn.Linear(encoder.shapes[-1].inputs, classes)
    heads = Heads(EdgeNetwork(bits, tasks, config.edge), EdgeNetwork(bits, tasks, blind), probe)
    return encoder, heads.to(memory_format=torch.channels_last)


def check_fit(config: Config, dataset: Dataset) -> None:
    """Refuse a configuration that does not fit its data set or itself, before any epoch is spent."""
    if dataset.shape[:2] != (config.encoder.height, config.encoder.width):
        raise ConfigError(
            f"the encoder takes {config.encoder.height}x{config.encoder.width} images, {dataset.name} has "
            f"{dataset.shape[0]}x{dataset.shape[1]}",
            allowed="one size",
            fix="set [encoder] height and width to the data set's",
        )
    program = QuantizedEncoder(config.encoder).export()
    if config.edge.grid and config.edge.grid != program.latent_shape[1:]:
        raise ConfigError(
            f"[edge] grid is {list(config.edge.grid)}, the encoder's last map is {list(program.latent_shape[1:])}",
            allowed="the same rows and columns, or no grid",
            fix="correct [edge] grid",
        )
    if program.symbols != config.codec.levels[-1]:
        raise ConfigError(
            f"the encoder yields {program.symbols} symbols, the longest level has {config.codec.levels[-1]}",
            allowed="the same number",
            fix="correct [codec] levels or [encoder] latent_channels",
        )


def train(config: Config, dataset: Dataset, folder: Path) -> tuple[QuantizedEncoder, Heads]:
    """All stages; every stage resumes from ``folder`` and is skipped where it is complete."""
    check_fit(config, dataset)
    training = config.training
    encoder, heads = build(config, len(dataset.classes))
    if training.start_from:
        _start_from(folder.parent / training.start_from, encoder)
    views = Views(dataset.train, training)
    if config.teacher is not None and training.distil > 0:
        teacher = train_teacher(dataset, config.teacher, folder / "teacher")
        views.distil(teacher, folder / "teacher_logits.npy")
    steps = len(views) // training.batch
    held_out = torch.from_numpy(dataset.validation.images)
    with SummaryWriter(folder / "tensorboard") as writer:
        encoder.to(memory_format=torch.channels_last)
        check = validator(heads, lambda: _signs(encoder, held_out), dataset.validation, config, twin=False)
        Stage("float", config, folder, heads, encoder, False, writer).run(
            training.float_epochs, training.learning_rate, steps, encoded(encoder, views, config, half=True), check
        )
        quantized = QuantizedEncoder.from_float(encoder, torch.from_numpy(dataset.train.images[:2000]))
        quantized.to(memory_format=torch.channels_last)
        heads.copy_to_twin()
        check = validator(heads, lambda: _signs(quantized, held_out), dataset.validation, config, twin=True)
        Stage("integer", config, folder, heads, quantized, True, writer).run(
            training.integer_epochs, training.integer_learning_rate, steps, encoded(quantized, views, config, half=False), check
        )
        reference = IntegerReference(quantized.export())
        check = validator(heads, lambda: reference(held_out).float() * 2 - 1, dataset.validation, config, twin=True)
        Stage("tail", config, folder, heads, None, True, writer).run(
            training.tail_epochs, training.tail_learning_rate, steps, exported(reference, views, config), check
        )
    return quantized, heads


def _start_from(earlier: Path, encoder: FloatEncoder) -> None:
    """Take over the encoder of an earlier run's float stage."""
    if not load_checkpoint(earlier / "float", encoder=encoder):
        raise NotFound(
            f"there is no run {earlier} to start from",
            allowed="a run whose float stage has finished an epoch",
            fix=f"run: weaklink train {earlier.name}",
        )


@torch.no_grad()
def _signs(encoder: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    encoder.eval()
    return torch.cat([binarize(encoder(part)) for part in images.split(1000)])


if __name__ == "__main__":
    raise SystemExit(main())
