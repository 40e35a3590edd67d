"""The C encoder and the NumPy encoder give the same bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_training.device_memory import workspace_bytes
from semantic_codec.bitstream import pack_symbols
from semantic_codec.bundle import find_bundle
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.encoder_format import EncoderProgram
from semantic_codec.errors import BundleError, NotFound
from tests.device_client.stm32.programs import any_programs, images_for
from tests.semantic_codec.test_encoder import golden_images, three_bit_codec

DAMAGED, UNPROVEN = 3, 4


def encode_all(harness, program: EncoderProgram, images: np.ndarray) -> None:
    """Open the program and compare the bytes of every image."""
    error, sizes = harness.ask("P", program.to_bytes())
    assert error == 0
    bitstream_bytes = -(-program.symbols * program.bits_per_symbol // 8)
    assert struct.unpack("<4I", sizes) == (program.symbols, bitstream_bytes, workspace_bytes(program), program.macs)
    expected = pack_symbols(IntegerEncoder(program).encode(images), program.bits_per_symbol)
    for image, bitstream in zip(images, expected, strict=True):
        assert harness.ask("E", image.tobytes()) == (0, bitstream.tobytes())


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_golden_and_random_images(host_harness, name):
    try:
        program = EncoderProgram.from_bytes(find_bundle(name).encoder_bin)
    except NotFound:
        pytest.skip(f"there is no bundle {name}")
    noise = np.random.default_rng(3).integers(0, 256, (8, program.height, program.width, 3)).astype(np.uint8)
    encode_all(host_harness, program, np.concatenate([golden_images(program.height, program.width), noise]))


def test_golden_vectors_of_three_bits(host_harness):
    program, levels, expected = three_bit_codec()
    images = golden_images(program.height, program.width)
    encode_all(host_harness, program, images)
    for image, bitstreams in zip(images, expected, strict=True):
        whole = host_harness.ask("E", image.tobytes())[1]
        # The first symbols of a longer bitstream; what lies behind them in a level's last byte, the edge ignores.
        assert [np.unpackbits(np.frombuffer(whole, np.uint8))[: 3 * level].tolist() for level in levels] == [
            np.unpackbits(np.frombuffer(bytes.fromhex(one), np.uint8))[: 3 * level].tolist() for level, one in zip(levels, bitstreams, strict=True)
        ]


@settings(max_examples=120, deadline=None)
@given(any_programs(), st.integers(0, 2**32 - 1))
def test_any_program_and_image(host_harness, program, seed):
    encode_all(host_harness, program, images_for(program, seed))


@settings(max_examples=120, deadline=None)
@given(any_programs(), st.data())
def test_damaged_programs_are_refused_where_numpy_refuses_them(host_harness, program, data):
    damaged = bytearray(program.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, min(len(damaged), 80) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged
    try:
        program = EncoderProgram.from_bytes(bytes(damaged))
    except BundleError:
        assert host_harness.ask("P", bytes(damaged))[0] in (DAMAGED, UNPROVEN)
        return
    if max(program.height, program.width) < 64:  # the library refuses maps over 16 MiB, NumPy takes its time over them
        encode_all(host_harness, program, images_for(program, 1)[:1])


def test_nothing_runs_after_an_opening_that_failed(host_harness):
    program, _, _ = three_bit_codec()
    image = golden_images(program.height, program.width)[0].tobytes()
    assert host_harness.ask("P", program.to_bytes())[0] == 0
    assert host_harness.ask("P", b"WLE2" + program.to_bytes()[4:])[0] == DAMAGED
    assert host_harness.ask("E", image) == (DAMAGED, b"")
