"""Frames and replies of the C library against the golden vectors and the Python reference."""

from __future__ import annotations

import json
import struct
from hashlib import blake2s
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.chacha20 import keystream
from semantic_codec.frame import encode_frame
from semantic_codec.header import Header
from semantic_codec.keyed import DeviceKey
from semantic_codec.keyed_reply import encode_keyed_reply, read_keyed_reply
from semantic_codec.reply import Reply, encode_reply, read_reply

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = {0: "frame.json", 1: "keyed.json"}
SYNC = bytes.fromhex("faf320")
OK, ARGUMENT, LENGTH, DAMAGED = 0, 1, 5, 6


def golden(keyed: int) -> dict:
    return json.loads((GOLDEN / FILES[keyed]).read_text())


def frame_request(keyed: int, header: dict, encoder_hash: bytes, secret: bytes, payload: bytes) -> bytes:
    fields = struct.pack("<BBBHI", keyed, header["codec"], header["level"], header["device"], header["sequence"])
    return fields + encoder_hash + secret + payload


def waiting(keyed: int, device: int, sequence: int, secret: bytes = bytes(32)) -> bytes:
    return struct.pack("<BHI", keyed, device, sequence) + secret


def expected_reply(reply: dict) -> bytes:
    advice = 255 if reply["advice_level"] is None else reply["advice_level"]
    return struct.pack("<BHBB", reply["status"], reply["class_index"], reply["confidence_step"], advice)


@pytest.mark.parametrize("keyed", [0, 1])
def test_golden_frames(host_harness, keyed):
    vectors = golden(keyed)
    secret = bytes.fromhex(vectors.get("secret", "00" * 32))
    for entry in vectors["frames"]:
        request = frame_request(
            keyed, entry["header"], bytes.fromhex(entry["encoder_hash"]), secret, bytes.fromhex(entry["payload"])
        )
        assert host_harness.ask("F", request) == (OK, bytes.fromhex(entry["frame"]))


@pytest.mark.parametrize("keyed", [0, 1])
def test_golden_replies_whole_and_damaged(host_harness, keyed):
    vectors = golden(keyed)
    secret = bytes.fromhex(vectors.get("secret", "00" * 32))
    for entry in vectors["replies"]:
        wait = waiting(keyed, entry["device"], entry["reply"]["sequence"], secret)
        for data in (entry["data"], entry["damaged"]):
            assert host_harness.ask("R", wait + bytes.fromhex(data)) == (OK, expected_reply(entry["reply"]))
        other = waiting(keyed, entry["device"] ^ 1, entry["reply"]["sequence"], secret)
        assert host_harness.ask("R", other + bytes.fromhex(entry["data"])) == (DAMAGED, b"")
        assert host_harness.ask("R", wait + bytes.fromhex(entry["data"])[:-1]) == (LENGTH, b"")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 63), st.integers(0, 15), st.integers(0, 65535), st.integers(0, 4095), st.binary(min_size=1, max_size=300))
def test_any_open_frame(host_harness, codec, level, device, sequence, payload):
    header = {"codec": codec, "level": level, "device": device, "sequence": sequence}
    encoder_hash = bytes(range(32))
    expected = encode_frame(Header(**header), payload, encoder_hash)
    assert host_harness.ask("F", frame_request(0, header, encoder_hash, bytes(32), payload)) == (OK, expected)


@pytest.mark.parametrize("keyed", [0, 1])
@pytest.mark.parametrize("ber", [0.05, 0.1, 0.14])
def test_damaged_replies_are_read_as_by_the_reference(host_harness, keyed, ber):
    rng, read = np.random.default_rng(5), 0
    key = DeviceKey(bytes(range(32)))
    for sequence in range(60):
        reply = Reply(sequence, int(rng.integers(1024)), 1.0, int(rng.integers(16)))
        data = encode_keyed_reply(reply, 77, key) if keyed else encode_reply(reply, 77)
        flips = np.packbits(rng.random(8 * len(data)) < ber).tobytes()
        damaged = bytes(a ^ b for a, b in zip(data, flips, strict=True))
        expected = (
            read_keyed_reply(damaged, 77, key, [sequence]) if keyed else read_reply(damaged, 77, [sequence])
        )
        error, found = host_harness.ask("R", waiting(keyed, 77, sequence, key.secret) + damaged)
        assert error == (DAMAGED if expected is None else OK)
        if expected is not None:
            assert found == struct.pack("<BHBB", 0, expected.class_index, 63, expected.advice_level)
            read += 1
    assert read > 0


@pytest.mark.parametrize(
    ("change", "error"), [({"codec": 64}, ARGUMENT), ({"level": 16}, ARGUMENT), ({"sequence": 4096}, ARGUMENT)]
)
def test_fields_that_do_not_fit_are_refused(host_harness, change, error):
    header = {"codec": 1, "level": 2, "device": 3, "sequence": 4} | change
    assert host_harness.ask("F", frame_request(0, header, bytes(32), bytes(32), b"12")) == (error, b"")


@pytest.mark.parametrize("size", [0, 4097])
def test_payloads_of_no_length_are_refused(host_harness, size):
    header = {"codec": 1, "level": 2, "device": 3, "sequence": 4}
    assert host_harness.ask("F", frame_request(0, header, bytes(32), bytes(32), bytes(size))) == (LENGTH, b"")


@pytest.mark.parametrize("keyed", [0, 1])
def test_replies_are_found_on_a_line_of_noise(host_harness, keyed):
    rng, key = np.random.default_rng(9), DeviceKey(bytes(range(32)))
    reply = Reply(300, 4, 0.5, None)
    data = encode_keyed_reply(reply, 9, key) if keyed else encode_reply(reply, 9)
    line, ends = b"", []
    for _ in range(20):
        flips = np.packbits(rng.random(8 * (3 + len(data))) < 0.02).tobytes()
        line += rng.bytes(int(rng.integers(60))) + bytes(a ^ b for a, b in zip(SYNC + data, flips, strict=True))
        ends.append(len(line))
    error, found = host_harness.ask("S", waiting(keyed, 9, 300, key.secret) + line)
    assert error == OK
    places = [struct.unpack_from("<IBHBB", found, 9 * index) for index in range(len(found) // 9)]
    assert [place[0] for place in places] == ends
    assert {place[1:] for place in places} == {(0, 4, 32, 255)}


def test_noise_holds_no_reply(host_harness):
    for entry in golden(0)["noise"]:
        wait = waiting(0, entry["device"], entry["sequence"])
        assert host_harness.ask("R", wait + bytes.fromhex(entry["data"])) == (DAMAGED, b"")
    noise = np.random.default_rng(11).bytes(100_000)
    assert host_harness.ask("S", waiting(0, 9, 300) + noise) == (OK, b"")


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=64), st.integers(1, 32))
@settings(max_examples=50, deadline=None)
def test_blake2s(host_harness, key, message, size):
    assert host_harness.ask("H", bytes([size]) + key + message) == (OK, blake2s(message, key=key, digest_size=size).digest())


def test_chacha20_of_rfc_8439(host_harness):
    """Section 2.3.2."""
    key, nonce = bytes(range(32)), bytes.fromhex("000000090000004a00000000")
    error, block = host_harness.ask("C", struct.pack("<I", 1) + key + nonce)
    assert error == OK
    assert block.hex().startswith("10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e")
    assert host_harness.ask("C", struct.pack("<I", 0) + key + nonce)[1] == keystream(key, nonce, 64)


def test_sequences_are_stored_before_they_are_used(host_harness):
    error, data = host_harness.ask("Q", struct.pack("<IHH", 1000, 300, 2))
    values = struct.unpack(f"<{len(data) // 4}I", data)
    stored = [(place, value & 0x7FFFFFFF) for place, value in enumerate(values) if value >> 31]
    assert (error, stored) == (OK, [(0, 1256), (257, 1512)])
    assert [value for value in values if not value >> 31] == list(range(1000, 1300))


def test_no_sequence_without_storage_and_none_after_the_last(host_harness):
    assert host_harness.ask("Q", struct.pack("<IHH", 0, 5, 0)) == (OK, b"")
    _, data = host_harness.ask("Q", struct.pack("<IHH", 2**28 - 2, 5, 9))
    assert struct.unpack("<3I", data) == (2**28 | 1 << 31, 2**28 - 2, 2**28 - 1)
    assert host_harness.ask("Q", struct.pack("<IHH", 2**28 + 1, 5, 9)) == (ARGUMENT, b"")
