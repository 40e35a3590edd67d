from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.errors import InvalidRequest
from semantic_codec.header import check_start, pack_numbers, with_check
from semantic_codec.header_code import open_code
from semantic_codec.interleave import spread_layout
from semantic_codec.reply import NO_ADVICE, REPLY_BYTES, WIDTHS, Refusal, Reply, ReplyStatus, encode_reply, read_reply

REPLIES = st.builds(
    Reply,
    st.integers(0, 4095),
    st.integers(0, 1023),
    st.integers(0, 63).map(lambda step: step / 63),
    st.none() | st.integers(0, 15),
    st.sampled_from(ReplyStatus),
)
DEVICES = st.integers(0, 65535)


def flipped(data, ber, seed):
    flips = np.random.default_rng(seed).random(8 * len(data)) < ber
    return (np.packbits(flips) ^ np.frombuffer(data, dtype=np.uint8)).tobytes()


@settings(deadline=None)
@given(REPLIES, DEVICES, st.integers(0, 1000))
def test_round_trip_over_a_bad_link(reply, device, seed):
    data = encode_reply(reply, device)
    assert len(data) == REPLY_BYTES
    assert read_reply(data, device) == reply
    assert read_reply(flipped(data, 0.02, seed), device, [reply.sequence, 1, 2]) == reply


@settings(deadline=None)
@given(REPLIES, DEVICES, DEVICES)
def test_another_device_does_not_take_it(reply, device, other):
    if device != other:
        assert read_reply(encode_reply(reply, device), other) is None


def test_a_reply_to_something_else_is_not_taken():
    data = encode_reply(Reply(77, 3, 0.5), 9)
    assert read_reply(data, 9, [76, 78]) is None
    assert read_reply(data, 9, [76, 77]) == read_reply(data, 9)


def test_knowing_the_sequence_saves_replies():
    data = encode_reply(Reply(77, 3, 0.5), 9)
    damaged = [flipped(data, 0.1, seed) for seed in range(1000)]
    blind = sum(read_reply(frame, 9) is not None for frame in damaged)
    knowing = sum(read_reply(frame, 9, [77]) is not None for frame in damaged)
    assert 940 <= blind < knowing and knowing >= 985


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_read_without_an_error(data):
    reply = read_reply(data, 1)
    assert reply is None or len(data) == REPLY_BYTES


def test_reads_the_same_without_numba():
    data = encode_reply(Reply(5, 6, 1.0, 2), 3)
    for seed in range(20):
        frame = flipped(data, 0.12, seed)
        assert read_reply(frame, 3) == read_reply(frame, 3, code=open_code(use_compiled=False))


def test_a_refusal_carries_its_reason():
    reply = Reply(5, Refusal.ENCODER_MISMATCH, status=ReplyStatus.REFUSED)
    found = read_reply(encode_reply(reply, 3), 3)
    assert (found.status, Refusal(found.class_index)) == (ReplyStatus.REFUSED, Refusal.ENCODER_MISMATCH)


@pytest.mark.parametrize(
    "values", [(1 << 28, 0), (0, 1024), (0, 0, 1.1), (0, 0, float("nan")), (0, 0, 0.5, 16), (0, 0, 0.5, None, 4)]
)
def test_values_that_do_not_fit_are_refused(values):
    with pytest.raises(InvalidRequest):
        Reply(*values)


def test_numpy_s_numbers_are_numbers():
    found = Reply(np.int64(5), np.arange(4).argmax(), np.float32(0.5), np.int64(2))
    assert encode_reply(found, np.int64(7)) == encode_reply(Reply(5, 3, 0.5, 2), 7)


def test_a_device_that_does_not_fit_is_refused():
    with pytest.raises(InvalidRequest, match="device is 65536"):
        encode_reply(Reply(0, 0), 65536)


@given(REPLIES, DEVICES)
def test_the_sum_of_its_fields_is_the_coded_block(reply, device):
    """`encode_reply` adds up what each field is coded as; the format says that the whole block is coded."""
    advice = NO_ADVICE if reply.advice_level is None else reply.advice_level
    values = (0, reply.status, reply.sequence, reply.class_index, int(reply.confidence * 63 + 0.5), advice)
    block = with_check(pack_numbers(list(zip(values, WIDTHS, strict=True))), check_start(device.to_bytes(2, "big")))
    coded = open_code().encode(np.unpackbits(np.frombuffer(block, np.uint8))[None])[0]
    assert encode_reply(reply, device) == np.packbits(coded[spread_layout(144, 0)]).tobytes()
