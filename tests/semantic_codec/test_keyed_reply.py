"""Replies to keyed frames: authenticated, hidden, read from damage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.errors import InvalidRequest
from semantic_codec.interleave import spread_layout
from semantic_codec.keyed import DeviceKey, keyed_code
from semantic_codec.keyed_reply import KEYED_REPLY_BYTES, encode_keyed_reply, read_keyed_reply
from semantic_codec.reply import Reply, ReplyStatus, encode_reply, read_reply

KEY, OTHER = DeviceKey(b"\x01" * 32), DeviceKey(b"\x02" * 32)
REPLY = Reply(1_000_000, 7, 50 / 63, 3)


def damaged(data: bytes, ber: float, seed: int) -> bytes:
    mask = np.random.default_rng(seed).random(8 * len(data)) < ber
    return (np.packbits(mask) ^ np.frombuffer(data, dtype=np.uint8)).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**28 - 1),
    st.integers(0, 1023),
    st.integers(0, 63),
    st.none() | st.integers(0, 15),
    st.sampled_from(ReplyStatus),
    st.integers(0, 65535),
)
def test_round_trip(sequence, class_index, confidence, advice, status, device):
    reply = Reply(sequence, class_index, confidence / 63, advice, status)
    data = encode_keyed_reply(reply, device, KEY)
    assert len(data) == KEYED_REPLY_BYTES == 28
    assert read_keyed_reply(data, device, KEY) == reply
    assert read_keyed_reply(data, device, KEY, [sequence, (sequence + 1) % 2**28]) == reply


def test_only_the_right_device_with_the_right_key_reads_it():
    data = encode_keyed_reply(REPLY, 5, KEY)
    assert read_keyed_reply(data, 6, KEY) is None
    assert read_keyed_reply(data, 5, OTHER) is None
    assert read_keyed_reply(data, 5, KEY, [999_999]) is None
    assert read_keyed_reply(data[:-1], 5, KEY) is None


def test_the_answer_is_hidden():
    """The fields of two replies to other sequences differ in places that a code in clear would not touch."""
    first = np.unpackbits(np.frombuffer(encode_keyed_reply(REPLY, 5, KEY), dtype=np.uint8))
    again = np.unpackbits(np.frombuffer(encode_keyed_reply(Reply(1_000_001, 7, 50 / 63, 3), 5, KEY), dtype=np.uint8))
    order = np.empty(224, dtype=np.int64)
    order[spread_layout(224, 0)] = np.arange(224)
    content = [keyed_code().invert(bits[order][None])[0][0][32:56] for bits in (first, again)]
    assert (content[0] != content[1]).sum() >= 4


@pytest.mark.parametrize("use_compiled", [True, False])
def test_damage_is_undone(use_compiled):
    code = keyed_code(use_compiled)
    data = encode_keyed_reply(REPLY, 5, KEY)
    read = [read_keyed_reply(damaged(data, 0.05, seed), 5, KEY, [REPLY.sequence], code) for seed in range(40)]
    assert read == [REPLY] * 40
    blind = [read_keyed_reply(damaged(data, 0.02, seed), 5, KEY, code=code) for seed in range(10)]
    assert blind == [REPLY] * 10


def test_noise_and_open_replies_are_none():
    rng = np.random.default_rng(4)
    assert all(read_keyed_reply(rng.bytes(28), 5, KEY) is None for _ in range(50))
    assert read_keyed_reply(encode_reply(Reply(5, 7), 5), 5, KEY) is None
    assert read_reply(encode_keyed_reply(REPLY, 5, KEY), 5) is None


def test_an_open_reply_has_no_room_for_a_whole_sequence():
    with pytest.raises(InvalidRequest, match="sequence is 4096"):
        encode_reply(Reply(4096, 0), 5)
