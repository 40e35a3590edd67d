"""Keyed frames: what is read, what is refused, and that a flipped bit stays one flipped bit."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.errors import ConfigError, InvalidRequest
from semantic_codec.frame import FrameReader, WireCodec
from semantic_codec.interleave import spread_layout
from semantic_codec.keyed import WIDTHS, DeviceKey, KeyedHeader, keyed_code
from semantic_codec.keyed_frame import HEADER_BITS, KEYED, KeyedFrameReader, encode_keyed_frame

HASH = hashlib.sha256(b"encoder.bin").digest()
CODEC = WireCodec(2, HASH, (8, 16, 32))
KEYS = {device: DeviceKey(bytes([device]) * 32) for device in (1, 2)}
READER = KeyedFrameReader([CODEC], KEYS)


def frame(device=1, sequence=5, level=0, payload=None, key=None, encoder_hash=HASH, codec=2) -> bytes:
    payload = bytes(range((8, 16, 32)[level])) if payload is None else payload
    return encode_keyed_frame(KeyedHeader(codec, level, device, sequence), payload, key or KEYS[device], encoder_hash)


def flipped(data: bytes, places) -> bytes:
    mask = np.zeros(8 * len(data), dtype=np.uint8)
    mask[list(places)] = 1
    return (np.packbits(mask) ^ np.frombuffer(data, dtype=np.uint8)).tobytes()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2), st.integers(0, 2**28 - 1), st.integers(0, 2), st.randoms(use_true_random=False))
def test_round_trip(device, sequence, level, rng):
    payload = rng.randbytes((8, 16, 32)[level])
    sent = frame(device, sequence, level, payload)
    assert len(sent) == 28 + len(payload)
    result = READER.read([sent])[0]
    assert (result.outcome, result.payload, result.codec) == ("ok", payload, CODEC)
    assert result.header == KeyedHeader(2, level, device, sequence) and result.pilot_errors == 0


def test_a_flipped_payload_bit_stays_one_flipped_bit():
    order = spread_layout(HEADER_BITS, 64)
    place = int(np.flatnonzero(order == HEADER_BITS + 13)[0])
    payload = READER.read([flipped(frame(), [place])])[0].payload
    assert int.from_bytes(payload, "big") ^ int.from_bytes(bytes(range(8)), "big") == 1 << (63 - 13)


def test_the_payload_is_hidden_and_never_twice_the_same():
    sent = {frame(device, sequence) for device in (1, 2) for sequence in range(20)}
    order = spread_layout(HEADER_BITS, 64)
    hidden = set()
    for data in sent:
        bits = np.empty(len(order), dtype=np.uint8)
        bits[order] = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
        hidden.add(np.packbits(bits[HEADER_BITS:]).tobytes())
    assert len(hidden) == 40 and bytes(range(8)) not in hidden


def test_damaged_headers_are_read():
    rng = np.random.default_rng(1)
    frames, payloads = [], []
    for sequence in range(300):
        payloads.append(rng.bytes(8))
        sent = frame(1, sequence, payload=payloads[-1])
        frames.append(flipped(sent, np.flatnonzero(rng.random(8 * len(sent)) < 0.05)))
    results = READER.read(frames)
    assert sum(result.outcome == "ok" and result.header.sequence == row for row, result in enumerate(results)) == 300
    errors = sum(result.pilot_errors for result in results) / (300 * HEADER_BITS)
    assert 0.04 < errors < 0.06


def test_compiled_and_plain_kernels_agree():
    rng = np.random.default_rng(2)
    frames = []
    for sequence in range(20):
        sent = frame(1, sequence)
        frames.append(flipped(sent, np.flatnonzero(rng.random(8 * len(sent)) < 0.12)))
    plain = KeyedFrameReader([CODEC], KEYS, code=keyed_code(use_compiled=False))
    assert plain.read(frames) == READER.read(frames)


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [
        (frame(key=KEYS[2]), "bad_mac"),
        (frame(encoder_hash=bytes(32)), "bad_mac"),
        (frame(device=3, key=KEYS[1]), "unknown_device"),
        (frame(codec=9), "unknown_codec"),
        (frame(level=1, payload=bytes(8)), "bad_length"),
        (bytes(28 + 3), "bad_length"),
        (b"", "bad_length"),
    ],
)
def test_refusals(sent, outcome):
    result = READER.read([sent])[0]
    assert result.outcome == outcome and result.payload is None


def test_only_an_authentic_header_comes_with_its_codec():
    assert READER.read([frame(level=1, payload=bytes(8))])[0].codec == CODEC
    assert READER.read([frame(key=KEYS[2])])[0].codec is None


def test_open_frames_are_no_keyed_ones_and_the_other_way_round():
    assert FrameReader([WireCodec(2, HASH, (18,))]).read([frame()])[0].outcome != "ok"


def test_a_cut_frame_is_read_with_erasures():
    payload = bytes([255]) * 32
    result = READER.read([frame(level=2, payload=payload)[:50]])[0]
    assert result.outcome == "ok" and result.erased
    bits = np.unpackbits(np.frombuffer(result.payload, dtype=np.uint8))
    erased = np.zeros(256, dtype=bool)
    for first, count in result.erased:
        erased[first : first + count] = True
    assert (bits == ~erased).all()


def test_a_reader_of_whole_frames_refuses_cut_ones():
    whole = KeyedFrameReader([CODEC], KEYS, cut_frames=False)
    assert whole.read([frame(level=2)[:50]])[0].outcome == "bad_length"
    assert whole.sizes == (36, 44, 60)


def test_noise_is_refused():
    rng = np.random.default_rng(3)
    results = READER.read([rng.bytes(36) for _ in range(400)])
    assert {result.outcome for result in results} == {"bad_header"}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=90))
def test_no_bytes_raise(data):
    assert READER.read([data])[0].outcome != "ok"


def test_keys_may_come_and_go():
    keys: dict[int, DeviceKey] = {}
    reader = KeyedFrameReader([CODEC], keys)
    assert reader.read([frame()])[0].outcome == "unknown_device"
    keys[1] = KEYS[1]
    assert reader.read([frame()])[0].outcome == "ok"


def test_minimum_distance():
    """The lightest path around the trellis that is not the one of zeros: what `certain_errors` stands on."""
    code = keyed_code()
    size = 2 * code.taps.shape[1]
    kept = np.zeros(3 * code.info_bits, dtype=np.float32)
    kept[code.kept] = 1
    weights = kept.reshape(-1, 3)
    states = np.arange(size)
    # Bits coded where a 0 enters, by old state; a 1 turns all three over.
    by_zero = np.concatenate([code.taps, 1 - code.taps], axis=1)
    lightest = np.inf
    for start in range(size):
        metric = np.full(size, np.inf)
        metric[start] = 0 if start else np.inf
        for step in range(code.info_bits):
            zero = metric + weights[step] @ by_zero
            one = metric + weights[step] @ (1 - by_zero)
            if start == 0:  # the path of zeros is left here for the first time, or was before
                one[0] = min(one[0], weights[step] @ (1 - by_zero[:, 0]))
            below, above = states[: size // 2], states[size // 2 :]
            metric = np.empty(size)
            metric[0::2] = np.minimum(zero[below], zero[above])
            metric[1::2] = np.minimum(one[below], one[above])
        lightest = min(lightest, metric[start])
    assert lightest >= 2 * KEYED.certain_errors + 1


def test_refused_at_construction():
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        DeviceKey(b"short")
    with pytest.raises(ConfigError, match="hexadecimal"):
        DeviceKey.from_hex("zz" * 32)
    with pytest.raises(InvalidRequest, match="sequence is 268435456"):
        KeyedHeader(0, 0, 0, 1 << WIDTHS["sequence"])
    with pytest.raises(InvalidRequest, match="payload is empty"):
        frame(payload=b"")
    assert "1111" not in repr(DeviceKey(b"\x11" * 32))
