"""``python -m codec_training.local RUN``: how well the device would do alone.

The encoder's trunk with the probe behind it is a complete int8 network of the encoder's own cost: what the device could
run instead of sending anything. It is measured on the whole test split, in integers.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from torch import nn

from codec_training.config import load_config
from codec_training.datasets import hold_out, load_dataset
from codec_training.families.weaklink import load_networks
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.nn.integer import IntegerReference
from semantic_codec.nn.quantized import QuantizedEncoder
from semantic_codec.report import print_table, write_json


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m codec_training.local", description=__doc__)
    parser.add_argument("config", help="the configuration of a finished run")
    parser.add_argument("--data", metavar="DIR", help="where CIFAR files lie (default: $WEAKLINK_DATA, else data)")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="checkpoints (default: runs)")
    parser.add_argument("--json", metavar="FILE", help="write the table there as well")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config)
    dataset = hold_out(load_dataset(config.codec.dataset, arguments.data), config.training.validation)
    encoder, heads = load_networks(Path(arguments.runs) / config.codec.name, config, dataset)
    program = encoder.export()
    right = [
        (answer(program, encoder, heads.probe, part) == labels).float()
        for part, labels in zip(torch.from_numpy(dataset.test.images).split(1000), torch.from_numpy(dataset.test.labels).split(1000))
    ]
    row = {
        "bundle": config.codec.name,
        "encoder_hash": hashlib.sha256(program.to_bytes()).hexdigest(),
        "encoder_macs": program.macs,
        "images": len(dataset.test),
        "accuracy_percent": round(100 * float(torch.cat(right).mean()), 2),
    }
    print_table([row], list(row))
    if arguments.json:
        write_json(arguments.json, [row], config.training.seed)
    return 0


def answer(program: EncoderProgram, encoder: QuantizedEncoder, probe: nn.Linear, images: torch.Tensor) -> torch.Tensor:
    """Classes int64 (B,) of uint8 (B, H, W, 3): int8 features summed over the map, times int8 weights, plus an int bias."""
    weight, bias = probe.weight.detach(), probe.bias.detach()
    step = weight.abs().amax() / 127
    total = IntegerReference(program).features(images).sum((2, 3))
    # One unit of the sum below in real terms: the last activation's scale, the mean over positions, the weights' step.
    unit = encoder.layers[-2].scale * step * program.latent_shape[1] ** -1 * program.latent_shape[2] ** -1
    return (total @ torch.round(weight / step).T + torch.round(bias / unit)).argmax(1)


if __name__ == "__main__":
    raise SystemExit(main())
