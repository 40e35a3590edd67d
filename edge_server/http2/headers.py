"""Header blocks: read with HPACK's table (RFC 7541), written without, so that what is written can be kept as bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import hpack
from hpack.table import HeaderTable

LARGEST_BLOCK = 16_384
"""Bytes of a call's headers, decoded; a call with more is refused."""
READ_BLOCK = 4 * LARGEST_BLOCK
"""Bytes of a block that is read, as sent and decoded; a longer one ends the connection, since the table is lost."""
NO_TABLE = b"\x20"
"""Begins a connection's first block: what is written uses no table, however small the peer's may be (RFC 7541, 4.2)."""
_REMEMBERED = 64  # blocks, of at most
_SHORT = 1024  # bytes
Parsed = TypeVar("Parsed")


class _Table(HeaderTable):
    """Tells when it changed."""

    changed = False

    def add(self, name: bytes, value: bytes) -> None:
        self.changed = True
        super().add(name, value)

    def _shrink(self) -> None:
        self.changed = True
        super()._shrink()


class HeaderReader(Generic[Parsed]):
    """The decoder of one connection; ``parse`` makes of names and values what its requests need.

    Blocks that leave the table as it was are remembered until it changes: a client that repeats its calls repeats their
    block. All others are charged for, by their length.
    """

    def __init__(self, parse: Callable[[list[tuple[str, str]]], Parsed], charge: Callable[[int], None]):
        self._parse, self._charge = parse, charge
        self._decoder = hpack.Decoder(READ_BLOCK)
        self._table = self._decoder.header_table = _Table()
        self._known: dict[bytes, Parsed] = {}

    def read(self, block: bytes) -> Parsed:
        """hpack.HPACKError: the block cannot be read, nor can any that follows it."""
        parsed = self._known.get(block)
        if parsed is not None:
            return parsed
        self._charge(len(block) >> 9)
        self._table.changed = False
        headers = self._decoder.decode(block, raw=True)
        parsed = self._parse([(str(name, "latin-1"), str(value, "latin-1")) for name, value in headers])
        if self._table.changed or len(self._known) >= _REMEMBERED:
            self._known.clear()
        if not self._table.changed and len(block) <= _SHORT:
            self._known[block] = parsed
        return parsed


def write_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """A block of literals that never touch the table."""
    block = bytearray()
    for name, value in headers:
        block.append(0)
        for text in (name.encode("ascii"), value.encode("utf-8")):
            block += _length(len(text)) + text
    return bytes(block)


def _length(value: int) -> bytes:
    """An integer with a prefix of 7 bits (RFC 7541, 5.1)."""
    if value < 0x7F:
        return bytes([value])
    value -= 0x7F
    encoded = bytearray([0x7F])
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
