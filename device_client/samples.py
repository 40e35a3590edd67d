"""What `weaklink send` sends: a bundle's recording, image files, folders of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from device_client.device import Sample
from device_client.fit import fit
from semantic_codec.bundle import Bundle, load_recording
from semantic_codec.errors import ConfigError, InvalidRequest, NotFound
from semantic_codec.image import opened_to_rgb

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def recording_samples(bundle: Bundle) -> list[Sample]:
    """The real bitstreams of a whole test split, with their labels."""
    recording = load_recording(bundle)
    pairs = zip(recording.bitstreams, recording.labels.tolist(), strict=True)
    return [Sample(bitstream.tobytes(), label, f"recording {i}") for i, (bitstream, label) in enumerate(pairs)]


def image_samples(paths: Sequence[str | Path], bundle: Bundle) -> Iterable[Sample]:
    """Images of files and folders, resized to the codec's input, read as they are sent.

    A folder's sub-folders named after classes of the codec give the labels. :class:`NotFound` names a path that is not
    there, :class:`InvalidRequest` a file that is no image or too small, :class:`ConfigError` a missing Pillow.
    """
    manifest = bundle.manifest
    classes = {name: index for index, name in enumerate(manifest.tasks[0].classes)}
    files = [found for path in paths for found in _files(Path(path))]
    _pillow()
    return _ImageFiles([(path, classes.get(path.parent.name)) for path in files], manifest.height, manifest.width)


class _ImageFiles:
    """Reads each file again on every pass: a folder may be larger than the device's memory."""

    def __init__(self, files: list[tuple[Path, int | None]], height: int, width: int):
        self._files, self._height, self._width = files, height, width

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Sample]:
        for path, label in self._files:
            image = read_image(path)
            try:
                fitted = fit(image, self._height, self._width)
            except InvalidRequest as refusal:
                raise InvalidRequest(f"{path}: {refusal.problem}", allowed=refusal.allowed, fix=refusal.fix) from None
            yield Sample(fitted, label, str(path))


def read_image(path: Path) -> np.ndarray:
    """A file as uint8 (h, w, 3) RGB."""
    image = _pillow()
    try:
        with image.open(path) as opened:
            return opened_to_rgb(opened, str(path))
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:  # as Pillow's decoders raise
        raise InvalidRequest(
            f"{path} cannot be read as an image ({error})", allowed="PNG, JPEG, WebP, BMP …", fix="check the file"
        ) from error


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(found for found in path.rglob("*") if found.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise NotFound(f"no image in {path}", allowed=" ".join(IMAGE_SUFFIXES), fix="check the folder")
        return files
    if not path.is_file():
        raise NotFound(f"there is no file {path}", allowed="an image or a folder of images", fix="check the path")
    return [path]


def _pillow():
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError(
            "reading image files needs Pillow, which is not installed",
            allowed="recordings and arrays without it",
            fix="pip install 'weaklink[images]'",
        ) from error
    return Image
