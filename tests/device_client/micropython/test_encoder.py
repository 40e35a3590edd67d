"""The same bytes as every other implementation, in bounded memory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from semantic_codec.bitstream import pack_symbols
from semantic_codec.encoder import IntegerEncoder
from semantic_codec.encoder_format import ADD_KEPT, FULL, KEEP_INPUT, RELU, EncoderProgram, IntegerLayer, LayerShape
from tests.device_client.micropython.conftest import install_bundle
from tests.device_client.micropython.compiler import compile_package
from tests.device_client.micropython.interpreters import PART
from tests.device_client.stm32.programs import any_programs
from tests.semantic_codec.test_encoder import golden_images, three_bit_codec

GOLDEN = Path(__file__).parents[2] / "golden"
LARGEST_HEAP = 64 * 1024

ENCODE_ALL = """
from weaklink import Encoder
encoder = Encoder.from_bundle("{bundle}")
with open("images.bin", "rb") as file:
    for _ in range({count}):
        encoded = encoder.bitstream(file.read(encoder.height * encoder.width * 3))
        print(encoded.hex(), *(encoder.result(level.number).hex() for level in encoder.levels))
print(encoder.hash.hex())
"""

STEP = """
gc.collect()
{action}
print(gc.mem_alloc())
"""


def test_golden_vectors(interpreter, board):
    images = golden_images(8, 8)
    (board / "images.bin").write_bytes(images.tobytes())
    printed = interpreter.run(board, ENCODE_ALL.format(bundle="digits", count=len(images)))
    expected = json.loads((GOLDEN / "encoder_digits.json").read_text())["bitstreams"]
    assert [line.split() for line in printed[:-1]] == [[all, all[:4], all[:8], all] for all in expected]
    assert printed[-1] == json.loads((board / "digits" / "bundle.json").read_text())["files"]["encoder.bin"]


def test_golden_vectors_of_three_bits(interpreter, board):
    program, levels, expected = three_bit_codec()
    data = program.to_bytes()
    manifest = {"name": "centers", "version": 1, "codec_id": 3, "tasks": [{"classes": []}], "symbols": levels[-1], "bits_per_symbol": 3,
                "levels": levels, "files": {"encoder.bin": hashlib.sha256(data).hexdigest()}}  # fmt: skip
    (board / "centers").mkdir()
    (board / "centers" / "encoder.bin").write_bytes(data)
    (board / "centers" / "bundle.json").write_text(json.dumps(manifest))
    images = golden_images(program.height, program.width)
    (board / "images.bin").write_bytes(images.tobytes())
    printed = interpreter.run(board, ENCODE_ALL.format(bundle="centers", count=len(images)))
    assert [line.split() for line in printed[:-1]] == [[bitstreams[-1], *bitstreams] for bitstreams in expected]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_cifar10_on_one_image(interpreter, board):
    install_bundle("cifar10", board)
    image = golden_images(32, 32)[-1:]
    (board / "images.bin").write_bytes(image.tobytes())
    printed = interpreter.run(board, ENCODE_ALL.format(bundle="cifar10", count=1), timeout=800)
    encoder = IntegerEncoder.from_file(board / "cifar10" / "encoder.bin")
    assert printed[0].split()[0] == pack_symbols(encoder.encode(image), 1).tobytes().hex()


def test_layers_of_every_kind(interpreter, board):
    """Kernels of 1 to 7, strides, channels that are no multiple of four, three bits a symbol, two additions."""
    program = every_kind()
    (board / "encoder.bin").write_bytes(program.to_bytes())
    images = np.random.default_rng(3).integers(0, 256, (2, 11, 9, 3)).astype(np.uint8)
    (board / "images.bin").write_bytes(images.tobytes())
    script = """
from weaklink import Encoder
encoder = Encoder.from_file("encoder.bin")
with open("images.bin", "rb") as file:
    for _ in range(2):
        image = file.read(297)
        print(encoder.encode(image).hex(), encoder.bitstream(image).hex())
"""
    symbols = IntegerEncoder(program).encode(images)
    expected = [f"{row.tobytes().hex()} {pack_symbols(row[None], 3).tobytes().hex()}" for row in symbols]
    assert interpreter.run(board, script) == expected


def test_c_module_gives_the_same_bytes(interpreter, board):
    if interpreter.run(board, "try:\n import _weaklink\n print(1)\nexcept ImportError:\n print(0)") == ["0"]:
        pytest.skip(f"{interpreter.name} was built without the C module")
    (board / "encoder.bin").write_bytes(every_kind().to_bytes())
    (board / "broken.bin").write_bytes(every_kind().to_bytes()[:-4])
    script = """
from weaklink import Encoder
from weaklink.errors import BundleError
image = bytes(range(256)) + bytes(41)
native, plain = Encoder.from_file("encoder.bin"), Encoder.from_file("encoder.bin", plain=True)
print(native.native, plain.native, native.encode(image) == plain.encode(image))
print(native.bitstream(image) == plain.bitstream(image))
try:
    Encoder.from_file("broken.bin")
except BundleError as problem:
    print(problem)
"""
    printed = interpreter.run(board, script)
    assert printed[:2] == ["True False True", "True"] and "not a whole encoder.bin" in printed[2]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_programs(), st.integers(0, 2**32 - 1))
def test_any_program_and_image(board_module, tmp_path, program, seed):
    (tmp_path / "encoder.bin").write_bytes(program.to_bytes())
    image = np.random.default_rng(seed).integers(0, 256, (1, program.height, program.width, 3)).astype(np.uint8)
    encoder = board_module("encoder").Encoder.from_file(str(tmp_path / "encoder.bin"))
    expected = IntegerEncoder(program).encode(image)
    assert encoder.encode(image.tobytes()) == expected.tobytes()
    assert encoder.bitstream(image.tobytes()) == pack_symbols(expected, program.bits_per_symbol).tobytes()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 14), st.integers(0, 255), st.integers(0, 200))
@example(4, 9, 0)
def test_damaged_files_are_refused(board_module, tmp_path, place, value, cut):
    """Any header byte changed, and any end cut off: refused by name or read as what it then is, nothing else."""
    whole = every_kind().to_bytes()
    data = bytearray(whole)
    data[place] = value
    (tmp_path / "encoder.bin").write_bytes(data[: len(data) - cut])
    program, errors = board_module("program"), board_module("errors")
    if bytes(data[: len(data) - cut]) == whole:
        program.Program(str(tmp_path / "encoder.bin"))
        return
    try:
        read = program.Program(str(tmp_path / "encoder.bin"))
    except errors.BundleError as problem:
        assert "copy it to the board again" in str(problem)
    else:
        # A flag that costs no bytes may be another one; the SHA-256 in the manifest is what protects it.
        assert not cut and read.symbols > 0


def test_missing_and_wrong_inputs_are_refused(interpreter, board):
    script = """
from weaklink import Bundle, Encoder
from weaklink.errors import *
def refused(kind, call):
    try:
        call()
    except kind as problem:
        print(problem)
encoder = Encoder.from_bundle("digits")
refused(NotFound, lambda: Encoder.from_bundle("dogs"))
refused(InvalidRequest, lambda: encoder.bitstream(bytes(100)))
refused(InvalidRequest, lambda: encoder.bitstream(bytes(192), level=9))
refused(InvalidRequest, lambda: Encoder.from_file("digits/encoder.bin").bitstream(bytes(192), level=0))
with open("digits/encoder.bin", "r+b") as file:
    file.seek(60)
    file.write(b"!!")
refused(BundleError, lambda: Bundle("digits"))
with open("digits/bundle.json", "wb") as file:
    file.write(b"{}")
refused(BundleError, lambda: Bundle("digits"))
"""
    printed = interpreter.run(board, script)
    assert len(printed) == 6 and all("; allowed: " in line and "; fix: " in line for line in printed)
    assert "192: 8 x 8 RGB" in printed[1] and "0 (2 B), 1 (4 B), 2 (8 B)" in printed[2]


def test_no_allocation_while_a_layer_runs(interpreter, board):
    script = """
import gc
import weaklink.plain
from weaklink import Encoder
def measured(run):
    def layer(job):
        gc.disable()
        before = gc.mem_alloc()
        run(job)
        print(gc.mem_alloc() - before)
        gc.enable()
    return layer
weaklink.plain.convolve = measured(weaklink.plain.convolve)
weaklink.plain.convolve_depthwise = measured(weaklink.plain.convolve_depthwise)
encoder = Encoder.from_file("encoder.bin", plain=True)
encoder.encode(bytes(297))
"""
    (board / "encoder.bin").write_bytes(every_kind().to_bytes())
    printed = interpreter.run(board, script)
    assert len(printed) == len(every_kind().layers)
    # Once a layer, whatever its size: bound methods and the like.
    assert max(int(line) for line in printed) <= 256


MINUTES = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("bundle", ["digits", pytest.param("cifar10", marks=MINUTES)])
def test_heap_on_the_way_of_an_image(interpreter, board, bundle):
    """The most that is in use at any time, code and each step's garbage included, from the imports to the reply."""
    if interpreter.name != "Node":
        pytest.skip("objects are twice as large on a 64-bit interpreter; Node's has a microcontroller's 32 bits")
    if bundle != "digits":
        install_bundle(bundle, board)
    compile_package(board / "weaklink", "-O3")
    layers = EncoderProgram.from_bytes((board / bundle / "encoder.bin").read_bytes()).layers
    actions = [
        "from weaklink import Bundle, Device",
        "from weaklink.program import Program\nfrom weaklink.plain import PlainEncoder",
        f"bundle = Bundle('{bundle}')",
        "program = Program(bundle.encoder_path)",
        "engine = PlainEncoder(program)",
        "from weaklink.encoder import Encoder\nencoder = Encoder(engine, bundle.encoder_hash, bundle.levels)",
        "image = bytearray(encoder.height * encoder.width * 3)\nsteps = encoder.steps(image)",
        *["next(steps)"] * len(layers),
        "payload = encoder.result()",
        "from weaklink.frame import ReplyReader, encode_frame\nframe = encode_frame(1, 2, 3, 4, payload, 5)",
        "replies = ReplyReader(3)",
        "replies.read(frame[:18], 4)",
    ]
    script = PART.join(["import gc", *(STEP.format(action=action) for action in actions)])
    peaks = [int(line) for line in interpreter.run(board, script, timeout=800)]
    assert len(peaks) == len(actions)
    assert max(peaks) <= LARGEST_HEAP, dict(zip(actions, peaks))


def every_kind() -> EncoderProgram:
    rng = np.random.default_rng(11)
    shapes = [
        LayerShape(FULL, 7, 1, RELU, 3, 5),
        LayerShape(FULL, 5, 2, 0, 5, 6),
        LayerShape(FULL, 1, 1, RELU | KEEP_INPUT, 6, 9),
        LayerShape(1, 3, 1, RELU, 9, 9),
        LayerShape(FULL, 1, 1, ADD_KEPT, 9, 6),
        LayerShape(FULL, 3, 1, ADD_KEPT, 6, 6),
        LayerShape(FULL, 3, 1, ADD_KEPT | KEEP_INPUT, 6, 6),
        LayerShape(1, 3, 2, 0, 6, 6),
    ]
    layers = []
    for shape in shapes:
        layers.append(
            IntegerLayer(
                shape,
                rng.integers(-127, 128, shape.weight_shape).astype(np.int8),
                rng.integers(-2000, 2000, shape.outputs).astype(np.int32),
                rng.integers(100, 400, shape.outputs).astype(np.uint16),
                rng.integers(14, 18, shape.outputs).astype(np.uint8),
            )
        )
    last = LayerShape(FULL, 1, 1, 0, 6, 3)
    thresholds = np.sort(rng.integers(-9000, 9000, (3, 7)), axis=1).astype(np.int32)
    weights = rng.integers(-127, 128, last.weight_shape).astype(np.int8)
    layers.append(IntegerLayer(last, weights, thresholds=thresholds, index_map=rng.permutation(8).astype(np.uint8)))
    return EncoderProgram.from_bytes(EncoderProgram(11, 9, 3, tuple(layers)).to_bytes())
