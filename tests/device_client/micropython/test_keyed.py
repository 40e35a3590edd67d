"""Keyed mode: the ciphers against their RFCs, frames and replies against the golden ones, and numbers that never repeat."""

from __future__ import annotations

import errno
import json
from hashlib import blake2s
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.chacha20 import keystream
from semantic_codec.keyed import DeviceKey, KeyedHeader
from semantic_codec.keyed_frame import encode_keyed_frame
from semantic_codec.keyed_reply import encode_keyed_reply, read_keyed_reply
from semantic_codec.reply import Reply
from tests.device_client.micropython.test_device import ON_A_LINE, Desk

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "keyed.json").read_text())
SECRET, HASH = bytes.fromhex(GOLDEN["secret"]), bytes(range(32))
KEY = DeviceKey(SECRET)
SYNC = b"\xfa\xf3\x20"

CIPHERS = """
from weaklink.ciphers import blake2s, chacha20
key = bytes(range(32))
print(chacha20(key, 1, bytes.fromhex("000000090000004a00000000")).hex())
print(blake2s(key, b"abc", 32).hex(), blake2s(key, bytes(64), 4).hex())
"""

MAKE_AND_READ = """
import json
from weaklink.keyed import KeyedWire
with open("golden.json") as file:
    golden = json.load(file)
for one in golden["frames"]:
    header = one["header"]
    wire = KeyedWire(golden["secret"], "unused", header["device"])
    fields = [header[name] for name in ("codec", "level", "sequence")]
    print(bytes(wire.frame(*fields, bytes.fromhex(one["payload"]), bytes.fromhex(one["encoder_hash"]))).hex())
for one in golden["replies"]:
    for device in (one["device"], one["device"] ^ 1):
        for data in (one["data"], one["damaged"], one["data"][:-2]):
            reply = KeyedWire(golden["secret"], "unused", device).read(bytes.fromhex(data), one["reply"]["sequence"])
            print(reply and [reply.sequence, reply.class_index, reply.advice, reply.status, round(63 * reply.confidence)])
"""


def test_ciphers_of_the_rfcs(interpreter, board):
    """RFC 8439, section 2.3.2; BLAKE2s as Python's hashlib has it (RFC 7693)."""
    key = bytes(range(32))
    printed = interpreter.run(board, CIPHERS)
    assert printed[0] == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )
    assert printed[1] == f"{blake2s(b'abc', key=key).hexdigest()} {blake2s(bytes(64), key=key, digest_size=4).hexdigest()}"


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=64), st.integers(1, 32), st.integers(0, 2**32 - 1))
def test_any_digest_and_keystream(board_module, key, message, size, counter):
    ciphers = board_module("ciphers")
    assert ciphers.blake2s(key, message, size) == blake2s(message, key=key, digest_size=size).digest()
    if counter < 100:
        assert ciphers.chacha20(key, counter, message[:12].ljust(12)) == keystream(key, message[:12].ljust(12), 64 * 100)[64 * counter :][:64]


def test_golden_frames_and_replies(interpreter, board):
    (board / "golden.json").write_text(json.dumps(GOLDEN))
    printed = interpreter.run(board, MAKE_AND_READ)
    frames = GOLDEN["frames"]
    assert printed[: len(frames)] == [one["frame"] for one in frames]
    expected = []
    for one in GOLDEN["replies"]:
        reply = str([one["reply"][name] for name in ("sequence", "class_index", "advice_level", "status", "confidence_step")])
        expected += [reply, reply, "None", "None", "None", "None"]
    assert printed[len(frames) :] == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 63), st.integers(0, 15), st.integers(0, 0xFFFF), st.integers(0, 2**28 - 1), st.binary(min_size=1, max_size=80))
def test_frames_are_the_references(board_module, tmp_path_factory, codec, level, device, sequence, payload):
    wire = board_module("keyed").KeyedWire(SECRET.hex(), str(tmp_path_factory.getbasetemp() / "none"), device)
    expected = encode_keyed_frame(KeyedHeader(codec, level, device, sequence), payload, KEY, HASH)
    assert bytes(wire.frame(codec, level, sequence, payload, HASH)) == expected


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 6, 20, 28, 34]))
def test_damaged_replies_are_read_as_by_the_reference(board_module, tmp_path_factory, seed, wrong):
    rng = np.random.default_rng(seed)
    device, sequence = int(rng.integers(1 << 16)), int(rng.integers(1 << 28))
    bits = np.unpackbits(np.frombuffer(encode_keyed_reply(Reply(sequence, 5, 1.0, 3), device, KEY), dtype=np.uint8))
    bits[rng.choice(224, wrong, replace=False)] ^= 1
    data = np.packbits(bits).tobytes()
    expected = read_keyed_reply(data, device, KEY, [sequence])
    wire = board_module("keyed").KeyedWire(SECRET.hex(), str(tmp_path_factory.getbasetemp() / "none"), device)
    found = wire.read(data, sequence)
    assert (found is None) == (expected is None)
    if found is not None:
        assert (found.sequence, found.class_index, found.advice, found.confidence) == (sequence, 5, 3, 1.0)


@pytest.fixture
def desk(interpreter, board) -> Desk:
    return Desk(interpreter, board)


def test_a_device_numbers_repeats_and_goes_on_after_a_restart(desk):
    """The second frame is a repeat with a number of its own; the third comes from a device that was started again."""
    script = ON_A_LINE.replace("first_sequence=4094)", f'key="{SECRET.hex()}", sequences="numbers")')
    answers = [[], [SYNC + encode_keyed_reply(Reply(1, 7, 1.0, 2), 700, KEY)]]
    heard = [[piece.hex() for piece in pieces] for pieces in answers]
    (desk.board / "script.json").write_text(json.dumps({"calls": [[None, None]], "answers": heard, "timeout_s": 3}))
    again = f"""
from weaklink.keyed import KeyedWire
wire = KeyedWire("{SECRET.hex()}", "numbers", 700)
print(wire.numbered(0), wire.numbered(0))
"""
    printed = desk.interpreter.run(desk.board, script + again)
    frames = [encode_keyed_frame(KeyedHeader(1, 2, 700, number), desk.payload, KEY, desk.hash) for number in (0, 1)]
    assert printed == [(SYNC + frames[0]).hex(), (SYNC + frames[1]).hex(), "7 7 63 2 1 2", "0", "256 257"]


def test_devices_that_share_a_file_share_no_number(interpreter, board):
    """Two codecs of one device; 300 numbers each, so that both go past the block that they began with."""
    script = f"""
from weaklink.keyed import KeyedWire
wires = [KeyedWire("{SECRET.hex()}", "numbers", 700) for _ in range(2)]
numbers = [wire.numbered(0) for _ in range(300) for wire in wires]
print(len(numbers) - len(set(numbers)), max(numbers) < 4 * 256)
"""
    assert interpreter.run(board, script) == ["0 True"]


def test_no_number_without_a_file_and_no_key_without_numbers(interpreter, board):
    script = f"""
from weaklink import Device, StreamTransport
from weaklink.errors import *
from weaklink.sequences import SequenceFile
def refused(kind, call):
    try:
        call()
    except kind as problem:
        print(problem)
refused(InvalidRequest, lambda: Device("digits", StreamTransport(None), key="{SECRET.hex()}"))
refused(InvalidRequest, lambda: Device("digits", StreamTransport(None), key="00", sequences="numbers"))
refused(Unavailable, lambda: SequenceFile("no/such/folder").take())
refused(Unavailable, lambda: SequenceFile("weaklink"))
with open("numbers", "w") as file:
    file.write("many")
refused(InvalidRequest, lambda: SequenceFile("numbers"))
with open("numbers", "w") as file:
    file.write("268435456")
refused(Unavailable, lambda: SequenceFile("numbers").take())
"""
    printed = interpreter.run(board, script)
    assert len(printed) == 6 and all("; allowed: " in line and "; fix: " in line for line in printed)


@pytest.mark.parametrize("unreadable", ["numbers", "numbers.new"])
def test_a_file_that_cannot_be_read_is_not_taken_for_a_new_one(board_module, tmp_path, monkeypatch, unreadable):
    def failing(path, *mode):
        raise OSError(errno.EIO if path == str(tmp_path / unreadable) else errno.ENOENT, path)

    sequences = board_module("sequences")
    monkeypatch.setattr(sequences, "open", failing, raising=False)
    with pytest.raises(board_module("errors").Unavailable, match="cannot be used: "):
        sequences.SequenceFile(str(tmp_path / "numbers"))


def test_a_file_left_between_two_steps_is_used(board_module, tmp_path):
    """Where one file cannot replace another in one step, power may fail when only the new one is there."""
    (tmp_path / "numbers.new").write_text("512\n")
    file = board_module("sequences").SequenceFile(str(tmp_path / "numbers"))
    # In its place, before a reservation writes to the new file: power may fail again.
    assert (tmp_path / "numbers").read_text() == "512\n" and not (tmp_path / "numbers.new").exists()
    assert file.take() == 512
