"""A photograph of any size for the codec's input."""

from __future__ import annotations

import numpy as np

from semantic_codec.errors import InvalidRequest
from semantic_codec.image import resize


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut the middle out at the wanted aspect ratio, then shrink as :func:`semantic_codec.image.resize` does.

    uint8 (h, w, 3) -> uint8 (height, width, 3). :class:`InvalidRequest` for other types and for images that are smaller.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InvalidRequest(
            f"the image is {image.dtype} {image.shape}", allowed="uint8 (h, w, 3), RGB", fix="convert to 8-bit RGB"
        )
    rows, columns = image.shape[:2]
    keep_rows = min(rows, max(1, columns * height // width))
    keep_columns = min(columns, max(1, rows * width // height))
    top, left = (rows - keep_rows) // 2, (columns - keep_columns) // 2
    return resize(image[top : top + keep_rows, left : left + keep_columns], height, width)
