"""Checkpoints that resume: one file, replaced atomically, read back with ``weights_only`` (nothing is unpickled freely)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(folder: Path, epoch: int, config: dict[str, Any], **parts) -> None:
    """Write the state of every part (anything with ``state_dict``) after ``epoch`` finished epochs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    partial = folder / "checkpoint.pt.partial"
    torch.save({"epoch": epoch, **{name: part.state_dict() for name, part in parts.items()}}, partial)
    os.replace(partial, folder / "checkpoint.pt")


def load_checkpoint(folder: Path, **parts) -> int:
    """Restore the given parts if there is a checkpoint; returns the number of finished epochs, else 0."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["epoch"]
