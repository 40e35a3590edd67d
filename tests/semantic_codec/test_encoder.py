"""The device encoder: one result, whoever computes it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import find_bundle
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.encoder_format import FULL, RELU, EncoderProgram, IntegerLayer, LayerShape
from semantic_codec.errors import BundleError, InvalidRequest, NotFound
from semantic_codec.nn.integer import IntegerReference
from semantic_codec.nn.quantized import fixed_point
from tests.device_client.stm32.programs import any_programs, images_for

GOLDEN = Path(__file__).parents[1] / "golden"


def golden_images(height: int, width: int) -> np.ndarray:
    """Black, white, each ramp, a checkerboard and noise: uint8 (8, height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    patterns = [0 * x, 0 * x + 255, x * 255 // (width - 1), y * 255 // (height - 1), (x + y) % 2 * 255]
    images = [np.repeat(pattern[..., None], 3, axis=2) for pattern in patterns]
    noise = np.random.default_rng(7).integers(0, 256, (3, height, width, 3))
    return np.concatenate([np.stack(images), noise]).astype(np.uint8)


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_golden_vectors(name):
    """Regenerate with WEAKLINK_REGENERATE=1 after a bundle has changed."""
    program = EncoderProgram.from_bytes(find_bundle(name).encoder_bin)
    images = golden_images(program.height, program.width)
    symbols = IntegerEncoder(program).encode(images)
    path = GOLDEN / f"encoder_{name}.json"
    if os.environ.get("WEAKLINK_REGENERATE"):
        streams = [row.tobytes().hex() for row in pack_symbols(symbols, program.bits_per_symbol)]
        path.write_text(json.dumps({"images": "tests/semantic_codec/test_encoder.py: golden_images", "bitstreams": streams}, indent=1) + "\n")
    expected = json.loads(path.read_text())["bitstreams"]
    assert [row.tobytes().hex() for row in pack_symbols(symbols, program.bits_per_symbol)] == expected
    assert (IntegerReference(program)(torch.from_numpy(images)).numpy() == symbols).all()


def three_bit_codec() -> tuple[EncoderProgram, list[int], list[list[str]]]:
    """A codec of eight learned centers, trained on digits for a moment: its encoder, its levels in symbols, of which the last
    leaves out two that the encoder yields, and the bitstreams of the golden images at each level."""
    stored = json.loads((GOLDEN / "encoder_centers.json").read_text())
    return EncoderProgram.from_bytes(bytes.fromhex(stored["program"])), stored["levels"], stored["bitstreams"]


def test_golden_vectors_of_three_bits():
    program, levels, expected = three_bit_codec()
    assert program.bits_per_symbol == 3 and sorted(program.layers[-1].index_map) == list(range(8))
    images = golden_images(program.height, program.width)
    symbols = IntegerEncoder(program).encode(images)
    found = [[pack_symbols(row[None, :level], 3).tobytes().hex() for level in levels] for row in symbols]
    if os.environ.get("WEAKLINK_REGENERATE"):
        stored = {"levels": levels, "program": program.to_bytes().hex(), "bitstreams": found}
        (GOLDEN / "encoder_centers.json").write_text(json.dumps(stored, indent=1) + "\n")
        expected = found
    assert found == expected
    assert (IntegerReference(program)(torch.from_numpy(images)).numpy() == symbols).all()


def test_three_bit_symbols_are_packed_as_the_wire_format_says():
    program, levels, expected = three_bit_codec()
    symbols = IntegerEncoder(program).encode(golden_images(program.height, program.width))
    for row, streams in zip(symbols.tolist(), expected, strict=True):
        for count, stream in zip(levels, streams, strict=True):
            bits = "".join(f"{symbol:03b}" for symbol in row[:count])
            size = -(-count * 3 // 8)
            assert int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big").hex() == stream


@settings(max_examples=150)
@given(any_programs(), st.integers(0, 2**32 - 1))
def test_numpy_and_torch_agree_on_any_program_and_image(program, seed):
    program = EncoderProgram.from_bytes(program.to_bytes())
    images = images_for(program, seed)
    symbols = IntegerEncoder(program).encode(images)
    assert symbols.shape == (2, program.symbols) and symbols.max() < 2**program.bits_per_symbol
    assert (IntegerReference(program)(torch.from_numpy(images)).numpy() == symbols).all()


@settings(max_examples=100)
@given(any_programs())
def test_bytes_are_read_back_as_written(program):
    data = program.to_bytes()
    assert EncoderProgram.from_bytes(data).to_bytes() == data


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_are_refused_or_still_a_proven_program(data):
    good = bytearray(find_bundle("digits").encoder_bin)
    for _ in range(data.draw(st.integers(1, 5))):
        good[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    for damaged in (bytes(good), bytes(good[:cut])):
        try:
            EncoderProgram.from_bytes(damaged)
        except BundleError as error:
            assert "encoder.bin is damaged" in str(error)


def test_an_accumulator_that_could_pass_2_to_24_is_refused():
    shape = LayerShape(FULL, 7, 1, RELU, 3, 1)
    layer = IntegerLayer(shape, np.full(shape.weight_shape, 127, np.int8), np.array([2**24], np.int32),
                         np.array([1], np.uint16), np.array([1], np.uint8))  # fmt: skip
    last = LayerShape(FULL, 1, 1, 0, 1, 1)
    latent = IntegerLayer(last, np.ones(last.weight_shape, np.int8), thresholds=np.zeros((1, 1), np.int32),
                          index_map=np.arange(2, dtype=np.uint8))  # fmt: skip
    with pytest.raises(BundleError, match="accumulator of"):
        EncoderProgram.from_bytes(EncoderProgram(8, 8, 1, (layer, latent)).to_bytes())


def test_order_of_thresholds_over_the_whole_range():
    def program(*thresholds: int) -> bytes:
        shape = LayerShape(FULL, 1, 1, 0, 3, 1)
        layer = IntegerLayer(shape, np.ones(shape.weight_shape, np.int8), thresholds=np.array([thresholds], np.int32),
                             index_map=np.arange(4, dtype=np.uint8))  # fmt: skip
        return EncoderProgram(1, 1, 2, (layer,)).to_bytes()

    low, high = -(2**31), 2**31 - 1
    assert EncoderProgram.from_bytes(program(low, 0, high)).layers[0].thresholds.tolist() == [[low, 0, high]]
    with pytest.raises(BundleError, match="out of order"):
        EncoderProgram.from_bytes(program(high, low, low + 1))


def test_fixed_point_keeps_products_below_2_to_30_and_close_to_the_factor():
    factor, peak = np.array([1e-4, 3e-3, 0.9]), np.array([2**21, 2**16, 2**12])
    multiplier, shift = fixed_point(factor, peak)
    assert (peak * multiplier.astype(np.int64) + (1 << shift.astype(np.int64)) // 2 < 2**30).all()
    assert multiplier.max() < 2**15
    assert multiplier / 2.0**shift == pytest.approx(factor, rel=2**-8)


@pytest.mark.parametrize("shape", [(1, 8, 9, 3), (1, 8, 8), (8, 8, 3), (1, 8, 8, 1)])
def test_an_image_of_the_wrong_shape_is_refused(shape):
    encoder = IntegerEncoder.from_bytes(find_bundle("digits").encoder_bin)
    with pytest.raises(InvalidRequest, match=r"allowed: uint8 \(B, 8, 8, 3\)"):
        encoder.encode(np.zeros(shape, np.uint8))


def test_an_image_of_the_wrong_type_is_refused():
    encoder = IntegerEncoder.from_bytes(find_bundle("digits").encoder_bin)
    with pytest.raises(InvalidRequest, match="float64"):
        encoder.encode(np.zeros((1, 8, 8, 3)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFound, match="encoder.bin"):
        IntegerEncoder.from_file(tmp_path / "encoder.bin")
