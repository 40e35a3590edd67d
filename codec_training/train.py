"""``weaklink train CONFIG``: train a codec and write its bundle. Stopped runs go on where they were."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import torch

from codec_training.config import load_config, with_seed
from codec_training.datasets import Dataset, hold_out, load_dataset
from codec_training.export import check_target, export_run
from codec_training.families import find_family
from semantic_codec.errors import ConfigError

MOST_THREADS = 1024
"""More than any machine has cores: a number that would take all its memory is refused."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="weaklink train", description=__doc__)
    parser.add_argument("config", help="a .toml file, or the name of one of ours: digits, cifar10_three_levels and then cifar10, cifar100")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie or go (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="checkpoints and TensorBoard logs (default: runs)")
    parser.add_argument("--bundles", metavar="DIR", help="where the bundle goes (default: RUNS/NAME/bundles)")
    parser.add_argument("--seed", type=int, help="another training of the same codec, named NAME-seedN (default: the configuration's)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.threads <= MOST_THREADS:
        raise ConfigError(f"--threads is {arguments.threads}", allowed=f"0 to {MOST_THREADS}", fix="leave it out")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = load_config(arguments.config)
    if arguments.seed is not None:
        config = with_seed(config, arguments.seed)
    folder = Path(arguments.runs) / config.codec.name
    dataset = hold_out(load_dataset(config.codec.dataset, arguments.data), config.training.validation)
    check_sizes(config, dataset)
    family = find_family(config.codec.family)
    family.check_fit(config, dataset)
    bundles = Path(arguments.bundles or folder / "bundles")
    check_target(config, bundles)
    bundles.mkdir(parents=True, exist_ok=True)  # hours before anything is written there
    counts = [f"{len(split)} {name}" for name, split in (("training", dataset.train), ("validation", dataset.validation), ("test", dataset.test))]
    print(f"{', '.join(counts)} images of {len(dataset.classes)} classes", flush=True)
    family.train(config, dataset, folder)
    paths = export_run(folder, dataset, config, bundles)
    print("\n".join(f"bundle: {path}" for path in paths))
    measure = ["weaklink", "evaluate", *map(str, paths), "--data-set", config.codec.dataset]
    print(f"next: {shlex.join(measure + (['--data', arguments.data] if arguments.data else []))}")
    return 0


def check_sizes(config, dataset: Dataset) -> None:
    """Refuse batches that are never full and margins that leave no image to reflect in them."""
    distils = config.teacher is not None and config.training.distil > 0
    for name, table in {"training": config.training, **({"teacher": config.teacher} if distils else {})}.items():
        if table.batch > len(dataset.train):
            raise ConfigError(
                f"[{name}] batch is {table.batch}", allowed=f"at most {len(dataset.train)}, all training images", fix="make it smaller"
            )
        if table.margin >= min(dataset.shape[:2]):
            raise ConfigError(
                f"[{name}] margin is {table.margin}", allowed=f"0 to {min(dataset.shape[:2]) - 1} pixels for these images", fix="make it smaller"
            )


if __name__ == "__main__":
    raise SystemExit(main())
