"""Checkpoints that resume: one file, replaced atomically, read back with ``weights_only`` (nothing is unpickled freely)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from semantic_codec.errors import ConfigError


def save_checkpoint(folder: Path, epoch: int, config: dict[str, Any], fingerprint: dict[str, Any] | None = None, **parts) -> None:
    """Write the state of every part (anything with ``state_dict``) after ``epoch`` finished epochs.

    ``fingerprint`` is what decides how the training ends, plain values by name: whoever resumes it has to give the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    partial = folder / f"checkpoint.pt.{os.getpid()}.partial"  # runs that share a teacher may both be training it
    kept = {"epoch": epoch, "fingerprint": fingerprint, **{name: part.state_dict() for name, part in parts.items()}}
    try:
        torch.save(kept, partial)
        os.replace(partial, folder / "checkpoint.pt")
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(folder: Path, fingerprint: dict[str, Any] | None = None, **parts) -> int:
    """Restore the given parts if there is a checkpoint; returns the number of finished epochs, else 0.

    ConfigError: the checkpoint has another ``fingerprint``, where one is given.
    """
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    if fingerprint is not None:
        _check(folder, state.get("fingerprint"), fingerprint)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["epoch"]


def _check(folder: Path, kept: dict[str, Any] | None, wanted: dict[str, Any]) -> None:
    """Refuse to go on with what other settings or images have trained."""
    if kept == wanted:
        return
    if kept is None:
        problem = f"{folder} does not say with which settings and images it was trained"
    else:
        names = [name for name in {**wanted, **kept} if name not in kept or name not in wanted or kept[name] != wanted[name]]
        changes = [f"{name} {kept.get(name, 'unset')}, now {wanted.get(name, 'unset')}" for name in names]
        problem = f"{folder} was trained with {'; '.join(changes)}"
    raise ConfigError(
        problem, allowed="a run is resumed with the settings and images that it began with",
        fix="give another --runs folder, or delete that one and those of the stages after it",
    )  # fmt: skip
