"""The 56 bits that say what a frame carries, and the check that ties them to one encoder.

    version 2 | codec 6 | level 4 | device 16 | sequence 12 | check 16        most significant bit first

The check is CRC-16 (polynomial 0x1021, start 0xFFFF, nothing reflected) over the SHA-256 of `encoder.bin`, then the
40 bits before it. The hash comes first, so a device stores the two bytes that the CRC stands at after it.
"""

from __future__ import annotations

import operator
from binascii import crc_hqx
from dataclasses import dataclass, fields
from functools import cache
from typing import ClassVar

import numpy as np

from semantic_codec.errors import InvalidRequest

OPEN_MODE = 0
"""The version of frames in open mode; 1 is reserved for keyed mode."""

WIDTHS = {"version": 2, "codec": 6, "level": 4, "device": 16, "sequence": 12}
FIELD_BYTES, BLOCK_BYTES = 5, 7
SEQUENCES = 1 << WIDTHS["sequence"]
"""Sequence numbers count modulo this."""


@dataclass(frozen=True)
class Header:
    """What a frame says of itself. InvalidRequest: a field does not fit its width."""

    codec: int
    level: int
    device: int
    sequence: int
    version: int = OPEN_MODE
    widths: ClassVar[dict[str, int]] = WIDTHS

    def __post_init__(self) -> None:
        for field in fields(self):
            check_range(field.name, getattr(self, field.name), self.widths[field.name])


def check_range(name: str, value: int, width: int) -> None:
    """InvalidRequest: `value` is not a whole number of at most `width` bits."""
    try:
        fits = 0 <= operator.index(value) < 1 << width
    except TypeError:
        fits = False
    if not fits:
        raise InvalidRequest(
            f"{name} is {value!r}", allowed=f"0 to {(1 << width) - 1}, a whole number", fix=f"give {width} bits"
        )


def pack_numbers(values: list[tuple[int, int]]) -> bytes:
    """(value, width) pairs one after another, most significant bit first; the widths add up to whole bytes."""
    packed = 0
    for value, width in values:
        packed = packed << width | operator.index(value)  # NumPy's integers would end at 64 bits
    return packed.to_bytes(sum(width for _, width in values) // 8, "big")


def unpack_numbers(data: bytes, widths: list[int]) -> list[int]:
    """The values of `pack_numbers`."""
    packed = int.from_bytes(data, "big")
    values = []
    for width in reversed(widths):
        values.append(packed & (1 << width) - 1)
        packed >>= width
    return values[::-1]


def check_start(secret: bytes) -> int:
    """Where the check stands after what is covered but not sent: the encoder's hash, or a reply's device."""
    return crc_hqx(secret, 0xFFFF)


def with_check(packed: bytes, start: int) -> bytes:
    """5 bytes of fields and their check: 7 bytes."""
    return packed + crc_hqx(packed, start).to_bytes(2, "big")


def check_holds(block: bytes, start: int) -> bool:
    """Whether 7 bytes end in their own check."""
    # A CRC run over a message and its own checksum ends at 0.
    return crc_hqx(block, start) == 0


def pack_header(header: Header, encoder_hash: bytes) -> bytes:
    """Header and check: 7 bytes. encoder_hash: SHA-256 of `encoder.bin`, 32 bytes."""
    packed = pack_numbers([(getattr(header, name), width) for name, width in WIDTHS.items()])
    return with_check(packed, check_start(encoder_hash))


def unpack_header(block: bytes) -> Header:
    """The header in 7 bytes, whatever their check says."""
    packed, header = int.from_bytes(block[:FIELD_BYTES], "big"), object.__new__(Header)
    # Fields taken out of their own widths fit them: the checks of the constructor would be most of the time.
    vars(header).update(
        codec=packed >> 32 & 63,
        level=packed >> 28 & 15,
        device=packed >> 12 & 0xFFFF,
        sequence=packed & 0xFFF,
        version=packed >> 38,
    )
    return header


def unpack_headers(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of blocks uint8 (B, 7), whatever their check says: kinds, devices and sequences, int64 (B,).

    A kind is one number for version, codec, level and what the check leaves: `header_kind` of what it should be.
    """
    padded = np.zeros((len(blocks), 8), dtype=np.uint8)
    padded[:, 1:] = blocks
    packed = padded.view(">i8")[:, 0].astype(np.int64)
    rests = np.bitwise_xor.reduce(check_sums()[np.arange(BLOCK_BYTES), blocks], axis=1)
    return packed >> 44 << 16 | rests, packed >> 28 & 0xFFFF, packed >> 16 & 0xFFF


def header_kind(codec: int, level: int, start: int) -> int:
    """The kind of `unpack_headers` of every header of open mode with this codec and level whose check holds. start: of the
    check, see `check_start`."""
    # Linear: started elsewhere, a CRC over a block ends at what it ends at over zeros from there, plus its own.
    return OPEN_MODE << 26 | codec << 20 | level << 16 | crc_hqx(bytes(BLOCK_BYTES), start)


@cache
def check_sums() -> np.ndarray:
    """What each value of each byte of a block adds to its CRC: int64 (7, 256)."""
    return np.array(
        [
            [crc_hqx(bytes([value]).ljust(BLOCK_BYTES - place, b"\0"), 0) for value in range(256)]
            for place in range(BLOCK_BYTES)
        ]
    )
