"""Many datagrams of a UDP socket at a time: by recvmmsg(2) and sendmmsg(2), or one by one where there are none."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

BATCH = 256
FEW = 3  # replies that are sent as fast one by one
NAME_BYTES = 28  # struct sockaddr_in6, the longest
_IPV4 = struct.Struct("!2xH4s8x")
_IPV6 = struct.Struct("!2xHL16s")
_FAMILY = struct.Struct("=H")
_SCOPE = struct.Struct("=L")
# struct mmsghdr of Linux on 64 bits.
_HEADER = np.dtype(
    [
        ("name", "u8"), ("name_bytes", "u4"), ("", "u4"), ("parts", "u8"), ("part_count", "u8"), ("control", "u8"),
        ("control_bytes", "u8"), ("flags", "i4"), ("", "u4"), ("bytes", "u4"), ("", "u4"),
    ]
)  # fmt: skip
log = logging.getLogger(__name__)
Address = tuple[Any, ...]
"""As Python's sockets have it: host and port, of IPv6 also flow and scope."""


class Datagrams:
    """What comes and goes through ``sock``, which is bound and does not block. ``batches`` False: one by one."""

    def __init__(self, sock: socket.socket, batches: bool = True):
        self._sock = sock
        self._library = _library() if batches else None
        self._width = 0
        if self._library is not None:
            self._sent = _Messages()
            self._sent.headers["name_bytes"] = 16 if sock.family == socket.AF_INET else NAME_BYTES

    def receive(self, most_bytes: int, most: int = BATCH) -> list[tuple[bytes, Address]]:
        """The next datagrams with their senders, up to ``most``, :data:`BATCH` at most, in the order of their arrival; of
        a longer one the first ``most_bytes``."""
        if self._library is None:
            return self._receive_singly(most_bytes, most)
        if most_bytes != self._width:
            self._width, self._received = most_bytes, _Messages()
            self._buffer = np.zeros((BATCH, most_bytes), np.uint8)
            self._received.parts["base"] = self._buffer.ctypes.data + np.arange(BATCH, dtype=np.uint64) * most_bytes
            self._received.parts["bytes"] = most_bytes
            self._received.headers["name_bytes"] = NAME_BYTES
        headers = self._received.headers
        count = self._library.recvmmsg(self._sock.fileno(), self._received.address, most, socket.MSG_DONTWAIT, None)
        if count <= 0:
            _told(ctypes.get_errno())
            return []
        data, names = self._buffer[:count].tobytes(), self._received.names[:count].tobytes()
        lengths = headers["bytes"][:count].tolist()
        headers["name_bytes"][:count] = NAME_BYTES
        return [
            (data[at : at + length], _shown(names[name : name + NAME_BYTES]))
            for at, name, length in zip(range(0, len(data), most_bytes), range(0, len(names), NAME_BYTES), lengths)
        ]

    def send(self, replies: Sequence[tuple[bytes, Address]]) -> int:
        """How many of these are dealt with: sent, or lost as datagrams may be. For the others there is no room yet."""
        if self._library is None or len(replies) <= FEW:
            return self._send_singly(replies)
        done = 0
        while done < len(replies):
            part = replies[done : done + BATCH]
            self._write(part)
            left = len(part)
            while left:
                first = self._sent.address + (len(part) - left) * _HEADER.itemsize
                count = self._library.sendmmsg(self._sock.fileno(), first, left, socket.MSG_DONTWAIT)
                if count < 0 and not _told(ctypes.get_errno()):
                    return done
                count = max(count, 1)  # else the first could not be sent, for a reason of its own
                left, done = left - count, done + count
        return done

    def _write(self, replies: Sequence[tuple[bytes, Address]]) -> None:
        sent, count = self._sent, len(replies)
        datas, addresses = zip(*replies)
        self._data = np.frombuffer(b"".join(datas), np.uint8)  # has to outlive the call
        lengths = np.array(list(map(len, datas)), np.uint64)
        sent.parts["base"][:count] = self._data.ctypes.data + np.cumsum(lengths) - lengths
        sent.parts["bytes"][:count] = lengths
        sent.names[:count] = np.frombuffer(b"".join(map(_packed, addresses)), np.uint8).reshape(count, NAME_BYTES)

    def _receive_singly(self, most_bytes: int, most: int) -> list[tuple[bytes, Address]]:
        received: list[tuple[bytes, Address]] = []
        try:
            while len(received) < most:
                received.append(self._sock.recvfrom(most_bytes))
        except OSError as error:
            _told(error.errno)
        return received

    def _send_singly(self, replies: Sequence[tuple[bytes, Address]]) -> int:
        for done, (data, address) in enumerate(replies):
            try:
                self._sock.sendto(data, address)
            except OSError as error:
                if not _told(error.errno):
                    return done
        return len(replies)


class _Messages:
    """Headers of :data:`BATCH` datagrams of one part each, and the memory that they point to."""

    def __init__(self) -> None:
        self.names = np.zeros((BATCH, NAME_BYTES), np.uint8)
        self.parts = np.zeros(BATCH, np.dtype([("base", "u8"), ("bytes", "u8")]))
        self.headers = np.zeros(BATCH, _HEADER)
        self.address = self.headers.ctypes.data
        places = np.arange(BATCH, dtype=np.uint64)
        self.headers["name"] = self.names.ctypes.data + places * NAME_BYTES
        self.headers["parts"] = self.parts.ctypes.data + places * self.parts.itemsize
        self.headers["part_count"] = 1


def _library() -> ctypes.CDLL | None:
    """The C library, where it has both calls and their structures are those above."""
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    try:
        receive, send = library.recvmmsg, library.sendmmsg
    except AttributeError:
        return None
    receive.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
    send.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    return library


def _told(number: int | None) -> bool:
    """Whether an error concerns one datagram only: its loss, nobody else's. Else it is to be tried again."""
    if number in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR):
        return False
    log.debug("UDP: %s", os.strerror(number or 0))
    return True


@lru_cache(maxsize=8192)
def _shown(name: bytes) -> Address:
    """The address in a struct sockaddr of :data:`NAME_BYTES`."""
    (family,) = _FAMILY.unpack_from(name)
    if family == socket.AF_INET:
        port, host = _IPV4.unpack_from(name)
        return socket.inet_ntop(socket.AF_INET, host), port
    port, flow, host = _IPV6.unpack_from(name)
    return socket.inet_ntop(socket.AF_INET6, host), port, flow, *_SCOPE.unpack_from(name, _IPV6.size)


@lru_cache(maxsize=8192)
def _packed(address: Address) -> bytes:
    """What :func:`_shown` shows."""
    host, port, *rest = address
    if not rest:
        packed = _FAMILY.pack(socket.AF_INET) + _IPV4.pack(port, socket.inet_pton(socket.AF_INET, host))[2:]
        return packed.ljust(NAME_BYTES, b"\0")
    flow, scope = rest
    packed = _FAMILY.pack(socket.AF_INET6) + _IPV6.pack(port, flow, socket.inet_pton(socket.AF_INET6, host))[2:]
    return packed + _SCOPE.pack(scope)
