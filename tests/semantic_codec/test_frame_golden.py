"""Frames and replies that every implementation must make and read, bit for bit.

WEAKLINK_REGENERATE=1 writes the file anew instead of comparing with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from semantic_codec.frame import FrameReader, Header, WireCodec, encode_frame
from semantic_codec.header import pack_header
from semantic_codec.header_code import open_code
from semantic_codec.interleave import stride
from semantic_codec.reply import CREDIBLE_ERRORS, Refusal, Reply, ReplyStatus, encode_reply, read_reply

GOLDEN = Path(__file__).parents[1] / "golden" / "frame.json"
HASH = hashlib.sha256(b"encoder.bin").digest()
PAYLOAD_BYTES = (1, 2, 4, 8, 16, 32, 75)
HEADERS = [
    Header(2, 3, 0x1234, 0x567),
    Header(0, 0, 0, 0),
    Header(63, 6, 0xFFFF, 0xFFF),
    Header(1, 2, 1, 4095),
    Header(21, 4, 0xAAAA, 0x555),
    Header(42, 5, 258, 2048),
]
REPLIES = [
    (Reply(0x567, 7, 50 / 63, 3), 0x1234),
    (Reply(0, 0, 0.0), 0),
    (Reply(4095, 1023, 1.0, 15), 65535),
    (Reply(1, Refusal.ENCODER_MISMATCH, status=ReplyStatus.REFUSED), 1),
    (Reply(2048, 0, status=ReplyStatus.BUSY), 258),
]

NOISE = ["dfa2e3e6b0b3e22441a48d6504ff617ccdb6", "e21dae28fba649aaf215ce7dc3072d9c7ac8", "cfc42548d356d2af68be6760c1b749633c0c"]
"""Blocks in which a reply to device 1 about sequence 5 passes its check, with 33, 30 and 38 wrong bits: too many to believe it."""


def flip(data: bytes, count: int, seed: int) -> bytes:
    """`data` with `count` bits turned over."""
    mask = np.zeros(8 * len(data), dtype=np.uint8)
    mask[np.random.default_rng(seed).choice(len(mask), count, replace=False)] = 1
    return (np.packbits(mask) ^ np.frombuffer(data, dtype=np.uint8)).tobytes()


def coded(block: bytes) -> bytes:
    bits = np.unpackbits(np.frombuffer(block, dtype=np.uint8))
    return np.packbits(open_code().encode(bits[None])).tobytes()


def current() -> dict:
    """The vectors as this implementation makes them."""
    frames, replies = [], []
    for index, header in enumerate(HEADERS):
        payload = np.random.default_rng(index).bytes(PAYLOAD_BYTES[header.level])
        block = pack_header(header, HASH)
        frame = encode_frame(header, payload, HASH)
        frames.append(
            {
                "header": dataclasses.asdict(header),
                "encoder_hash": HASH.hex(),
                "payload": payload.hex(),
                "payload_stride": stride(8 * len(payload)),
                "block": block.hex(),
                "coded": coded(block).hex(),
                "frame": frame.hex(),
                "damaged": flip(frame, len(frame) // 2, index).hex(),
            }
        )
    for index, (reply, device) in enumerate(REPLIES):
        data = encode_reply(reply, device)
        fields = dataclasses.asdict(reply) | {"confidence_step": round(63 * reply.confidence)}
        del fields["confidence"]
        replies.append({"reply": fields, "device": device, "data": data.hex(), "damaged": flip(data, 10, index).hex()})
    return {"frames": frames, "replies": replies, "noise": [{"device": 1, "sequence": 5, "data": data} for data in NOISE]}


def golden() -> dict:
    if os.environ.get("WEAKLINK_REGENERATE"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(current(), indent=1) + "\n")
    return json.loads(GOLDEN.read_text())


def test_frames_and_replies_are_made_as_ever():
    assert golden() == current()


def test_damaged_frames_are_read_as_ever():
    for vector in golden()["frames"]:
        header = Header(**vector["header"])
        reader = FrameReader([WireCodec(header.codec, bytes.fromhex(vector["encoder_hash"]), PAYLOAD_BYTES)])
        whole, damaged = reader.read([bytes.fromhex(vector["frame"]), bytes.fromhex(vector["damaged"])])
        assert (whole.header, whole.payload.hex()) == (header, vector["payload"])
        assert damaged.header == header and damaged.pilot_errors > 0


def test_damaged_replies_are_read_as_ever():
    for vector, (reply, device) in zip(golden()["replies"], REPLIES, strict=True):
        assert read_reply(bytes.fromhex(vector["data"]), device) == reply
        assert read_reply(bytes.fromhex(vector["damaged"]), device) == reply


def test_noise_whose_check_holds_is_no_reply():
    assert CREDIBLE_ERRORS == 27  # the number in the boards' readers
    for vector in golden()["noise"]:
        data, device = bytes.fromhex(vector["data"]), vector["device"]
        assert read_reply(data, device, [vector["sequence"]]) is None and read_reply(data, device) is None
