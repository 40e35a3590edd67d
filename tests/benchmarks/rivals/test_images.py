import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.rivals.images import WEBP_HEADER, ImageFormat, encode, read, scan_bytes, whole_bytes


@pytest.fixture(scope="module")
def images():
    ramp = np.linspace(0, 255, 32)
    picture = np.stack([np.add.outer(ramp, ramp) / 2, np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32))], axis=-1)
    return np.stack([picture, picture[::-1]]).astype(np.uint8)


@pytest.mark.parametrize("form", [ImageFormat("jpeg", 60), ImageFormat("jpeg", 60, 0), ImageFormat("webp", 60)], ids=str)
def test_a_picture_comes_back_nearly(images, form):
    coded = encode(images, form)
    assert coded.images.shape == images.shape and np.abs(coded.images.astype(int) - images).mean() < 6
    assert (0 < coded.stripped_bytes).all() and (coded.stripped_bytes < coded.file_bytes).all()


def test_a_jpeg_is_whole_again_with_another_picture_s_header(images):
    """The stripped part is all that differs: a receiver that knows size and quality puts its own header before it."""
    first, second = (ImageFormat("jpeg", 50).write(image) for image in images)
    scan = second[len(second) - 2 - scan_bytes(second) :]
    header = first[: len(first) - 2 - scan_bytes(first)]
    assert (read(header + scan) == read(second)).all()


def test_a_webp_header_is_the_same_but_for_lengths(images):
    files = [ImageFormat("webp", 50).write(image) for image in images]
    assert all(data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8 " and data[23:26] == b"\x9d\x01\x2a" for data in files)
    assert files[0][23:WEBP_HEADER] == files[1][23:WEBP_HEADER]
    assert Image.open(io.BytesIO(files[0])).size == (32, 32)


def test_whole_bytes_without_errors_is_one_packet():
    assert whole_bytes(np.array([300]), 0.0, header=18)[0] == pytest.approx(18 + 300 + 2)


def test_whole_bytes_by_hand():
    """One byte under a check of two, at a BER of 0.1: 21 bytes, repeated 0.9 ** -24 times."""
    assert whole_bytes(np.array([1]), 0.1, header=18)[0] == pytest.approx(21 * 0.9**-24)


def test_more_errors_take_more_bytes():
    expected = [whole_bytes(np.array([200]), ber, 18)[0] for ber in (0.0, 1e-3, 1e-2, 5e-2)]
    assert expected == sorted(expected) and expected[-1] > 10 * expected[0]
