"""Camera rows to the codec's input, as the reference resizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_client.fit import fit
from semantic_codec.image import rgb565_to_rgb


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.data())
def test_rows_are_fitted_as_by_the_reference(board_module, rows, columns, data):
    height, width = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    image = rng.integers(0, 256, (rows, columns, 3)).astype(np.uint8)
    pixels = rng.integers(0, 1 << 16, (rows, columns)).astype(np.uint16)
    fitter_type = board_module("image").Fitter
    fitter = fitter_type(rows, columns, height, width)
    big = fitter_type(rows, columns, height, width, rgb565=True)
    little = fitter_type(rows, columns, height, width, rgb565=True, swapped=True)
    cases = [(fitter, image), (big, pixels.astype(">u2")), (little, pixels.astype("<u2"))]
    for one, lines in cases:
        for _ in range(2):
            one.restart()
            for line in lines:
                one.add(line.tobytes())
    assert bytes(fitter.image) == fit(image, height, width).tobytes()
    assert bytes(big.image) == bytes(little.image) == fit(rgb565_to_rgb(pixels), height, width).tobytes()


def test_smaller_frames_and_cut_rows_are_refused(board_module):
    fitter_type, errors = board_module("image").Fitter, board_module("errors")
    with pytest.raises(errors.InvalidRequest, match="a larger frame"):
        fitter_type(8, 8, 16, 8)
    with pytest.raises(errors.InvalidRequest, match="whole rows"):
        fitter_type(8, 8, 4, 4).add(bytes(23))


def test_a_second_frame_without_a_restart_is_refused(board_module):
    fitter_type, errors = board_module("image").Fitter, board_module("errors")
    fitter = fitter_type(8, 8, 4, 4)
    for _ in range(8):
        fitter.add(bytes(24))
    with pytest.raises(errors.InvalidRequest, match="restart"):
        fitter.add(bytes(24))
