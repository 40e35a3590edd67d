"""Has the kernel drop what floods a socket, before it takes the buffer's room or a moment of ours. Linux and IPv4 only;
elsewhere nothing is blocked and nothing counted."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice

MOST_PORTS = 512  # of all rules together: the program has to fit net.core.optmem_max
SAMPLED = 32  # one in so many is let through of what is sampled
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_MEMINFO = 26, 27, 55
_MEMINFO = struct.Struct("9I")  # the last is the number of datagrams dropped: no room, or filtered
_SOURCE_ADDRESS = 0xFFF00000 + 12  # SKF_NET_OFF: from the IPv4 header on
_SOURCE_PORT = 0  # what the program sees starts with the UDP header
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_LOAD_WORD, _LOAD_HALF, _JUMP, _JUMP_EQUAL, _JUMP_NOT_LESS, _RETURN = 0x20, 0x28, 0x05, 0x15, 0x35, 0x06
_INSTRUCTION = struct.Struct("HBBI")
Instruction = tuple[int, int, int, int]


class Verdict(Enum):
    """What becomes of a datagram. SAMPLE: one in `SAMPLED` passes, by chance."""

    PASS = "pass"
    DROP = "drop"
    SAMPLE = "sample"


@dataclass
class Rule:
    """Of an IPv4 host: the verdict on each of these ports, and on all others."""

    ports: dict[int, Verdict]
    others: Verdict


class KernelFilter:
    """A classic BPF program on a bound UDP socket; see socket(7), SO_ATTACH_FILTER. It needs no privilege."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._works = sys.platform == "linux" and sock.family == socket.AF_INET
        self._dropped = self._counter()

    def follow(self, rules: Mapping[str, Rule], others: Verdict = Verdict.PASS) -> None:
        """Rules by host, the most important first, in place of those before: as many as there is room for.
        ``others``: on all other hosts."""
        if not self._works:
            return
        # A kernel that refuses leaves it to us to drop the frames.
        with contextlib.suppress(OSError):
            if rules or others is not Verdict.PASS:
                self._attach(_program(rules, others))
            else:
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

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


def _program(rules: Mapping[str, Rule], others: Verdict) -> list[Instruction]:
    """Load the source address; a section for each rule, skipped by other hosts; then what is for all of these."""
    program, room = [(_LOAD_WORD, 0, 0, _SOURCE_ADDRESS)], MOST_PORTS
    for host, rule in rules.items():
        if room < 1:
            break
        ports = list(islice(rule.ports.items(), room))
        room -= max(1, len(ports))
        section = [(_LOAD_HALF, 0, 0, _SOURCE_PORT)]
        for port, verdict in ports:
            ending = _ending(verdict)
            section += [(_JUMP_EQUAL, 0, len(ending), port), *ending]
        section += _ending(rule.others)
        # A conditional jump reaches 255 instructions only.
        program += [(_JUMP_EQUAL, 1, 0, int(ipaddress.IPv4Address(host))), (_JUMP, 0, 0, len(section)), *section]
    return [*program, *_ending(others)]


def _ending(verdict: Verdict) -> list[Instruction]:
    passed, dropped = (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)
    if verdict is Verdict.SAMPLE:
        return [(_LOAD_WORD, 0, 0, _RANDOM), (_JUMP_NOT_LESS, 0, 1, 2**32 // SAMPLED), dropped, passed]
    return [passed if verdict is Verdict.PASS else dropped]
