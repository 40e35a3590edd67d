"""The edge's answer to a keyed frame: one block of its header's code, 28 bytes, shorter than any keyed frame.

    version 2 | status 2 | sequence 28 | class 10 | confidence 6 | advice 8 | MAC 32

Class, confidence and advice, the last three of the seven bytes, are XORed with a keystream of their own. The MAC starts
from the device's number, which is not sent, and covers what is sent. The edge makes one reply to a sequence, never two
that differ: a second would use the same keystream again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from hmac import compare_digest

import numpy as np

from semantic_codec.header import check_range, pack_numbers, unpack_numbers
from semantic_codec.header_code import BlockCoder, HeaderCode
from semantic_codec.interleave import spread_layout
from semantic_codec.keyed import FIELD_BYTES, HEADER_BYTES, KEYED_MODE, REPLY, SEQUENCES, DeviceKey, keyed_code, xor
from semantic_codec.reply import NO_ADVICE, Reply

KEYED_REPLY_BYTES = HEADER_BYTES
WIDTHS = [2, 2, 28, 10, 6, 8]
CLEAR_BYTES = 4
"""Version, status and sequence."""

CHECKS = 8
"""Candidates compared with the MAC: noise is taken for a reply with a probability of at most 8 / 2^32."""

CERTAIN_ERRORS = 6


def encode_keyed_reply(reply: Reply, device: int, key: DeviceKey) -> bytes:
    """28 bytes for the device. reply.sequence: the whole one of the frame, 28 bits. InvalidRequest: no such device."""
    check_range("device", device, 16)
    advice = NO_ADVICE if reply.advice_level is None else reply.advice_level
    values = (KEYED_MODE, reply.status, reply.sequence, reply.class_index, int(reply.confidence * 63 + 0.5), advice)
    packed = pack_numbers(list(zip(values, WIDTHS, strict=True)))
    fields = _hide(packed, device, reply.sequence, key)
    block = fields + key.mac(REPLY + device.to_bytes(2, "big") + fields)
    return _coder().encode(block)


def read_keyed_reply(
    data: bytes, device: int, key: DeviceKey, sequences: Iterable[int] = (), code: HeaderCode | None = None
) -> Reply | None:
    """The reply in `data`, or None where it is damaged beyond repair, of another length or for another device.

    sequences: those that the device waits for. Knowing them, it reads replies that it would lose otherwise and is
    faster, and takes no reply to anything else.
    """
    if len(data) != KEYED_REPLY_BYTES:
        return None
    code = code or keyed_code()
    coded = np.empty(8 * KEYED_REPLY_BYTES, dtype=np.uint8)
    coded[spread_layout(8 * KEYED_REPLY_BYTES, 0)] = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    sequences = [sequence % SEQUENCES for sequence in sequences]
    info, errors = code.invert(coded[None])
    reply = _parse(np.packbits(info[0]).tobytes(), device, key) if errors[0] <= CERTAIN_ERRORS else None
    if reply is not None and (not sequences or reply.sequence in sequences):
        return reply
    soft = 2 * coded[None].astype(np.float32) - 1
    known = _known_bits(sequences)
    if len(known):
        info, costs = code.decode_known(np.repeat(soft, len(known), axis=0), known, CHECKS)
        info = info.reshape(-1, info.shape[2])[np.argsort(costs, axis=None, kind="stable")]
    else:
        info = code.decode(soft, CHECKS)[0][0]
    for block in np.packbits(info[:CHECKS], axis=1):
        reply = _parse(block.tobytes(), device, key)
        if reply is not None:
            return reply
    return None


def _parse(block: bytes, device: int, key: DeviceKey) -> Reply | None:
    fields = block[:FIELD_BYTES]
    if not compare_digest(block[FIELD_BYTES:], key.mac(REPLY + device.to_bytes(2, "big") + fields)):
        return None
    _, _, sequence, *_ = unpack_numbers(fields, WIDTHS)
    opened = unpack_numbers(_hide(fields, device, sequence, key), WIDTHS)
    version, status, sequence, class_index, confidence, advice = opened
    if version != KEYED_MODE:
        return None
    return Reply(sequence, class_index, confidence / 63, advice if advice < 16 else None, status)


def _hide(fields: bytes, device: int, sequence: int, key: DeviceKey) -> bytes:
    """The seven bytes with class, confidence and advice XORed; the same again undoes it."""
    stream = key.keystream(REPLY, device, sequence, FIELD_BYTES - CLEAR_BYTES)
    return fields[:CLEAR_BYTES] + xor(fields[CLEAR_BYTES:], stream)


@cache
def _coder() -> BlockCoder:
    return BlockCoder(keyed_code(), spread_layout(8 * KEYED_REPLY_BYTES, 0))


def _known_bits(sequences: Iterable[int]) -> np.ndarray:
    """What is known of replies to these sequences: int8 (len, 88), -1 where unknown."""
    rows = []
    for sequence in sequences:
        row = np.full(88, -1, dtype=np.int8)
        row[:2] = KEYED_MODE >> 1, KEYED_MODE & 1
        row[4:32] = [sequence >> shift & 1 for shift in range(27, -1, -1)]
        rows.append(row)
    return np.array(rows)
