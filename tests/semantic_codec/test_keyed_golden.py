"""Keyed frames and replies that every implementation must make and read, bit for bit.

WEAKLINK_REGENERATE=1 writes the file anew instead of comparing with it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from semantic_codec.frame import WireCodec
from semantic_codec.keyed import FRAME, DeviceKey, KeyedHeader, keyed_code, pack_keyed_header
from semantic_codec.keyed import REPLY as REPLY_USE
from semantic_codec.keyed_frame import KeyedFrameReader, encode_keyed_frame
from semantic_codec.keyed_reply import encode_keyed_reply, read_keyed_reply
from semantic_codec.reply import Refusal, Reply, ReplyStatus
from tests.semantic_codec.test_frame_golden import HASH, PAYLOAD_BYTES, flip

GOLDEN = Path(__file__).parents[1] / "golden" / "keyed.json"
SECRET = bytes(range(32))
HEADERS = [
    KeyedHeader(2, 3, 0x1234, 0x567),
    KeyedHeader(0, 0, 0, 0),
    KeyedHeader(63, 6, 0xFFFF, 0xFFFFFFF),
    KeyedHeader(1, 2, 1, 4096),
    KeyedHeader(21, 4, 0xAAAA, 0x5555555),
    KeyedHeader(42, 5, 258, 0x8000000),
]
REPLIES = [
    (Reply(0x567, 7, 50 / 63, 3), 0x1234),
    (Reply(0, 0, 0.0), 0),
    (Reply(0xFFFFFFF, 1023, 1.0, 15), 65535),
    (Reply(1, Refusal.BAD_LENGTH, status=ReplyStatus.REFUSED), 1),
    (Reply(0x8000000, 0, status=ReplyStatus.BUSY), 258),
]


def current() -> dict:
    """The vectors as this implementation makes them."""
    key = DeviceKey(SECRET)
    frames, replies = [], []
    for index, header in enumerate(HEADERS):
        payload = np.random.default_rng(index).bytes(PAYLOAD_BYTES[header.level])
        block = pack_keyed_header(header, key, HASH)
        coded = keyed_code().encode(np.unpackbits(np.frombuffer(block, dtype=np.uint8))[None])
        frame = encode_keyed_frame(header, payload, key, HASH)
        frames.append(
            {
                "header": dataclasses.asdict(header),
                "encoder_hash": HASH.hex(),
                "payload": payload.hex(),
                "block": block.hex(),
                "coded": np.packbits(coded).tobytes().hex(),
                "keystream": key.keystream(FRAME, header.device, header.sequence, len(payload)).hex(),
                "frame": frame.hex(),
                "damaged": flip(frame, len(frame) // 2, index).hex(),
            }
        )
    for index, (reply, device) in enumerate(REPLIES):
        data = encode_keyed_reply(reply, device, key)
        fields = dataclasses.asdict(reply) | {"confidence_step": round(63 * reply.confidence)}
        del fields["confidence"]
        replies.append(
            {
                "reply": fields,
                "device": device,
                "keystream": key.keystream(REPLY_USE, device, reply.sequence, 3).hex(),
                "data": data.hex(),
                "damaged": flip(data, 15, index).hex(),
            }
        )
    keys = {"secret": SECRET.hex(), "cipher_key": key.cipher_key.hex(), "mac_key": key.mac_key.hex()}
    return keys | {"frames": frames, "replies": replies}


def golden() -> dict:
    if os.environ.get("WEAKLINK_REGENERATE"):
        GOLDEN.write_text(json.dumps(current(), indent=1) + "\n")
    return json.loads(GOLDEN.read_text())


def test_keyed_frames_and_replies_are_made_as_ever():
    assert golden() == current()


def test_damaged_keyed_frames_are_read_as_ever():
    for vector in golden()["frames"]:
        header = KeyedHeader(**vector["header"])
        codec = WireCodec(header.codec, bytes.fromhex(vector["encoder_hash"]), PAYLOAD_BYTES)
        reader = KeyedFrameReader([codec], {header.device: DeviceKey(SECRET)})
        whole, damaged = reader.read([bytes.fromhex(vector["frame"]), bytes.fromhex(vector["damaged"])])
        assert (whole.header, whole.payload.hex()) == (header, vector["payload"])
        assert damaged.header == header and damaged.pilot_errors > 0


def test_damaged_keyed_replies_are_read_as_ever():
    for vector, (reply, device) in zip(golden()["replies"], REPLIES, strict=True):
        assert read_keyed_reply(bytes.fromhex(vector["data"]), device, DeviceKey(SECRET)) == reply
        assert read_keyed_reply(bytes.fromhex(vector["damaged"]), device, DeviceKey(SECRET)) == reply
