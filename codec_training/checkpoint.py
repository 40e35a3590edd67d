"""Checkpoints that resume: one file, replaced atomically, read back with ``weights_only`` (nothing is unpickled freely)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from semantic_codec.errors import ConfigError


def save_checkpoint(folder: Path, epoch: int, config: dict[str, Any], fingerprint: dict[str, Any] | None = None, **parts) -> None:
    """Write the state of every part (anything with ``state_dict``) after ``epoch`` finished epochs.

    ``fingerprint`` is what decides how the training ends, plain values by name: whoever resumes it has to give the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    kept = {"epoch": epoch, "fingerprint": fingerprint, **{name: part.state_dict() for name, part in parts.items()}}
    with replacing(folder / "checkpoint.pt") as file:
        torch.save(kept, file)


def load_checkpoint(folder: Path, fingerprint: dict[str, Any] | None = None, **parts) -> int:
    """Restore the given parts if there is a checkpoint; returns the number of finished epochs, else 0.

    ConfigError: the checkpoint is damaged, or has another ``fingerprint``, where one is given.
    """
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return 0
    with reading(path, fix="delete it and the folders of the stages after it"):
        state = torch.load(path, weights_only=True)
    if fingerprint is not None:
        _check(folder, state.get("fingerprint"), fingerprint)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["epoch"]


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``path`` once it is whole and on the disk: a power cut leaves one or the other."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # runs that share a teacher may both be at it
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def reading(path: Path, fix: str) -> Iterator[None]:
    """ConfigError: what is read inside from ``path`` is damaged."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damage makes torch, pickle and NumPy raise a dozen kinds
        raise ConfigError(f"{path} cannot be read ({type(error).__name__})", allowed="the whole file, as it was written", fix=fix) from error


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
