"""Serial framing: frames are found wherever they lie, however the bytes come in, among noise and after lost bytes.

WEAKLINK_REGENERATE=1 writes tests/golden/serial.json anew instead of comparing with it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec.errors import ConfigError
from semantic_codec.frame import FrameReader, Header, WireCodec, encode_frame
from semantic_codec.keyed import DeviceKey, KeyedHeader
from semantic_codec.keyed_frame import KeyedFrameReader, encode_keyed_frame
from semantic_codec.serial_framing import MOST_BYTES, SYNC, SerialReceiver, add_sync

GOLDEN = Path(__file__).parents[1] / "golden" / "serial.json"
HASH = hashlib.sha256(b"encoder.bin").digest()
CODEC = WireCodec(2, HASH, (8, 16, 32))
KEY = DeviceKey(bytes(range(32)))
OPEN_READER = FrameReader([CODEC], cut_frames=False)
KEYED_READER = KeyedFrameReader([CODEC], {7: KEY}, cut_frames=False)
SIZES = (2, 5)


def checked(frames):
    """A toy frame: 2 or 5 bytes whose sum is 0 modulo 256 and that begin with a 1."""
    return [frame if frame[0] == 1 and sum(frame) % 256 == 0 else None for frame in frames]


def toy(content: bytes) -> bytes:
    return bytes([1]) + content + bytes([-(1 + sum(content)) % 256])


def opened(frames):
    return [result if result.outcome == "ok" else None for result in OPEN_READER.read(frames)]


def open_frame(sequence: int, level: int) -> bytes:
    return encode_frame(Header(2, level, 7, sequence), bytes(range(CODEC.payload_bytes[level])), HASH)


def noisy(data: bytes, ber: float, rng: np.random.Generator) -> bytes:
    return (np.packbits(rng.random(8 * len(data)) < ber) ^ np.frombuffer(data, dtype=np.uint8)).tobytes()


def in_chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[first:last] for first, last in zip(edges, edges[1:], strict=False)]


def test_a_frame_that_begins_in_another_one_is_none():
    """Whose content looks like the sync word, in front of a last byte that begins a frame with what follows."""
    outer = toy(bytes.fromhex("ebf320"))
    assert outer[-1:] + b"\xff" == toy(b"")
    receiver = SerialReceiver(SIZES, checked)
    assert receiver.feed(add_sync(outer) + b"\xff") == [outer]
    assert receiver.counts.sync_words == 2 and receiver.counts.frames == 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"", b"abc"]), st.binary(max_size=12)), min_size=1, max_size=8),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_how_the_bytes_are_cut_makes_no_difference(parts, cuts):
    line = b"".join(noise + add_sync(toy(content)) for content, noise in parts)
    whole, pieces = SerialReceiver(SIZES, checked), SerialReceiver(SIZES, checked)
    assert [found for chunk in in_chunks(line, cuts) for found in pieces.feed(chunk)] == whole.feed(line)
    assert pieces.counts == whole.counts


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([b"", b"abc"]), min_size=1, max_size=8),
    st.binary(max_size=20).filter(lambda noise: 1 not in noise),
)
def test_every_frame_is_found_in_order(contents, noise):
    line = noise + b"".join(add_sync(toy(content)) for content in contents)
    assert SerialReceiver(SIZES, checked).feed(line) == [toy(content) for content in contents]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20))
def test_memory_is_bounded_and_nothing_raises(chunks):
    receiver = SerialReceiver([26, 34, 50], opened)
    for chunk in chunks:
        receiver.feed(chunk)
        assert receiver.buffered <= len(SYNC) + 50


def test_much_at_once():
    frames = [open_frame(sequence % 4096, sequence % 3) for sequence in range(400)]
    line = b"".join(map(add_sync, frames))
    assert len(line) > 3 * MOST_BYTES
    receiver = SerialReceiver(OPEN_READER.sizes, opened)
    assert [result.header.sequence for result in receiver.feed(line)] == list(range(400))
    assert receiver.buffered <= 53 and receiver.counts.frames == 400


def test_a_frame_is_found_with_its_last_byte_however_long_others_may_be():
    receiver = SerialReceiver(OPEN_READER.sizes, opened)
    line = SYNC + b"x" + add_sync(open_frame(1, 0))  # a false sync word, behind which 50 bytes might belong to a frame
    assert receiver.feed(line[:-1]) == []
    assert len(receiver.feed(line[-1:])) == 1


@pytest.mark.parametrize("change", ["drop", "insert"])
def test_the_frame_after_lost_and_added_bytes_is_found(change):
    rng = np.random.default_rng(5)
    for _ in range(50):
        first = bytearray(add_sync(open_frame(1, 1)))
        place = int(rng.integers(3, len(first)))
        if change == "drop":
            del first[place]
        else:
            first.insert(place, int(rng.integers(256)))
        found = SerialReceiver(OPEN_READER.sizes, opened).feed(bytes(first) + add_sync(open_frame(2, 1)))
        assert [result.header.sequence for result in found][-1] == 2


@pytest.mark.parametrize(("lost", "pause", "found"), [(3, 0, [1, 2, 3]), (4, 0, [1, 3]), (4, 1, [1, 2, 3])])
def test_bytes_lost_near_the_end_cost_the_next_frame_where_they_are_more_than_the_sync_word(lost, pause, found):
    line = add_sync(open_frame(1, 1))[:-lost] + bytes(pause) + add_sync(open_frame(2, 1)) + add_sync(open_frame(3, 1))
    assert [result.header.sequence for result in SerialReceiver(OPEN_READER.sizes, opened).feed(line)] == found


@pytest.mark.parametrize("mode", ["open", "keyed"])
def test_frames_are_found_at_a_ber_of_a_twentieth(mode):
    rng = np.random.default_rng(6)
    reader = OPEN_READER if mode == "open" else KEYED_READER
    line = b""
    for sequence in range(400):
        if mode == "open":
            frame = open_frame(sequence, sequence % 3)
        else:
            level = sequence % 3
            payload = bytes(CODEC.payload_bytes[level])
            frame = encode_keyed_frame(KeyedHeader(2, level, 7, sequence), payload, KEY, HASH)
        line += rng.bytes(int(rng.integers(0, 20))) + add_sync(frame)

    def read(frames):
        return [result if result.outcome == "ok" else None for result in reader.read(frames)]

    found = SerialReceiver(reader.sizes, read).feed(noisy(line, 0.05, rng))
    sequences = {result.header.sequence for result in found}
    assert len(found) == len(sequences) and sequences <= set(range(400)) and len(sequences) >= 396


def test_refused_at_construction():
    with pytest.raises(ConfigError, match="lengths of frames"):
        SerialReceiver([], checked)
    with pytest.raises(ConfigError, match="sync_errors is 9"):
        SerialReceiver([2], checked, 9)


def current() -> dict:
    """A line with noise, damage, lost and added bytes, and what must be found on it."""
    rng = np.random.default_rng(7)
    pieces, lost = [], add_sync(open_frame(4, 2))
    for sequence in (1, 2, 3):
        pieces += [rng.bytes(9), noisy(add_sync(open_frame(sequence, sequence - 1)), 0.03, rng)]
    pieces += [lost[:20] + lost[21:], add_sync(open_frame(5, 0))]
    added = add_sync(open_frame(6, 1))
    pieces += [added[:9] + b"\x55" + added[9:], SYNC + rng.bytes(4), noisy(add_sync(open_frame(7, 1)), 0.05, rng)]
    line = b"".join(pieces)
    found = [
        {"device": result.header.device, "sequence": result.header.sequence, "level": result.header.level}
        | {"payload": result.payload.hex()}
        for result in SerialReceiver(OPEN_READER.sizes, opened).feed(line)
    ]
    return {
        "sync": SYNC.hex(),
        "encoder_hash": HASH.hex(),
        "codec": CODEC.codec_id,
        "payload_bytes": list(CODEC.payload_bytes),
        "frame": open_frame(1, 0).hex(),
        "on_the_line": add_sync(open_frame(1, 0)).hex(),
        "line": line.hex(),
        "found": found,
    }


def test_serial_lines_are_read_as_ever():
    if os.environ.get("WEAKLINK_REGENERATE"):
        GOLDEN.write_text(json.dumps(current(), indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert golden == current()
    assert [found["sequence"] for found in golden["found"]] == [1, 2, 3, 5, 7]
