"""Camera formats in integers, the same on every implementation: RGB565 to RGB, and resizing. Image files to RGB."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from semantic_codec.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image


def rgb565_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """uint16 (..., H, W), red in the top 5 bits -> uint8 (..., H, W, 3); the high bits fill the low ones (0..255)."""
    if pixels.dtype != np.uint16:
        raise InvalidRequest(f"pixels are {pixels.dtype}", allowed="uint16", fix="view the camera's bytes as 16-bit words")
    red, green, blue = pixels >> 11, pixels >> 5 & 63, pixels & 31
    wide = [red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2]
    return np.stack(wide, axis=-1).astype(np.uint8)


def opened_to_rgb(image: Image, name: str) -> np.ndarray:
    """What Pillow opened as uint8 (h, w, 3), turned as its EXIF orientation says. :class:`InvalidRequest`, which calls it
    ``name``: not of 8 bits a channel."""
    if image.mode[0] in "IF":  # Pillow would clip these at 255
        raise InvalidRequest(
            f"{name} has deep pixels (mode {image.mode})",
            allowed="8 bits per channel",
            fix="convert it to 8 bits: which values become black and white only you know",
        )
    return np.asarray(_turned(image).convert("RGB"))


def _turned(image: Image) -> Image:
    from PIL import ImageOps  # only who opened an image has Pillow

    try:
        return ImageOps.exif_transpose(image)
    except (struct.error, SyntaxError, TypeError, ValueError):  # malformed EXIF data says nothing, and the pixels may be whole
        return image


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink uint8 (..., H, W, 3) to (..., height, width, 3) by averaging.

    Output pixel ``y`` is the mean, rounded half up, of the input rows ``y * H // height`` up to, not including,
    ``(y + 1) * H // height``; columns likewise. A device can do it line by line with one line of 32-bit sums.
    """
    rows, columns = images.shape[-3:-1]
    if images.dtype != np.uint8 or not 1 <= height <= rows or not 1 <= width <= columns:
        raise InvalidRequest(
            f"{images.dtype} images of {rows}x{columns} to {height}x{width}",
            allowed="uint8 images that are at least as large as what is wanted",
            fix="take a larger camera frame",
        )
    row_edges, column_edges = (
        np.arange(out + 1) * size // out for out, size in ((height, rows), (width, columns))
    )
    sums = np.add.reduceat(images.astype(np.uint32), row_edges[:-1], axis=-3)
    sums = np.add.reduceat(sums, column_edges[:-1], axis=-2)
    area = (np.diff(row_edges)[:, None] * np.diff(column_edges)).astype(np.uint32)[..., None]
    return ((sums + area // 2) // area).astype(np.uint8)
