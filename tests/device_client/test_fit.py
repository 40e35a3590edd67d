from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_client.fit import fit
from semantic_codec.errors import InvalidRequest
from semantic_codec.image import resize


def test_the_right_size_passes_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    assert np.array_equal(fit(image, 8, 6), image)


@pytest.mark.parametrize("shape", [(8, 20, 3), (20, 8, 3)])
def test_the_middle_is_kept(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    middle = image[shape[0] // 2 - 4 : shape[0] // 2 + 4, shape[1] // 2 - 4 : shape[1] // 2 + 4]
    assert np.array_equal(fit(image, 4, 4), resize(middle, 4, 4))


@settings(deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), height=st.integers(1, 12), width=st.integers(1, 12))
def test_an_image_is_fitted_unless_it_is_smaller(rows, columns, height, width):
    image = np.full((rows, columns, 3), 7, np.uint8)
    if rows < height or columns < width:
        with pytest.raises(InvalidRequest, match="larger camera frame"):
            fit(image, height, width)
    else:
        fitted = fit(image, height, width)
        assert fitted.shape == (height, width, 3) and (fitted == 7).all()


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(InvalidRequest, match="8-bit RGB"):
        fit(image, 2, 2)
