"""Has the kernel drop what floods a socket, before it takes the buffer's room or a moment of ours. Linux and IPv4 only;
elsewhere nothing is blocked and nothing counted."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

MOST_RULES = 64
MOST_PORTS = 512  # of all rules together: the program has to fit net.core.optmem_max
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_MEMINFO = 26, 27, 55
_MEMINFO = struct.Struct("9I")  # the last is the number of datagrams dropped: no room, or filtered
_SOURCE_ADDRESS = 0xFFF00000 + 12  # SKF_NET_OFF: from the IPv4 header on
_SOURCE_PORT = 0  # what the program sees starts with the UDP header
_LOAD_WORD, _LOAD_HALF, _JUMP, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x05, 0x15, 0x06
_PASS, _DROP = 0xFFFFFFFF, 0
_INSTRUCTION = struct.Struct("HBBI")
Instruction = tuple[int, int, int, int]


@dataclass(frozen=True)
class Rule:
    """What to drop of an IPv4 host: what comes from these ports, or ``besides`` them everything."""

    host: str
    ports: tuple[int, ...]
    besides: bool


class KernelFilter:
    """A classic BPF program on a bound UDP socket; see socket(7), SO_ATTACH_FILTER. It needs no privilege."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._works = sys.platform == "linux" and sock.family == socket.AF_INET
        self._dropped = self._counter()

    def block(self, rules: Sequence[Rule]) -> None:
        """Follow these rules, one for each host, in place of those before; the first that there is room for."""
        if not self._works:
            return
        # A kernel that refuses leaves it to us to drop the frames.
        with contextlib.suppress(OSError):
            if rules:
                self._attach(_program(rules))
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


def _program(rules: Sequence[Rule]) -> list[Instruction]:
    """Load the source address; a section for each rule, skipped by other hosts; pass what met none."""
    program, room = [(_LOAD_WORD, 0, 0, _SOURCE_ADDRESS)], MOST_PORTS
    for rule in rules[:MOST_RULES]:
        ports = rule.ports[:room]
        room -= len(ports)
        section = [(_LOAD_HALF, 0, 0, _SOURCE_PORT)]
        for port in ports:
            section += [(_JUMP_EQUAL, 0, 1, port), (_RETURN, 0, 0, _PASS if rule.besides else _DROP)]
        section.append((_RETURN, 0, 0, _DROP if rule.besides else _PASS))
        # A conditional jump reaches 255 instructions only.
        program += [(_JUMP_EQUAL, 1, 0, int(ipaddress.IPv4Address(rule.host))), (_JUMP, 0, 0, len(section)), *section]
    return [*program, (_RETURN, 0, 0, _PASS)]
