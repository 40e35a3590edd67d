"""Random datagrams at a rate, with as little processor time as Python needs: many per system call. Linux only.

``python -m benchmarks.flooder HOST PORT RATE KIND``, KIND one of `KINDS`, until SIGTERM. Prints a line when it begins,
and at the end the number sent, the seconds that took, and those of processor time.
"""

from __future__ import annotations

import ctypes
import itertools
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from semantic_codec.errors import ConfigError

BATCH = 50  # datagrams per call
LENGTHS = (20, 60)  # bytes, as frames have them
MANY = 512
KINDS = {
    "one sender": [("127.0.0.2", 1)],
    "one sender at the devices' address": [("127.0.0.1", 1)],
    "many ports of one address": [("127.0.0.2", MANY)],
    "many addresses": [(f"127.9.{number >> 8}.{number & 255}", 1) for number in range(MANY)],
}
"""Name -> source addresses, and how many ports of each; loopback has them all."""


class _Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.POINTER(_Part)),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    """struct mmsghdr of sendmmsg(2)."""

    _fields_ = [("header", _Header), ("sent", ctypes.c_uint)]


class Noise:
    """A batch of random datagrams, ready to be sent; never changed, since nobody who is flooded looks at it twice."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self._data = [rng.bytes(int(size)) for size in rng.integers(*LENGTHS, BATCH)]
        self._parts = (_Part * BATCH)(
            *(_Part(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data)) for data in self._data)
        )
        self._messages = (_Message * BATCH)()
        for message, part in zip(self._messages, self._parts, strict=True):
            message.header.parts, message.header.part_count = ctypes.pointer(part), 1
        self._send = ctypes.CDLL(None, use_errno=True).sendmmsg

    def send(self, sock: socket.socket) -> int:
        """How many of the batch the kernel took."""
        return max(0, self._send(sock.fileno(), self._messages, BATCH, socket.MSG_DONTWAIT))


def open_sockets(target: tuple[str, int], sources: Sequence[tuple[str, int]]) -> list[socket.socket]:
    """Connected sockets of these addresses, so many of each."""
    sockets = []
    for host in (host for host, count in sources for _ in range(count)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.connect(target)
        sockets.append(sock)
    return sockets


def flood(target: tuple[str, int], rate: float, kind: str) -> Iterator[int]:
    """Sends a batch whenever one is due, and yields what was sent. A sender that falls behind does not catch up: the
    rate is one that was never exceeded."""
    noise, sockets = Noise(0), itertools.cycle(open_sockets(target, KINDS[kind]))
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
        due = max(due + BATCH / rate, now - BATCH / rate)
        yield noise.send(next(sockets))


def main(argv: Sequence[str] | None = None) -> int:
    host, port, rate, kind = sys.argv[1:] if argv is None else argv
    if kind not in KINDS:
        raise ConfigError(f"the flood is {kind!r}", allowed=", ".join(KINDS), fix="choose one of them")
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    print("sending", flush=True)
    sent, started = 0, time.monotonic()
    for taken in flood((host, int(port)), float(rate), kind):
        sent += taken
        if stopped:
            break
    print(sent, time.monotonic() - started, time.process_time())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
