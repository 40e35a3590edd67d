"""Data sets: uint8 RGB images with integer labels, already split into train and test.

Every data set is held in memory as ``uint8 (N, H, W, 3)``: the ones meant for microcontroller cameras are small.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2s
from pathlib import Path

import numpy as np
from PIL import Image

from semantic_codec.bundle import Manifest, is_utf8
from semantic_codec.errors import ConfigError, NotFound
from semantic_codec.image import opened_to_rgb

DATA_VARIABLE = "WEAKLINK_DATA"


@dataclass(frozen=True)
class Split:
    """Images ``uint8 (N, H, W, 3)`` and labels ``int64 (N,)``."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> Split:
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Dataset:
    """A named data set; ``validation`` is empty until :func:`hold_out` has carved it from ``train``.

    ``mixed``: the training images stand in an order that a hash of each one's path chose, and that others don't change.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    validation: Split | None = None
    mixed: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of one image."""
        return tuple(self.train.images.shape[1:])

    def digest(self) -> str:
        """Of the training images in their order, their labels and the classes: what learns from other images has another."""
        digest = blake2s(json.dumps([self.shape, self.classes]).encode(), digest_size=8)
        for array in (self.train.images, self.train.labels):
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


_LOADERS: dict[str, Callable[[Path], Dataset]] = {}


def register(name: str):
    def keep(loader):
        _LOADERS[name] = loader
        return loader

    return keep


def data_folder(folder: str | os.PathLike | None = None) -> Path:
    """The folder given, else ``$WEAKLINK_DATA``, else ``data`` in the working directory."""
    return Path(folder or os.environ.get(DATA_VARIABLE) or "data")


def load_dataset(name: str, folder: str | os.PathLike | None = None) -> Dataset:
    """Load ``cifar10``, ``cifar100``, ``digits``, or ``folder:PATH`` (class folders, see :func:`load_folder`).

    ``folder`` is where the CIFAR files lie or are downloaded to. Raises :class:`ConfigError` for an unknown name.
    """
    if name.startswith("folder:"):
        return load_folder(Path(name.removeprefix("folder:")))
    if name not in _LOADERS:
        raise ConfigError(
            f"unknown data set {name!r}",
            allowed=f"{', '.join(sorted(_LOADERS))} or folder:PATH",
            fix="name one of these, or point folder: at a folder with one sub-folder per class",
        )
    return _LOADERS[name](data_folder(folder))


def hold_out(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """Carve ``count`` random training images out as the validation split (models are chosen on it, never on test).

    Of a folder these are the first in their order: when images come, none that was learned from becomes one to validate on.
    ConfigError: that leaves none of them, or of a class, to learn from.
    """
    if not 0 < count < len(dataset.train):
        raise ConfigError(
            f"[training] validation is {count}, {dataset.name} has {len(dataset.train)} training images",
            allowed="at least 1, and fewer than there are",
            fix="hold out fewer, or add images",
        )
    everything = np.arange(len(dataset.train))
    order = everything if dataset.mixed else np.random.default_rng(seed).permutation(everything)
    kept, held_out = (dataset.train.take(np.sort(part)) for part in (order[count:], order[:count]))
    return _learnable(replace(dataset, train=kept, validation=held_out), f"add images, or hold out fewer than {count} in [training] validation")


def trained_on(manifest: Manifest, folder: str | os.PathLike | None = None) -> Dataset:
    """The data set that a bundle learned from, with the images that it was validated on; ``folder`` as for :func:`load_dataset`."""
    training = manifest.training
    return hold_out(load_dataset(training["config"]["codec"]["dataset"], folder), training["validation_images"])


@register("digits")
def _digits(_: Path) -> Dataset:
    """Scikit-learn's 1,797 handwritten digits, 8x8; every fourth of a seeded shuffle is the test split."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    gray = (raw.images.astype(np.int64) * 255 + 8) // 16
    images = np.repeat(gray[..., None], 3, axis=3).astype(np.uint8)
    labels = raw.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    test = np.arange(len(labels)) % 4 == 0
    return Dataset(
        "digits",
        tuple(str(digit) for digit in range(10)),
        Split(images[order[~test]], labels[order[~test]]),
        Split(images[order[test]], labels[order[test]]),
    )


@register("cifar10")
def _cifar10(folder: Path) -> Dataset:
    return _cifar("cifar10", "CIFAR10", folder)


@register("cifar100")
def _cifar100(folder: Path) -> Dataset:
    return _cifar("cifar100", "CIFAR100", folder)


def _cifar(name: str, torchvision_name: str, folder: Path) -> Dataset:
    """The packed ``{name}_{train_a,train_b,test}.npz`` files where they lie in ``folder``, else the original release."""
    parts = {part: folder / f"{name}_{part}.npz" for part in ("train_a", "train_b", "test")}
    if all(path.is_file() for path in parts.values()):
        first, classes = _read_packed(parts["train_a"])
        second, _ = _read_packed(parts["train_b"])
        test, _ = _read_packed(parts["test"])
        train = Split(np.concatenate([first.images, second.images]), np.concatenate([first.labels, second.labels]))
        return Dataset(name, classes, train, test)
    from semantic_codec.nn.torchvision_import import datasets as torchvision_datasets

    try:
        halves = [getattr(torchvision_datasets, torchvision_name)(folder, train=t, download=True) for t in (True, False)]
    except Exception as error:  # the downloader raises whatever urllib, ssl or tarfile raise
        raise NotFound(
            f"{name} is neither in {folder} nor could it be downloaded ({error})",
            allowed=f"the packed {name}_*.npz files or the original python release in that folder",
            fix=f"set {DATA_VARIABLE} to the folder that holds them, or connect to the internet once",
        ) from error
    train, test = (Split(half.data, np.asarray(half.targets, np.int64)) for half in halves)
    return Dataset(name, tuple(halves[0].classes), train, test)


def _read_packed(path: Path) -> tuple[Split, tuple[str, ...]]:
    """Read one packed file: lossless WebP strips of 100 images, cut by ``offsets``."""
    with np.load(path) as packed:
        offsets, blob, labels = packed["offsets"], packed["webp"].tobytes(), packed["labels"]
        classes = tuple(str(name) for name in packed["classes"])
    strips = [np.asarray(Image.open(io.BytesIO(blob[a:b])).convert("RGB")) for a, b in zip(offsets, offsets[1:])]
    images = np.concatenate([strip.reshape(-1, strip.shape[1], strip.shape[1], 3) for strip in strips])
    return Split(images, labels.astype(np.int64)), classes


def load_folder(folder: Path) -> Dataset:
    """Images in class folders: ``folder/{train,test}/CLASS/*`` or ``folder/CLASS/*`` (then about a fifth is test).

    A hash of its path chooses for each image, so that it stays on its side when others come or go.
    All images must have one size; :class:`ConfigError` names the first that differs.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}", allowed="a folder of class folders", fix="check the path")
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        classes = _class_names(folder / "train")
        if unknown := sorted(set(_class_names(folder / "test")) - set(classes)):
            raise ConfigError(
                f"{folder / 'test'} has the class {unknown[0]!r}, which {folder / 'train'} has not",
                allowed=f"its {len(classes)}: {', '.join(classes[:10])}{', …' * (len(classes) > 10)}",
                fix="rename the folder, or add such images to train/",
            )
        train, test = (_read_class_folders(folder / part, classes)[0] for part in ("train", "test"))
        if train.images.shape[1:] != test.images.shape[1:]:
            (rows, columns), (test_rows, test_columns) = (part.images.shape[1:3] for part in (train, test))
            raise ConfigError(
                f"images of {folder} are {columns}x{rows} in train/, {test_columns}x{test_rows} in test/",
                allowed="one size", fix="resize all images to one size first",
            )  # fmt: skip
        return _learnable(Dataset(folder.name, classes, train, test, mixed=True))
    classes = _class_names(folder)
    whole, drawn = _read_class_folders(folder, classes)
    test = drawn % 5 == 0
    if test.all() or not test.any():
        raise ConfigError(
            f"of the {len(whole)} images in {folder}, {test.sum()} are test images",
            allowed="some, but not all; a hash of its path chooses for each",
            fix="add images, or split them yourself into train/ and test/",
        )
    return _learnable(Dataset(folder.name, classes, whole.take(~test), whole.take(test), mixed=True))


def _learnable(dataset: Dataset, fix: str = "add images, or remove the folder") -> Dataset:
    """The data set. ConfigError: a class of it has no training image."""
    for label in np.flatnonzero(np.bincount(dataset.train.labels, minlength=len(dataset.classes)) == 0):
        raise ConfigError(
            f"the class {dataset.classes[label]!r} of {dataset.name} has no training image",
            allowed="PNG, JPEG, WebP, BMP …, at least one of each class",
            fix=fix,
        )
    return dataset


def _class_names(folder: Path) -> tuple[str, ...]:
    classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if len(classes) < 2:
        raise ConfigError(
            f"{folder} holds {len(classes)} class folders",
            allowed="at least 2",
            fix="give one sub-folder of images per class",
        )
    for name in classes:
        if not is_utf8(name):
            raise ConfigError(f"the class folder {name!r} in {folder}", allowed="a name in UTF-8", fix="rename it")
    return classes


def _check_flat(folder: Path) -> None:
    """ConfigError: a folder in this class folder, none that is hidden, holds images, which would not be read."""
    for path in sorted(folder.glob("*/**/*")):
        below = path.relative_to(folder)
        if path.suffix.lower() in Image.registered_extensions() and not any(part.startswith(".") for part in below.parts):
            raise ConfigError(
                f"{path} lies in a folder of the class folder {folder}", allowed="images in the class folders themselves",
                fix="move it and the others there up, or out of the class folder",
            )  # fmt: skip


def _read_class_folders(folder: Path, classes: tuple[str, ...]) -> tuple[Split, np.ndarray]:
    """All images, mixed, and the number uint64 (N,) that each draws by its path below ``folder``, ascending."""
    images, labels, drawn = [], [], []
    for label, name in enumerate(classes):
        _check_flat(folder / name)
        for path in sorted((folder / name).glob("*")):
            if path.suffix.lower() not in Image.registered_extensions():
                continue
            try:
                with Image.open(path) as opened:
                    image = opened_to_rgb(opened, str(path))
            except (OSError, RuntimeError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # as Pillow's decoders raise
                raise ConfigError(f"{path} cannot be read ({error})", allowed="whole image files", fix="replace or remove it") from error
            if images and image.shape != images[0].shape:
                raise ConfigError(
                    f"{path} is {image.shape[1]}x{image.shape[0]}",
                    allowed=f"{images[0].shape[1]}x{images[0].shape[0]}, the size of the first image",
                    fix="resize all images to one size first",
                )
            images.append(image)
            labels.append(label)
            drawn.append(blake2s(os.fsencode(path.relative_to(folder).as_posix()), digest_size=8).digest())
    if not images:
        raise ConfigError(f"no image in {folder}", allowed="PNG, JPEG, WebP, BMP …", fix="check the folder")
    numbers = np.frombuffer(b"".join(drawn), ">u8").astype(np.uint64)
    order = np.argsort(numbers)
    return Split(np.stack(images)[order], np.asarray(labels, np.int64)[order]), numbers[order]
