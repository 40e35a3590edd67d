"""The edge's answer to a raw frame: one block of the header's code, 18 bytes, never longer than the frame.

    version 2 | status 2 | sequence 12 | class 10 | confidence 6 | advice 8 | check 16

The device is not sent: the check starts from its 16-bit number, as a header's starts from the encoder's hash, so a
device takes no reply meant for another. A confidence is sent in steps of 1/63. Advice is the level to use next, 0 to
15; 255 is none, and the rest is reserved and read as none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, lru_cache

import numpy as np

from semantic_codec.errors import InvalidRequest
from semantic_codec.frame import OPEN
from semantic_codec.header import (
    FIELD_BYTES,
    OPEN_MODE,
    SEQUENCES,
    check_holds,
    check_range,
    check_start,
    unpack_numbers,
    with_check,
)
from semantic_codec.header_code import BlockCoder, HeaderCode, open_code
from semantic_codec.interleave import spread_layout

REPLY_BYTES = 18
WIDTHS = [2, 2, 12, 10, 6, 8]
NO_ADVICE = 255
CHECKS = 4
CREDIBLE_ERRORS = OPEN.credible_errors(8 * REPLY_BYTES)
"""Candidates compared with the check, and the wrong bits that one may have, as in a frame's header: in one block of noise in 30
one is as near that answers a given sequence, so noise is taken for it with a probability below 1 / 1,900,000."""

CERTAIN_ERRORS = 6
"""Half the code's minimum distance less one: a codeword as near as this is the nearest, and noise is never as near."""


class ReplyStatus(IntEnum):
    """ANSWERED: the class is the prediction. REFUSED: the class field holds a `Refusal`. BUSY: try again later."""

    ANSWERED = 0
    REFUSED = 1
    BUSY = 2


class Refusal(IntEnum):
    """Why a frame whose header could be read was refused."""

    OTHER = 0
    UNKNOWN_VERSION = 1
    UNKNOWN_CODEC = 2
    UNKNOWN_LEVEL = 3
    ENCODER_MISMATCH = 4
    BAD_LENGTH = 5
    TOO_LATE = 6


@dataclass(frozen=True)
class Reply:
    """What a device learns. confidence: 0 to 1. advice_level: None for no advice. status: see `ReplyStatus`.
    sequence: of the frame, 12 bits in open mode and 28 in keyed mode.

    InvalidRequest: a value does not fit its field.
    """

    sequence: int
    class_index: int
    confidence: float = 0.0
    advice_level: int | None = None
    status: int = ReplyStatus.ANSWERED

    def __post_init__(self) -> None:
        check_range("sequence", self.sequence, 28)
        check_range("class_index", self.class_index, 10)
        check_range("status", self.status, 2)
        if self.advice_level is not None:
            check_range("advice_level", self.advice_level, 4)
        if not 0 <= self.confidence <= 1:
            raise InvalidRequest(
                f"confidence is {self.confidence}", allowed="0 to 1", fix="give a probability, not a logit or percent"
            )


CLASSES = 1 << 10
"""That the class field can tell apart."""


def encode_reply(reply: Reply, device: int) -> bytes:
    """18 bytes for the device. InvalidRequest: the device is not a number of 16 bits."""
    check_range("device", device, 16)
    check_range("sequence", reply.sequence, 12)
    advice = None if reply.advice_level is None else int(reply.advice_level)  # NumPy's integers would end at 64 bits
    return pack_reply(int(device), int(reply.sequence), int(reply.class_index), reply.confidence, advice, reply.status)


def pack_reply(
    device: int,
    sequence: int,
    class_index: int,
    confidence: float,
    advice_level: int | None,
    status: int = ReplyStatus.ANSWERED,
) -> bytes:
    """As `encode_reply`, of values that are known to fit their fields."""
    # Check and code are linear, so each field has its part in the sum, whatever the others are.
    content = _coded_content(status, class_index, int(confidence * 63 + 0.5), advice_level)
    return (content ^ _coded_sequence(sequence) ^ _coded_device(device)).to_bytes(REPLY_BYTES, "big")


def read_reply(data: bytes, device: int, sequences: Iterable[int] = (), code: HeaderCode | None = None) -> Reply | None:
    """The reply in `data`, or None where it is damaged beyond repair, of another length or for another device.

    sequences: those that the device waits for. Knowing them, it reads replies that it would lose otherwise and is
    faster, and takes no reply to anything else.
    """
    if len(data) != REPLY_BYTES:
        return None
    code = code or open_code()
    coded = np.empty(8 * REPLY_BYTES, dtype=np.uint8)
    coded[_order()] = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    sequences = [sequence % SEQUENCES for sequence in sequences]
    # Most replies arrive whole, or nearly: those need no search, which takes milliseconds where nothing is compiled.
    info, errors = code.invert(coded[None])
    reply = _parse(np.packbits(info[0]).tobytes(), device) if errors[0] <= CERTAIN_ERRORS else None
    if reply is not None and (not sequences or reply.sequence in sequences):
        return reply
    soft = 2 * coded[None].astype(np.float32) - 1
    known = _known_bits(sequences)
    if len(known):
        info, costs = code.decode_known(np.repeat(soft, len(known), axis=0), known, CHECKS)
    else:
        info, costs = code.decode(soft, CHECKS)
    info, costs = info.reshape(-1, info.shape[2]), costs.ravel()
    likeliest = np.argsort(costs, kind="stable")[:CHECKS]
    for block in np.packbits(info[likeliest[costs[likeliest] <= CREDIBLE_ERRORS]], axis=1):
        reply = _parse(block.tobytes(), device)
        if reply is not None:
            return reply
    return None


def _parse(block: bytes, device: int) -> Reply | None:
    if not check_holds(block, _start(device)):
        return None
    version, status, sequence, class_index, confidence, advice = unpack_numbers(block[:FIELD_BYTES], WIDTHS)
    if version != OPEN_MODE:
        return None
    return Reply(sequence, class_index, confidence / 63, advice if advice < 16 else None, status)


def _known_bits(sequences: Iterable[int]) -> np.ndarray:
    """What is known of replies to these sequences: int8 (len, 56), -1 where unknown."""
    rows = []
    for sequence in sequences:
        row = np.full(56, -1, dtype=np.int8)
        row[:2] = 0
        row[4:16] = [sequence >> shift & 1 for shift in range(11, -1, -1)]
        rows.append(row)
    return np.array(rows)


@lru_cache(maxsize=4096)
def _coded_content(status: int, class_index: int, confidence: int, advice_level: int | None) -> int:
    advice = NO_ADVICE if advice_level is None else advice_level
    return _coded(OPEN_MODE << 38 | status << 36 | class_index << 14 | confidence << 8 | advice, 0)


@lru_cache(maxsize=SEQUENCES)
def _coded_sequence(sequence: int) -> int:
    return _coded(sequence << 24, 0)


@lru_cache(maxsize=4096)
def _coded_device(device: int) -> int:
    return _coded(0, _start(device))


def _coded(packed: int, start: int) -> int:
    return _coder().encode_number(with_check(packed.to_bytes(FIELD_BYTES, "big"), start))


def _start(device: int) -> int:
    return check_start(device.to_bytes(2, "big"))


@cache
def _coder() -> BlockCoder:
    return BlockCoder(open_code(), _order())


def _order() -> np.ndarray:
    return spread_layout(8 * REPLY_BYTES, 0)
