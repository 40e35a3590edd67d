"""Camera lines to images: the C library against semantic_codec.image."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from device_client.fit import fit
from semantic_codec.image import resize, rgb565_to_rgb

OK, ARGUMENT, LENGTH = 0, 1, 5


MIDDLE = 2


def request(how: int, frame: np.ndarray, height: int, width: int) -> bytes:
    return struct.pack("<BHHHH", how, *frame.shape[:2], height, width) + frame.tobytes()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_any_size_in_both_formats(host_harness, rows, columns, data):
    height, width = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rgb = rng.integers(0, 256, (rows, columns, 3)).astype(np.uint8)
    words = rng.integers(0, 65536, (rows, columns)).astype(np.uint16)
    for how, shrink in ((0, resize), (MIDDLE, fit)):
        assert host_harness.ask("Z", request(how, rgb, height, width)) == (OK, shrink(rgb, height, width).tobytes())
        expected = shrink(rgb565_to_rgb(words), height, width).tobytes()
        assert host_harness.ask("Z", request(how | 1, words, height, width)) == (OK, expected)


def test_a_white_vga_frame_stays_white(host_harness):
    words = np.full((480, 640), 0xFFFF, np.uint16)
    assert host_harness.ask("Z", request(1, words, 32, 32)) == (OK, b"\xff" * 3072)


def test_sizes_that_do_not_fit_are_refused(host_harness):
    frame = np.zeros((4, 4, 3), np.uint8)
    for how in (0, MIDDLE):
        for height, width in ((5, 4), (4, 5), (0, 4), (4, 0)):
            assert host_harness.ask("Z", request(how, frame, height, width)) == (ARGUMENT, b"")
    assert host_harness.ask("Z", struct.pack("<BHHHH", 0, 65535, 65535, 1, 1)) == (ARGUMENT, b"")
    for one_line_more in (request(0, frame, 2, 2), request(MIDDLE, frame, 1, 4)):
        assert host_harness.ask("Z", one_line_more + bytes(12)) == (LENGTH, b"")
