from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from device_client.fit import fit
from device_client.samples import image_samples, recording_samples
from semantic_codec.bundle import load_bundle, load_recording
from semantic_codec.errors import InvalidRequest, NotFound


@pytest.fixture
def photos(tmp_path, images):
    """bee/ and zebra/ with two images each, one of them in another size and mode; only bee is a class of the codec."""
    for folder in ("bee", "zebra"):
        (tmp_path / folder).mkdir()
        Image.fromarray(images[0]).save(tmp_path / folder / "exact.png")
        Image.fromarray(np.kron(images[1][..., 0], np.ones((3, 3), np.uint8))).save(tmp_path / folder / "grey.png")
    (tmp_path / "bee" / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_recording_gives_its_bitstreams_with_labels(tiny):
    recording, samples = load_recording(tiny), recording_samples(tiny)
    assert [sample.content for sample in samples] == [row.tobytes() for row in recording.bitstreams]
    assert [sample.label for sample in samples] == recording.labels.tolist()


def test_class_folders_give_labels_and_every_image_the_codecs_size(tiny, photos, images):
    samples = image_samples([photos], tiny)
    assert [sample.label for sample in samples] == [1, 1, None, None]
    exact, grey = list(samples)[:2]  # a second pass reads the files again
    assert np.array_equal(exact.content, images[0])
    assert np.array_equal(grey.content, np.repeat(images[1][..., :1], 3, axis=2))
    assert exact.name == str(photos / "bee" / "exact.png")


def test_a_large_photograph_is_fitted(tiny, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    (sample,) = image_samples([tmp_path / "photo.png"], tiny)
    assert np.array_equal(sample.content, fit(photo, 8, 8))


def test_what_is_missing_or_no_image_is_named(tiny, tmp_path):
    with pytest.raises(NotFound, match="there is no file nowhere.png"):
        image_samples(["nowhere.png"], tiny)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no image in"):
        image_samples([tmp_path / "empty"], tiny)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(InvalidRequest, match="broken.png"):
        list(image_samples([tmp_path / "broken.png"], tiny))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(tmp_path / "whole.png")
    start, first, second = (tmp_path / "whole.png").read_bytes().split(b"IDAT", 2)
    (tmp_path / "broken.png").write_bytes(start + b"IDAT" + first + b"\0\0\0\0" + second)
    with pytest.raises(InvalidRequest, match="broken.png cannot be read as an image .broken PNG"):
        list(image_samples([tmp_path / "broken.png"], tiny))


def test_an_image_that_is_too_small_is_named(tiny, tmp_path):
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(InvalidRequest, match=r"small.png: .*fix: take a larger"):
        list(image_samples([tmp_path / "small.png"], tiny))


@pytest.mark.parametrize(("file", "dtype"), [("grey.png", np.uint16), ("grey.tif", np.int32), ("grey.tif", np.float32)])
def test_deep_pixels_are_refused_not_clipped(tiny, tmp_path, file, dtype):
    Image.fromarray((np.arange(64).reshape(8, 8) * 1000).astype(dtype)).save(tmp_path / file)
    with pytest.raises(InvalidRequest, match=rf"{file} has deep pixels \(mode [IF].*allowed: 8 bits per channel"):
        list(image_samples([tmp_path / file], tiny))


def test_a_codec_without_recording_says_so(tiny, tmp_path):
    copy = tmp_path / "tiny" / "1"
    shutil.copytree(tiny.folder, copy)
    (copy / "recording.npz").unlink()
    with pytest.raises(NotFound, match="has no recording"):
        recording_samples(load_bundle(copy))
