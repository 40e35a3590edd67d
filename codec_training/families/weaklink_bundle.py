"""A bundle to go on from: its encoder stands, as devices out there run it, and its decoder and tail learn on.

What it answers to a whole payload takes the teacher's place, so that shorter and damaged ones are drawn to that
(self-distillation; Zhang et al., "Be your own teacher", arXiv 1905.08094).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from codec_training.datasets import Dataset
from codec_training.views import Batch
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import ConfigError, NotFound
from semantic_codec.nn.edge import EdgeConfig
from semantic_codec.nn.precision import in_half

if TYPE_CHECKING:
    from codec_training.families.weaklink import Config


def open_bundle(config: Config) -> Bundle:
    """The bundle that ``[training] bundle`` names; :class:`NotFound` where there is none, :class:`ConfigError` where no device runs it."""
    try:
        bundle = find_bundle(config.training.bundle)
    except NotFound as error:
        raise NotFound(
            f"{error.problem}, behind which {config.codec.name} is trained", allowed=error.allowed,
            fix="train that one first, or name another in [training] bundle",
        ) from error  # fmt: skip
    if not bundle.runs_on_devices:
        raise ConfigError(
            f"[training] bundle {config.training.bundle!r} is of the family {bundle.manifest.family!r}",
            allowed="one of the family 'weaklink'", fix="name such a bundle or its folder, or leave it out",
        )  # fmt: skip
    return bundle


def check_bundle(bundle: Bundle, program: EncoderProgram, config: Config, dataset: Dataset) -> None:
    """ConfigError: the bundle's networks are not those of the configuration, whose encoder is ``program`` before training."""
    manifest, kept = bundle.manifest, EncoderProgram.from_bytes(bundle.encoder_bin)
    for what, of_bundle, wanted in (
        ("[encoder]", _shape(kept), _shape(program)),
        ("[edge]", asdict(EdgeConfig(**manifest.edge)), asdict(config.edge)),  # keys that are younger than the bundle have their defaults
        ("[codec] levels end at", manifest.symbols, config.codec.levels[-1]),
        ("classes are", manifest.tasks[0].classes, tuple(dataset.classes)),
    ):  # fmt: skip
        if _plain(of_bundle) != _plain(wanted):
            raise ConfigError(
                f"{what} {_plain(wanted)} does not fit [training] bundle {config.training.bundle!r}, which has {_plain(of_bundle)}",
                allowed="the same", fix="extend the configuration that the bundle was trained with",
            )  # fmt: skip


def taught(batch: Batch, signs: torch.Tensor, network: nn.Module, task: str) -> Batch:
    """The batch with the logits of ``network`` for all its bits, ``signs`` float (B, n) of +-1, as its teacher's."""
    with torch.no_grad(), in_half():
        logits = network(signs, torch.zeros(len(signs)))[task]
    return replace(batch, teacher=logits.float())


def _shape(program: EncoderProgram) -> tuple[Any, ...]:
    return program.height, program.width, program.bits_per_symbol, *(tuple(vars(layer.shape).values()) for layer in program.layers)


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
