"""Frames and replies: the golden ones, and whatever the reference makes and reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.frame import Header, encode_frame
from semantic_codec.header import check_start
from semantic_codec.reply import Reply, encode_reply, read_reply

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "frame.json").read_text())
HASH = bytes(range(32))

MAKE_AND_READ = """
import json
from weaklink.frame import ReplyReader, encode_frame
from weaklink.header_code import check
with open("golden.json") as file:
    golden = json.load(file)
for one in golden["frames"]:
    header, start = one["header"], check(bytes.fromhex(one["encoder_hash"]))
    fields = [header[name] for name in ("codec", "level", "device", "sequence")]
    print(bytes(encode_frame(*fields, bytes.fromhex(one["payload"]), start)).hex())
for one in golden["replies"]:
    for device in (one["device"], one["device"] ^ 1):
        for data in (one["data"], one["damaged"], one["data"][:-2]):
            reply = ReplyReader(device).read(bytes.fromhex(data), one["reply"]["sequence"])
            print(reply and [reply.sequence, reply.class_index, reply.advice, reply.status, round(63 * reply.confidence)])
"""


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


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 63), st.integers(0, 15), st.integers(0, 0xFFFF), st.integers(0, 0xFFF), st.binary(min_size=1, max_size=80)
)
def test_frames_are_the_references(board_module, codec, level, device, sequence, payload):
    frame = board_module("frame").encode_frame(codec, level, device, sequence, payload, check_start(HASH))
    assert bytes(frame) == encode_frame(Header(codec, level, device, sequence), payload, HASH)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 2, 12, 18, 22, 26, 30, 72]))
def test_damaged_replies_are_read_as_by_the_reference(board_module, seed, wrong):
    rng = np.random.default_rng(seed)
    device, sequence = int(rng.integers(1 << 16)), int(rng.integers(1 << 12))
    advice = [None, 3][int(rng.integers(2))]
    sent = Reply(sequence, int(rng.integers(1 << 10)), int(rng.integers(64)) / 63, advice, int(rng.integers(3)))
    bits = np.unpackbits(np.frombuffer(encode_reply(sent, device), dtype=np.uint8))
    bits[rng.choice(144, wrong, replace=False)] ^= 1
    data = np.packbits(bits).tobytes()
    expected = read_reply(data, device, [sequence])
    found = board_module("frame").ReplyReader(device).read(data, sequence)
    assert (found is None) == (expected is None)
    assert wrong > 7 or found is not None
    if found is not None:
        assert (found.sequence, found.class_index, found.advice, found.status, found.confidence) == (
            expected.sequence,
            expected.class_index,
            expected.advice_level,
            expected.status,
            expected.confidence,
        )


def test_noise_whose_check_holds_is_no_reply(board_module):
    for one in GOLDEN["noise"]:
        assert board_module("frame").ReplyReader(one["device"]).read(bytes.fromhex(one["data"]), one["sequence"]) is None


def test_fields_that_do_not_fit_are_refused(board_module):
    frame, errors = board_module("frame"), board_module("errors")
    for fields in [(64, 0, 0), (0, 16, 0), (0, 0, 65536), (-1, 0, 0)]:
        try:
            frame.encode_frame(*fields, 0, b"1", 0)
        except errors.InvalidRequest as problem:
            assert "; fix: give" in str(problem)
        else:
            raise AssertionError(f"{fields} was taken")
