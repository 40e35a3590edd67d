"""Integer resizing, so that every device sends the same bits for the same photograph."""

from __future__ import annotations

import numpy as np

from semantic_codec.errors import InvalidRequest


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crop to the middle at the wanted aspect ratio, then average areas.

    uint8 (h, w, 3) -> uint8 (height, width, 3). An output pixel is the mean of the input area that it covers, weighted
    by the overlap, rounded half up: ``(sum(weight * value) + half) // (h * w)``, in integers throughout.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InvalidRequest(
            f"the image is {image.dtype} {image.shape}", allowed="uint8 (h, w, 3), RGB", fix="convert to 8-bit RGB"
        )
    image = _crop(image, height, width)
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    tall = _shrink(image.astype(np.int64), height)
    total = _shrink(tall.transpose(1, 0, 2), width).transpose(1, 0, 2)
    area = rows * columns
    return ((total + area // 2) // area).astype(np.uint8)


def _crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = image.shape[:2]
    keep_rows = min(rows, max(1, columns * height // width))
    keep_columns = min(columns, max(1, rows * width // height))
    top, left = (rows - keep_rows) // 2, (columns - keep_columns) // 2
    return image[top : top + keep_rows, left : left + keep_columns]


def _shrink(values: np.ndarray, size: int) -> np.ndarray:
    """Overlap-weighted sums along the first axis; the weights of each output add up to the input's length.

    On a scale where the axis is ``length * size`` long, input j covers [j*size, (j+1)*size) and output i covers
    [i*length, (i+1)*length).
    """
    length = len(values)
    out = np.empty((size, *values.shape[1:]), np.int64)
    for i in range(size):
        start, stop = i * length, (i + 1) * length
        covered = np.arange(start // size, -(-stop // size))
        weights = np.minimum(stop, (covered + 1) * size) - np.maximum(start, covered * size)
        out[i] = np.tensordot(weights, values[covered], axes=1)
    return out
