import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semantic_codec.errors import InvalidRequest
from semantic_codec.image import opened_to_rgb, resize, rgb565_to_rgb


def test_rgb565_reaches_both_ends():
    pixels = np.array([[0x0000, 0xFFFF, 0xF800, 0x07E0, 0x001F]], np.uint16)
    expected = [[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    assert rgb565_to_rgb(pixels).tolist() == expected


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_resize_averages_exactly_the_pixels_of_each_box(rows, columns, height, width, seed):
    height, width = min(height, rows), min(width, columns)
    image = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3)).astype(np.uint8)
    small = resize(image, height, width)
    y, x = seed % height, seed % width
    box = image[y * rows // height : (y + 1) * rows // height, x * columns // width : (x + 1) * columns // width]
    count = box.shape[0] * box.shape[1]
    assert small[y, x].tolist() == [(int(total) + count // 2) // count for total in box.sum((0, 1), dtype=np.int64)]


def test_equal_size_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    assert (resize(image, 5, 7) == image).all()


def test_enlarging_and_wrong_types_are_refused():
    with pytest.raises(InvalidRequest, match="8x8 to 9x8"):
        resize(np.zeros((8, 8, 3), np.uint8), 9, 8)
    with pytest.raises(InvalidRequest, match="uint8"):
        rgb565_to_rgb(np.zeros((2, 2), np.uint8))


TURNS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_an_image_is_turned_as_its_tag_says(tmp_path, orientation):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    pillow = Image.fromarray(image)
    exif = pillow.getexif()
    exif[0x0112] = orientation
    pillow.save(tmp_path / "tagged.png", exif=exif)
    with Image.open(tmp_path / "tagged.png") as opened:
        assert np.array_equal(opened_to_rgb(opened, "tagged.png"), TURNS[orientation](image))


def test_an_image_with_malformed_exif_data_is_left_as_it_is(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "tagged.png", exif=b"Exif\0\0nothing of a TIFF")
    with Image.open(tmp_path / "tagged.png") as opened:
        assert np.array_equal(opened_to_rgb(opened, "tagged.png"), image)
