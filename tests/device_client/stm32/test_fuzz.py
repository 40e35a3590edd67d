"""The fuzzers' corpus as an ordinary test, under the sanitizers; WEAKLINK_REGENERATE=1 writes its seeds again.

``make fuzz`` goes on from it with libFuzzer for as long as wanted; what it finds worth keeping lies beside the seeds.
"""

from __future__ import annotations

import os
import struct
import subprocess

import numpy as np
import pytest

from semantic_codec.encoder_format import DEPTHWISE, FULL, KEEP_INPUT, RELU, EncoderProgram, IntegerLayer, LayerShape
from tests.device_client.stm32.conftest import HERE, INCLUDES, LIBRARY, WARNINGS, need
from tests.device_client.stm32.test_frame import SYNC, frame_request, golden, waiting

CORPUS = HERE / "corpus"
RUNS = 3000


def tiny_program() -> EncoderProgram:
    """A full and a depthwise layer and a latent, in under 200 bytes."""
    rng = np.random.default_rng(0)
    shapes = [LayerShape(FULL, 3, 2, RELU, 3, 2), LayerShape(DEPTHWISE, 3, 1, RELU | KEEP_INPUT, 2, 2)]
    integers = {"bias": np.zeros(2, np.int32), "multiplier": np.full(2, 900, np.uint16), "shift": np.full(2, 18, np.uint8)}
    layers = [IntegerLayer(shape, rng.integers(-9, 9, shape.weight_shape).astype(np.int8), **integers) for shape in shapes]
    last = LayerShape(FULL, 1, 1, 0, 2, 1)
    layers.append(IntegerLayer(last, np.ones(last.weight_shape, np.int8), thresholds=np.array([[3]], np.int32),
                               index_map=np.arange(2, dtype=np.uint8)))  # fmt: skip
    return EncoderProgram(4, 4, 1, tuple(layers))


def seeds() -> dict[str, bytes]:
    """One request of each kind, and damaged ones."""
    program, made = tiny_program().to_bytes(), {}
    made["program"] = b"P" + program
    made["encode"] = b"X" + struct.pack("<H", len(program)) + program + bytes(range(48))
    for keyed in (0, 1):
        vectors = golden(keyed)
        secret = bytes.fromhex(vectors.get("secret", "00" * 32))
        for index, entry in enumerate(vectors["frames"][:2]):
            fields = entry["header"], bytes.fromhex(entry["encoder_hash"]), secret, bytes.fromhex(entry["payload"])
            made[f"frame_{keyed}_{index}"] = b"F" + frame_request(keyed, *fields)
        for index, entry in enumerate(vectors["replies"][:2]):
            wait = waiting(keyed, entry["device"], entry["reply"]["sequence"], secret)
            made[f"reply_{keyed}_{index}"] = b"R" + wait + bytes.fromhex(entry["damaged"])
            made[f"serial_{keyed}_{index}"] = b"S" + wait + b"\xfa\xf3" + SYNC + bytes.fromhex(entry["data"]) + b"\xfa"
    made["resize_rgb"] = b"Z" + struct.pack("<BHHHH", 0, 3, 4, 2, 2) + bytes(range(36))
    made["resize_rgb565"] = b"Z" + struct.pack("<BHHHH", 1, 3, 4, 3, 1) + bytes(range(24))
    made["resize_middle"] = b"Z" + struct.pack("<BHHHH", 2, 3, 4, 2, 2) + bytes(range(36))
    made["hash"] = b"H\x20" + bytes(range(33))
    made["cipher"] = b"C" + bytes(range(48))
    made["sequences"] = b"Q" + struct.pack("<IHH", 2**28 - 3, 9, 2)
    return made


@pytest.fixture(scope="session")
def fuzzer(tmp_path_factory):
    """The target, built with libFuzzer."""
    compiler, target = need("clang"), tmp_path_factory.mktemp("fuzz") / "fuzz"
    sources = [*sorted((LIBRARY / "src").glob("*.c")), HERE / "harness.c", HERE / "fuzz.c"]
    flags = ["-O1", "-g", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *WARNINGS, *flags, *INCLUDES, *map(str, sources), "-o", str(target)], check=True)
    return target


def test_corpus_holds_the_seeds():
    if os.environ.get("WEAKLINK_REGENERATE"):
        CORPUS.mkdir(exist_ok=True)
        for name, data in seeds().items():
            (CORPUS / name).write_bytes(data)
    for name, data in seeds().items():
        assert (CORPUS / name).read_bytes() == data


def test_corpus_and_its_truncations_under_the_sanitizers(host_harness):
    """A finding stops the harness, which fails here."""
    for path in sorted(CORPUS.iterdir()):
        data = path.read_bytes()
        if data[:1] == b"X":
            continue  # two requests in one: the fuzzer's own form
        for end in {len(data), len(data) - 1, len(data) // 2, 2}:
            operation, rest = chr(data[0]), data[1:end]
            assert 0 <= host_harness.ask(operation, rest)[0] <= 7


def test_a_short_run_of_the_fuzzer(fuzzer, tmp_path):
    found = subprocess.run(
        [fuzzer, f"-runs={RUNS}", "-seed=1", "-max_len=512", f"-artifact_prefix={tmp_path}/", tmp_path, CORPUS],
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
