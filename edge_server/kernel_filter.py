"""Has the kernel drop what floods a socket, before it takes the buffer's room or a moment of ours. Linux and IPv4 only;
elsewhere nothing is blocked and nothing counted."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
import sys
from collections.abc import Collection

MOST_BLOCKED = 64
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_MEMINFO = 26, 27, 55
_MEMINFO = struct.Struct("9I")  # the last is the number of datagrams dropped: no room, or filtered
_SOURCE_ADDRESS = 0xFFF00000 + 12  # SKF_NET_OFF: from the IPv4 header on
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_INSTRUCTION = struct.Struct("HBBI")


class KernelFilter:
    """A classic BPF program on a bound UDP socket; see socket(7), SO_ATTACH_FILTER. It needs no privilege."""

    def __init__(self, sock: socket.socket):
        self._sock = sock
        self._works = sys.platform == "linux" and sock.family == socket.AF_INET
        self._dropped = self._counter()

    def block(self, addresses: Collection[str]) -> None:
        """Drop what comes from these IPv4 addresses, in place of those before; the first :data:`MOST_BLOCKED` of them."""
        if not self._works:
            return
        # A kernel that refuses leaves it to us to drop the frames.
        with contextlib.suppress(OSError):
            if addresses:
                self._attach(_program(list(addresses)[:MOST_BLOCKED]))
            else:
                self._sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def dropped(self) -> int:
        """Datagrams that the kernel dropped since the last call, blocked ones and those that found no room."""
        before, self._dropped = self._dropped, self._counter()
        return (self._dropped - before) % 2**32

    def _attach(self, program: bytes) -> None:
        held = ctypes.create_string_buffer(program, len(program))
        count = len(program) // _INSTRUCTION.size
        self._sock.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", count, ctypes.addressof(held))
        )

    def _counter(self) -> int:
        if self._works:
            with contextlib.suppress(OSError):
                return _MEMINFO.unpack(self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[-1]
        return 0


def _program(addresses: list[str]) -> bytes:
    """Load the source address, compare it with each, pass what is none of them."""
    count = len(addresses)
    compare = [
        (_JUMP_EQUAL, count - index, 0, int(ipaddress.IPv4Address(address))) for index, address in enumerate(addresses)
    ]
    instructions = [(_LOAD_WORD, 0, 0, _SOURCE_ADDRESS), *compare, (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)
