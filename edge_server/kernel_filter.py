"""Has the kernel drop what floods a socket, before it takes the buffer's room or a moment of ours. Linux only; elsewhere
nothing is blocked and nothing counted.

    of a blocked sender? -> drop    of a spared one? -> pass    of a blocked network? -> drop    else -> one in so many

The program sees one form of address, `addresses.packed`, whatever the socket's family.
"""

from __future__ import annotations

import contextlib
import ctypes
import secrets
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from edge_server.addresses import IPV4_PREFIX, packed

MOST_SPARED = 1000  # the program has to fit net.core.optmem_max, 20 KB on kernels before 6.7
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_MEMINFO = 26, 27, 55
_MEMINFO = struct.Struct("9I")  # the last is the number of datagrams dropped: no room, or filtered
_IP_HEADER = 0xFFF00000  # SKF_NET_OFF; what the program sees by itself starts with the UDP header
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _LOAD_CONSTANT, _LOAD, _STORE = 0x20, 0x28, 0x30, 0x00, 0x60, 0x02
_JUMP, _JUMP_EQUAL, _JUMP_NOT_LESS, _RETURN = 0x05, 0x15, 0x35, 0x06
_ADD_X, _MULTIPLY, _SHIFT_RIGHT, _A_TO_X = 0x0C, 0x24, 0x74, 0x07
_PASS, _DROP = (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)
_PORT = 4  # its place in the program's memory, behind the address's words
_FAR = 250  # a conditional jump reaches 255 instructions
_INSTRUCTION = struct.Struct("HBBI")
Instruction = tuple[int, int, int, int]
"""Operation, instructions skipped where a comparison holds, where it does not, and the operand: see bpf(4)."""


@dataclass(frozen=True)
class Rules:
    """Which datagrams the kernel drops.

    senders: (address, port) pairs, of which all are dropped. spared: senders that pass else, the most important first.
    networks: as `addresses.network` has them, of which all others are dropped. one_in: of all that is left one in so
    many passes, by chance.
    """

    senders: Sequence[tuple[str, int]] = ()
    spared: Sequence[tuple[str, int]] = ()
    networks: Sequence[str] = ()
    one_in: int = 1


class KernelFilter:
    """A classic BPF program on a bound UDP socket; see socket(7), SO_ATTACH_FILTER. It needs no privilege."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._works = sys.platform == "linux"
        # Secret, so that nobody can choose an address that is taken for a spared one.
        self._factors = [secrets.randbits(32) | 1 for _ in range(_PORT + 1)]
        self._rules = Rules()
        self._dropped = self._counter()

    def follow(self, rules: Rules) -> None:
        """These rules, in place of those before."""
        if not self._works or rules == self._rules:
            return
        self._rules = rules
        # A kernel that refuses leaves it to us to drop the frames.
        with contextlib.suppress(OSError):
            if rules == Rules():
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            else:
                self._attach(compile_rules(rules, self._factors))

    def dropped(self) -> int:
        """Datagrams that the kernel dropped since the last call, blocked ones and those that found no room."""
        before, self._dropped = self._dropped, self._counter()
        return (self._dropped - before) % 2**32

    def _attach(self, program: Sequence[Instruction]) -> None:
        code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
        held = ctypes.create_string_buffer(code, len(code))
        self._sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(held))
        )

    def _counter(self) -> int:
        if self._works:
            with contextlib.suppress(OSError):
                return _MEMINFO.unpack(self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[-1]
        return 0


def compile_rules(rules: Rules, factors: Sequence[int]) -> list[Instruction]:
    """The program. factors: five odd numbers below 2^32, secret."""
    program = _load_source()
    for host, port in rules.senders:
        program += _if_equal({_PORT: port} | dict(enumerate(_words(host))), _DROP)
    if rules.spared:
        # One comparison each: that another sender has the same sum, by chance, lets it through to us, no more.
        program += _sum(factors)
        spared = [(*_words(host), port) for host, port in rules.spared[:MOST_SPARED]]
        sums = [sum(map(int.__mul__, words, factors)) % 2**32 >> 1 for words in spared]
        for start in range(0, len(sums), _FAR):
            part = sums[start : start + _FAR]
            program += [(_JUMP_EQUAL, len(part) - place, 0, each) for place, each in enumerate(part)]
            program += [(_JUMP, 0, 0, 1), _PASS]
    for network in rules.networks:
        host, _, prefix = network.partition("/")
        words = dict(enumerate(_words(host)[:2] if prefix else _words(host)))
        program += _if_equal(words, _DROP)
    if rules.one_in > 1:
        program += [(_LOAD_WORD, 0, 0, _RANDOM), (_JUMP_NOT_LESS, 0, 1, 2**32 // rules.one_in), _DROP]
    return [*program, _PASS]


def _load_source() -> list[Instruction]:
    """The source address into the memory's first four places, its port into the fifth."""

    def stored(place: int, operation: int, operand: int) -> list[Instruction]:
        return [(operation, 0, 0, operand), (_STORE, 0, 0, place)]

    version_6 = [each for place in range(4) for each in stored(place, _LOAD_WORD, _IP_HEADER + 8 + 4 * place)]
    prefix = enumerate(struct.unpack(">3I", IPV4_PREFIX))
    version_4 = [each for place, word in prefix for each in stored(place, _LOAD_CONSTANT, word)]
    version_4 += [*stored(3, _LOAD_WORD, _IP_HEADER + 12), (_JUMP, 0, 0, len(version_6))]
    version = [(_LOAD_BYTE, 0, 0, _IP_HEADER), (_JUMP_NOT_LESS, len(version_4), 0, 0x60)]
    return [*version, *version_4, *version_6, *stored(_PORT, _LOAD_HALF, 0)]


def _if_equal(values: dict[int, int], then: Instruction) -> list[Instruction]:
    """``then`` where all these places of the memory have these values: the last one, which differs most, is compared first."""
    places = sorted(values, reverse=True)
    found: list[Instruction] = []
    for left, place in zip(range(len(places), 0, -1), places, strict=True):
        found += [(_LOAD, 0, 0, place), (_JUMP_EQUAL, 0, 2 * left - 1, values[place])]
    return [*found, then]


def _sum(factors: Sequence[int]) -> list[Instruction]:
    """Of the memory's places times their factors, modulo 2^32, without the last bit: the kernel needs two of its own
    instructions to compare with what has the sign bit set."""
    program: list[Instruction] = [(_LOAD_CONSTANT, 0, 0, 0)]
    for place, factor in enumerate(factors):
        program += [(_A_TO_X, 0, 0, 0), (_LOAD, 0, 0, place), (_MULTIPLY, 0, 0, factor), (_ADD_X, 0, 0, 0)]
    return [*program, (_SHIFT_RIGHT, 0, 0, 1)]


def _words(host: str) -> tuple[int, ...]:
    return struct.unpack(">4I", packed(host))
