from __future__ import annotations

import numpy as np
import pytest

from device_client import Encoder
from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import load_recording
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.errors import InvalidRequest, NotFound


def test_bitstream_is_the_prefix_of_the_integer_encoders_symbols(tiny, images):
    encoder = Encoder.from_bundle(tiny)
    symbols = IntegerEncoder.from_bytes(tiny.encoder_bin).encode(images[:5])
    for image, expected in zip(images, symbols):
        assert np.array_equal(encoder.encode(image), expected)
        for level in encoder.levels:
            packed = pack_symbols(expected[None, : level.symbols], 1)[0].tobytes()
            assert encoder.bitstream(image, level.number) == packed
            assert len(packed) == level.payload_bytes


def test_recording_holds_what_the_encoder_sends(tiny, images):
    encoder, recording = Encoder.from_bundle(tiny), load_recording(tiny)
    assert [encoder.bitstream(image) for image in images[:20]] == [row.tobytes() for row in recording.bitstreams[:20]]


def test_a_bare_file_encodes_all_symbols_and_knows_no_level(tiny, images):
    encoder = Encoder.from_file(tiny.folder / "encoder.bin")
    assert encoder.hash == tiny.encoder_hash
    assert encoder.bitstream(images[0]) == Encoder.from_bundle(tiny).bitstream(images[0])
    with pytest.raises(InvalidRequest, match="from_bundle"):
        encoder.bitstream(images[0], 0)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 9, 3), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int64),
    ],
)
def test_an_image_of_the_wrong_size_or_type_is_refused_with_what_is_allowed(tiny, image):
    with pytest.raises(InvalidRequest, match=r"uint8 \(8, 8, 3\), RGB") as refusal:
        Encoder.from_bundle(tiny).encode(image)
    assert str(image.shape) in str(refusal.value) and str(image.dtype) in str(refusal.value)


def test_an_unknown_level_bundle_or_file_names_what_exists(tiny, images, tmp_path):
    with pytest.raises(InvalidRequest, match=r"level 3 .*0 \(2 B\), 1 \(4 B\), 2 \(8 B\)"):
        Encoder.from_bundle(tiny).bitstream(images[0], 3)
    with pytest.raises(NotFound, match="no bundle 'tinny'"):
        Encoder.from_bundle("tinny")
    with pytest.raises(NotFound, match="missing.bin"):
        Encoder.from_file(tmp_path / "missing.bin")
