"""Classic BPF as the kernel runs it on a UDP socket, in a few lines: what the instructions mean is from the paper of
McCanne and Jacobson (1993) and the kernel's Documentation/networking/filter.rst."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

NETWORK_HEADER, ANCILLARY, RANDOM = 0xFFF00000, 0xFFFFF000, 56
MOST_INSTRUCTIONS = 4096
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Datagram:
    """Headers as far as a filter looks at them; ``random`` is the kernel's next random number."""

    def __init__(self, source: IpAddress, port: int, random: int):
        self.random = random
        self._udp = struct.pack(">4H", port, 50052, 8, 0)
        if source.version == 4:
            self._ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, source.packed, bytes([127, 0, 0, 1]))
        else:
            self._ip = struct.pack(">IHBB16s16s", 0x6AB00000, 8, 17, 64, source.packed, bytes(15) + b"\1")

    def load(self, offset: int, size: int) -> int:
        if offset == ANCILLARY + RANDOM:
            return self.random
        data, offset = (self._ip, offset - NETWORK_HEADER) if offset >= NETWORK_HEADER else (self._udp, offset)
        assert offset + size <= len(data), "the kernel would drop it"
        return int.from_bytes(data[offset : offset + size], "big")


def run(program: Sequence[tuple[int, int, int, int]], datagram: Datagram) -> bool:
    """Whether the datagram passes."""
    assert 0 < len(program) <= MOST_INSTRUCTIONS
    a, x, memory, place = 0, 0, {}, 0
    while True:
        operation, if_true, if_false, operand = program[place]
        assert max(if_true, if_false) < 256
        place += 1
        match operation:
            case 0x20 | 0x28 | 0x30:
                a = datagram.load(operand, {0x20: 4, 0x28: 2, 0x30: 1}[operation])
            case 0x00:
                a = operand
            case 0x60:
                a = memory[operand]
            case 0x02:
                assert operand < 16
                memory[operand] = a
            case 0x07:
                x = a
            case 0x0C:
                a = (a + x) % 2**32
            case 0x24:
                a = a * operand % 2**32
            case 0x74:
                a >>= operand
            case 0x05:
                place += operand
            case 0x15:
                place += if_true if a == operand else if_false
            case 0x35:
                place += if_true if a >= operand else if_false
            case 0x06:
                return operand > 0
            case _:
                raise AssertionError(f"no operation of this interpreter: {operation:#x}")
