from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.errors import InvalidRequest
from semantic_codec.frame import HEADER_BYTES, FrameReader, FrameResult, Header, WireCodec, encode_frame
from semantic_codec.header_code import open_code
from semantic_codec.interleave import contiguous_layout

SMALL = WireCodec(1, bytes(range(32)), (2, 4, 8))
LARGE = WireCodec(2, bytes(range(32, 64)), (8, 16, 32))
READER = FrameReader([SMALL, LARGE])
HEADERS = st.builds(
    Header, st.sampled_from([1, 2]), st.integers(0, 2), st.integers(0, 65535), st.integers(0, 4095)
)


def codec_of(header):
    return {1: SMALL, 2: LARGE}[header.codec]


def frame_of(header, seed=0):
    codec = codec_of(header)
    payload = np.random.default_rng(seed).bytes(codec.payload_bytes[header.level])
    return payload, encode_frame(header, payload, codec.encoder_hash)


def flipped(frame, ber, seed=0):
    flips = np.random.default_rng(seed).random(8 * len(frame)) < ber
    return (np.packbits(flips) ^ np.frombuffer(frame, dtype=np.uint8)).tobytes()


@given(HEADERS, st.integers(0, 1000))
def test_round_trip(header, seed):
    payload, frame = frame_of(header, seed)
    assert len(frame) == HEADER_BYTES + len(payload)
    assert READER.read([frame]) == [FrameResult("ok", header, codec_of(header), payload, (), 144, 0)]


@settings(deadline=None)
@given(HEADERS, st.integers(0, 1000))
def test_damaged_frames_keep_their_header_and_report_their_errors(header, seed):
    payload, frame = frame_of(header, seed)
    damaged = flipped(frame, 0.03, seed)
    (result,) = READER.read([damaged])
    assert (result.outcome, result.header) == ("ok", header)
    wrong = sum(bin(a ^ b).count("1") for a, b in zip(frame, damaged, strict=True))
    wrong_payload = sum(bin(a ^ b).count("1") for a, b in zip(payload, result.payload, strict=True))
    assert result.pilot_errors + wrong_payload == wrong


FRAME_SIZED = st.sampled_from([20, 26, 30, 34, 50]).flatmap(lambda size: st.binary(min_size=size, max_size=size))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=80) | FRAME_SIZED))
def test_any_bytes_get_one_result_each(frames):
    results = READER.read(frames)
    assert len(results) == len(frames)
    for frame, result in zip(frames, results, strict=True):
        assert (result.payload is not None) == (result.outcome == "ok")
        if len(frame) > 50 or len(frame) < 10:
            assert result.outcome == "bad_length"


@settings(deadline=None)
@given(HEADERS, st.integers(0, 8), st.integers(0, 1000))
def test_a_cut_frame_is_one_with_erasures_and_never_a_lower_level(header, lost, seed):
    payload, frame = frame_of(header, seed)
    lost = min(lost, len(payload))
    (result,) = READER.read([frame[: len(frame) - lost]])
    assert (result.outcome, result.header, result.pilot_errors) == ("ok", header, 0)
    missing = np.zeros(8 * len(payload), dtype=bool)
    for first, count in result.erased:
        missing[first : first + count] = True
    assert missing.sum() + 144 - result.pilot_bits == 8 * lost
    sent, got = (np.unpackbits(np.frombuffer(data, dtype=np.uint8)) for data in (payload, result.payload))
    assert np.array_equal(sent[~missing], got[~missing]) and not got[missing].any()


def test_a_frame_cut_to_the_size_of_a_lower_level():
    header = Header(2, 2, 7, 7)
    _, frame = frame_of(header)
    (result,) = READER.read([frame[:34]])
    assert (result.outcome, result.header, len(result.payload)) == ("ok", header, 32)


def test_headers_survive_the_promised_error_rates():
    frames, headers = [], []
    for i in range(3000):
        headers.append(Header(2, i % 3, i, i))
        frames.append(frame_of(headers[-1], i)[1])
    for ber, least in ((0.05, 0.998), (0.1, 0.98)):
        results = READER.read([flipped(frame, ber, i) for i, frame in enumerate(frames)])
        read = [result.outcome == "ok" and result.header == h for result, h in zip(results, headers, strict=True)]
        assert np.mean(read) >= least


def test_noise_is_not_taken_for_a_frame():
    rng = np.random.default_rng(11)
    results = READER.read([rng.bytes((26, 34, 50)[i % 3]) for i in range(6000)])
    assert {result.outcome for result in results} == {"bad_header"}


def test_noise_whose_nearest_header_passes_its_check_is_too_far_from_it():
    (result,) = READER.read([np.random.default_rng(53_344).bytes(50)])
    assert result.outcome == "bad_header"


@pytest.mark.parametrize("ber", [0, 0.05])
@pytest.mark.parametrize("kept", [1, 0.8])
def test_versions_of_one_encoder_are_told_apart_by_the_length_of_their_levels(ber, kept):
    first, second = LARGE, WireCodec(2, LARGE.encoder_hash, (4, 8, 16, 32))
    reader = FrameReader([first, second])
    for codec in (first, second):
        for level, size in enumerate(codec.payload_bytes):
            frame = flipped(encode_frame(Header(2, level, 3, 4), bytes(size), codec.encoder_hash), ber, seed=6)
            (result,) = reader.read([frame[: int(kept * len(frame))]])
            assert (result.outcome, result.codec, result.header.level) == ("ok", codec, level), (size, result)


def test_refusals_are_told_apart_from_damage():
    other = WireCodec(2, b"\xff" * 32, (8, 16, 32, 64))
    longer = WireCodec(2, LARGE.encoder_hash, (8, 16, 32, 8))
    cases = {
        "unknown_codec": encode_frame(Header(40, 0, 3, 4), bytes(8), bytes(32)),
        "encoder_mismatch": encode_frame(Header(2, 0, 3, 4), bytes(8), other.encoder_hash),
        "unknown_level": encode_frame(Header(2, 3, 3, 4), bytes(8), longer.encoder_hash),
        "unknown_version": encode_frame(Header(2, 0, 3, 4, version=1), bytes(8), LARGE.encoder_hash),
        "bad_length": encode_frame(Header(2, 2, 3, 4), bytes(8), LARGE.encoder_hash),
    }
    for outcome, frame in cases.items():
        for ber in (0, 0.01, 0.04):
            (result,) = READER.read([flipped(frame, ber, seed=5)])
            assert (result.outcome, result.payload) == (outcome, None)
            assert (result.header.device, result.header.sequence) == (3, 4)


def test_two_versions_of_one_codec_are_told_apart_by_their_encoders():
    older = dataclasses.replace(LARGE, encoder_hash=b"\x01" * 32)
    reader = FrameReader([LARGE, older])
    for codec in (LARGE, older):
        frame = encode_frame(Header(2, 1, 3, 4), bytes(16), codec.encoder_hash)
        assert reader.read([flipped(frame, 0.05)])[0].codec == codec


@pytest.mark.parametrize(("level", "size", "outcome"), [(2, 16, "unknown_level"), (0, 4, "bad_length")])
def test_a_level_of_another_version_is_refused_however_damaged(level, size, outcome):
    several, one = WireCodec(3, b"A" * 32, (4, 8, 16)), WireCodec(3, b"B" * 32, (16,))
    reader = FrameReader([several, one])
    frame = encode_frame(Header(3, level, 7, 100), bytes(range(size)), one.encoder_hash)
    for ber in (0, 0.02, 0.05):
        (result,) = reader.read([flipped(frame, ber, seed=8)])
        assert (result.outcome, result.codec, result.payload) == (outcome, one, None)


def test_numpy_s_numbers_are_numbers():
    header = Header(1, np.int64(0), np.int64(7), np.int64(5))
    assert encode_frame(header, bytes(2), SMALL.encoder_hash) == encode_frame(Header(1, 0, 7, 5), bytes(2), SMALL.encoder_hash)


def test_reads_the_same_without_numba():
    rng = np.random.default_rng(4)
    frames = [flipped(frame_of(Header(2, i % 3, i, i))[1], rng.choice([0.02, 0.1, 0.2]), i) for i in range(60)]
    frames += [frame[:-3] for frame in frames[:20]]
    plain = FrameReader([SMALL, LARGE], code=open_code(use_compiled=False))
    assert plain.read(frames) == READER.read(frames)


def test_a_layout_is_a_choice_of_both_ends():
    frame = encode_frame(Header(1, 0, 3, 4), b"ab", SMALL.encoder_hash, contiguous_layout)
    assert frame[18:] == b"ab"
    assert FrameReader([SMALL], contiguous_layout).read([frame])[0].payload == b"ab"


def test_a_reader_without_codecs_reads_nothing():
    assert FrameReader([]).read([bytes(26), b""]) == [FrameResult("bad_length")] * 2


@pytest.mark.parametrize(
    "field, value, allowed",
    [("codec", 64, 63), ("level", 16, 15), ("device", 65536, 65535), ("sequence", -1, 4095), ("device", 1.5, 65535)],
)
def test_a_header_names_the_field_that_does_not_fit(field, value, allowed):
    fields = {"codec": 1, "level": 0, "device": 1, "sequence": 0} | {field: value}
    with pytest.raises(InvalidRequest, match=f"{field} is {value}; allowed: 0 to {allowed}"):
        Header(**fields)


def test_bad_arguments_are_refused():
    with pytest.raises(InvalidRequest, match="has 64 bytes; allowed: 32"):
        encode_frame(Header(1, 0, 1, 1), b"ab", b"0" * 64)
    with pytest.raises(InvalidRequest, match="payload is empty"):
        encode_frame(Header(1, 0, 1, 1), b"", bytes(32))
    for levels in ((), (0,), (1,) * 17):
        with pytest.raises(InvalidRequest, match="1 to 16 levels"):
            WireCodec(1, bytes(32), levels)


OTHER = WireCodec(1, bytes(range(64, 96)), (2, 4, 8))
"""Shares its number with SMALL."""


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([SMALL, LARGE, OTHER]), HEADERS, st.sampled_from([0.0, 0.01, 0.05]), st.integers(0, 99)), max_size=20), st.lists(FRAME_SIZED, max_size=3))
def test_whole_frames_are_those_that_need_no_search(sent, noise):
    """Also of codecs that share a number, of encoders that nobody knows, and of levels that a codec has not."""
    frames = [
        flipped(encode_frame(header, bytes([seed] * codec.payload_bytes[header.level]), codec.encoder_hash), ber, seed)
        for codec, header, ber, seed in sent
    ] + noise
    for reader in (READER, FrameReader([OTHER, SMALL, LARGE]), FrameReader([SMALL], code=open_code(use_compiled=False))):
        near = [found if found and found.outcome == "ok" else None for found in reader.read_near(frames)]
        assert [found and found.result for found in reader.read_whole(frames)] == near
