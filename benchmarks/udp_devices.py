"""Devices that send raw frames, each from a socket of its own with one frame under way, in a compiled loop: what it costs
is nearly all the kernel's, so that the server has the cores."""

from __future__ import annotations

import ctypes
import platform
import select
import socket
import time
from contextlib import ExitStack, closing

import numpy as np
from numba import njit

from benchmarks.h2load import Load

LOST_S = 1.0
"""A frame that has no reply by then has none, and the device sends its next one."""
MOST_RATE = 200_000  # replies per second that there is room to remember
_POLL_MS = 100
# struct epoll_event is packed on x86-64 only.
_EVENT_BYTES, _DATA_AT = (12, 4) if platform.machine() == "x86_64" else (16, 8)
_library = ctypes.CDLL(None)
send, _recv, _wait, _clock = _library.send, _library.recv, _library.epoll_wait, _library.clock_gettime
send.argtypes = _recv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
send.restype = _recv.restype = ctypes.c_ssize_t
_wait.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
_clock.argtypes = [ctypes.c_int, ctypes.c_void_p]
_MONOTONIC, DONT_WAIT = time.CLOCK_MONOTONIC, socket.MSG_DONTWAIT


def run(address: tuple[str, int], frames: np.ndarray, seconds: float, warm_up_s: float) -> Load:
    """frames: uint8 (devices, frames, bytes), those of each device in its order, and again from the first."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in frames]
        poll = opened.enter_context(closing(select.epoll()))
        for sock in sockets:
            sock.connect(address)
            poll.register(sock.fileno(), select.EPOLLIN)
        descriptors = np.array([sock.fileno() for sock in sockets])
        latencies = np.empty(int(MOST_RATE * seconds), np.int64)
        _exchange(poll.fileno(), descriptors, frames, 0, 0, latencies)  # compiles it
        start, used = time.monotonic_ns(), time.process_time()
        begin = start + int(warm_up_s * 1e9)
        end = begin + int(seconds * 1e9)
        answered, lost = _exchange(poll.fileno(), descriptors, frames, begin, end, latencies)
        used, wall = time.process_time() - used, (time.monotonic_ns() - start) / 1e9
    return Load(answered / seconds, latencies[:answered] / 1e9, used / wall, lost)


@njit(nogil=True)
def _now(spec):
    _clock(_MONOTONIC, spec.ctypes.data)
    return spec[0] * 1_000_000_000 + spec[1]


@njit(nogil=True)
def _exchange(poll, descriptors, frames, begin, end, latencies):
    """Replies within [begin, end) on the monotonic clock, nanoseconds, and frames lost; fills latencies, nanoseconds."""
    devices, count, size = frames.shape
    device_of = np.zeros(descriptors.max() + 1, np.int64)
    sent, following = np.zeros(devices, np.int64), np.zeros(devices, np.int64)
    events, reply, spec = np.zeros(devices * _EVENT_BYTES, np.uint8), np.zeros(2048, np.uint8), np.zeros(2, np.int64)
    answered = lost = 0
    now = looked = _now(spec)
    for device in range(devices):
        device_of[descriptors[device]] = device
    while now < end:
        if now - looked > LOST_S * 1e9 or now == looked:
            for device in range(devices):
                if now - sent[device] > LOST_S * 1e9:
                    lost += sent[device] > 0
                    sent[device] = _now(spec)
                    send(descriptors[device], frames[device, following[device]].ctypes.data, size, 0)
                    following[device] = (following[device] + 1) % count
            looked = now
        ready = _wait(poll, events.ctypes.data, devices, _POLL_MS)
        for place in range(ready):
            at = place * _EVENT_BYTES + _DATA_AT
            descriptor = np.int64(events[at]) | np.int64(events[at + 1]) << 8 | np.int64(events[at + 2]) << 16
            device = device_of[descriptor]
            if _recv(descriptor, reply.ctypes.data, len(reply), DONT_WAIT) < 0:
                continue
            now = _now(spec)
            if begin <= now < end and answered < len(latencies):
                latencies[answered] = now - sent[device]
                answered += 1
            sent[device] = now
            send(descriptor, frames[device, following[device]].ctypes.data, size, 0)
            following[device] = (following[device] + 1) % count
        now = _now(spec)
    return answered, lost
