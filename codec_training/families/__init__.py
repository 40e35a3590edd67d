"""Families of codecs. Each is a composition of parts, and one module here that ``[codec] family`` names.

    part        weaklink                                   semanticnn
    encoder     integer convolutions (nn/encoder.py)       first layers of the base, one convolution, GDN
    quantizer   the sign: binary latents                   eight learned centers, an index map that was searched
    channel     flips, bursts, erasures, cut prefixes      flips of the indices' bits
    decoder     residual blocks, scaled by the channel     transposed convolutions, inverse GDN, channel attention
    tail        linear heads                               the rest of the base
    stages      float, integer, tail                       base, autoencoder, task (joint, tail)

The others that cut one of torchvision's networks in two, ``adjscc``, ``bottlenetpp``, ``deepcod`` and ``aecnn``, differ from
``semanticnn`` in encoder, quantizer, decoder and stages, and share its training (split.py).

A family's module has

    Config                               its configuration's dataclass: ``codec``, ``training``, and tables of its own
    check_fit(config, dataset)           refuses, before an epoch is spent, what cannot work
    train(config, dataset, folder)       all stages; each resumes from ``folder``
    load_run(folder, config, dataset)    what a finished run has made, as :class:`Trained`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from semantic_codec.errors import ConfigError

FAMILIES = {name: f"codec_training.families.{name}" for name in ("weaklink", "semanticnn", "adjscc", "bottlenetpp", "deepcod", "aecnn")}


def find_family(name: str) -> ModuleType:
    """The module of a family; ConfigError where there is none."""
    if name not in FAMILIES:
        raise ConfigError(f"[codec] family is {name!r}", allowed=", ".join(FAMILIES), fix="name one of these")
    return import_module(FAMILIES[name])


@dataclass(frozen=True)
class DeviceHalf:
    """What runs on the device: its file in the bundle, its cost, and ``encode``, which gives what it sends.

    ``encode`` maps images uint8 (N, H, W, 3) to bitstreams uint8 (N, bytes of the longest level). ``macs`` and ``weights``
    are per image and in numbers; ``latent_shape`` is channels, rows and columns of what the encoder yields, of which ``symbols`` are sent.
    """

    file_name: str
    file_bytes: bytes
    encode: Callable[[np.ndarray], np.ndarray]
    height: int
    width: int
    symbols: int
    latent_shape: tuple[int, int, int]
    bits_per_symbol: int
    macs: int
    weights: int
    preprocessing: str


@dataclass(frozen=True)
class Trained:
    """A finished run. ``networks``: (soft (B, bits), ber (B,)) -> {task: logits}, by what their bundles' names end in.

    Each network has a ``config`` dataclass, which the manifest keeps as ``edge``. ``notes`` go into the manifest's ``training``.
    """

    device: DeviceHalf
    networks: dict[str, nn.Module]
    notes: dict[str, Any] = field(default_factory=dict)
