from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_client.resize import fit
from semantic_codec.errors import InvalidRequest

sizes = st.integers(1, 7)


def exact_mean(image: np.ndarray, top: Fraction, bottom: Fraction, left: Fraction, right: Fraction) -> int:
    """Mean of the first channel over a rectangle in pixel units, by exact fractions, rounded half up."""
    total = Fraction(0)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            height = max(Fraction(0), min(bottom, y + 1) - max(top, y))
            width = max(Fraction(0), min(right, x + 1) - max(left, x))
            total += height * width * int(image[y, x, 0])
    mean = total / ((bottom - top) * (right - left))
    return int(mean + Fraction(1, 2))


@settings(max_examples=40, deadline=None)
@given(size=sizes, target=sizes, seed=st.integers(0, 1000))
def test_every_pixel_is_the_mean_of_the_area_that_it_covers(size, target, seed):
    image = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    small = fit(image, target, target)
    step = Fraction(size, target)
    expected = [
        [exact_mean(image, y * step, (y + 1) * step, x * step, (x + 1) * step) for x in range(target)]
        for y in range(target)
    ]
    assert small[..., 0].tolist() == expected


def test_the_right_size_passes_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    assert np.array_equal(fit(image, 8, 6), image)


@pytest.mark.parametrize("shape", [(8, 20, 3), (20, 8, 3)])
def test_the_middle_is_kept(shape):
    image = np.zeros(shape, np.uint8)
    image[shape[0] // 2 - 4 : shape[0] // 2 + 4, shape[1] // 2 - 4 : shape[1] // 2 + 4] = 200
    assert (fit(image, 4, 4) == 200).all()


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(InvalidRequest, match="8-bit RGB"):
        fit(image, 2, 2)
