"""What decides how a stage of a training ends: settings and images. Checkpoints keep it, so that no other run goes on from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codec_training.checkpoint import load_checkpoint
from codec_training.config import as_table
from codec_training.datasets import Dataset

NOT_TRAINED = ("codec.name", "codec.codec_id", "codec.version", "codec.dataset", "codec.blind_ber", "training.bundle")
"""Settings that no weight depends on. Where a data set or a bundle lies is one of them: its images or files are compared themselves."""


def fingerprints(config, dataset: Dataset, stages: dict[str, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    """Of each stage: the settings it depends on, by their names in the configuration, and the training images' digest.

    ``stages``, in order, claim the settings that no earlier stage depends on. A setting belongs to the first stage that claims
    it, and all stages depend on one that none claims.
    """
    order = list(stages)
    settings = {name: value for name, value in _settings(as_table(config)) if name not in NOT_TRAINED}
    since = {name: next((at for at, claims in enumerate(stages.values()) if is_claimed(name, claims)), 0) for name in settings}
    images = {"images": dataset.digest()}
    return {
        stage: {name: value for name, value in settings.items() if since[name] <= position} | images
        for position, stage in enumerate(order)
    }


def is_claimed(name: str, claims: tuple[str, ...]) -> bool:
    """Whether one of ``claims`` is this setting's name, or, ending with ``.`` or ``_``, what it begins with."""
    return any(name.startswith(claim) if claim.endswith((".", "_")) else name == claim for claim in claims)


def check_stages(config, folder: Path, prints: dict[str, dict[str, Any]]) -> None:
    """ConfigError: a stage that the run in ``folder`` would go on with or skip was trained otherwise."""
    for stage, fingerprint in prints.items():
        if getattr(config.training, f"{stage}_epochs"):
            load_checkpoint(folder / stage, fingerprint)


def _settings(table: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """("training.batch", 100) and so on, with values as JSON has them."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _settings(value, f"{within}{name}.")
        else:
            yield within + name, json.loads(json.dumps(value))
