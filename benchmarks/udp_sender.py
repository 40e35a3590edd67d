"""Devices that send raw frames at a rate, whatever becomes of them, for as little processor time as the kernel allows: what
they take, the server on the same cores does not have. Linux only.

``python -m benchmarks.udp_sender HOST PORT BUNDLE DEVICES RATE SECONDS``. Prints a line when it is ready, begins when it
reads one, and at the end prints the number of frames sent, and the seconds of processor time that took, as JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numba import njit

from benchmarks.udp_devices import DONT_WAIT, send
from semantic_codec.bundle import Bundle, load_bundle
from semantic_codec.frame import encode_frame
from semantic_codec.header import Header

SEQUENCES = 2048  # of each device, sent round and round: fewer would come again as duplicates
CHUNK = 32  # frames of one device in a call: the kernel cuts them apart (UDP_SEGMENT of udp(7))
UDP_SEGMENT = 103
PAUSE_S = 0.001


def run(address: tuple[str, int], frames: np.ndarray, rate: float, seconds: float) -> int:
    """Send frames, uint8 (devices, frames, bytes), for so long; how many the kernel took."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in frames]
        for sock in sockets:
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, frames.shape[2])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # replies are for nobody
            sock.connect(address)
        descriptors = np.array([sock.fileno() for sock in sockets])
        _send_chunks(descriptors, frames, 0, 0)  # compiles it
        started, turn, sent = time.monotonic(), 0, 0
        while (now := time.monotonic() - started) < seconds:
            due = int(now * rate / CHUNK) - turn
            sent += _send_chunks(descriptors, frames, turn, due)
            turn += due
            select.select([], [], [], PAUSE_S)
    return sent


@njit(nogil=True)
def _send_chunks(descriptors, frames, turn, count):
    """Chunks from number ``turn`` on, each from the next device; frames that the kernel took: what it has no room for is
    lost."""
    devices, length, size = frames.shape
    sent = 0
    for chunk in range(turn, turn + count):
        device, first = chunk % devices, chunk // devices * CHUNK % length
        sent += max(0, send(descriptors[device], frames[device, first].ctypes.data, size * CHUNK, DONT_WAIT)) // size
    return sent


def encode_frames(bundle: Bundle, devices: range, count: int) -> np.ndarray:
    """uint8 (devices, frames, bytes): random bits of the longest level, from sequence 1 on: 0 would be a restart."""
    rng, level = np.random.default_rng(0), bundle.manifest.levels[-1]
    frames = [
        encode_frame(
            Header(bundle.manifest.codec_id, level.number, device, sequence),
            rng.bytes(level.payload_bytes),
            bundle.encoder_hash,
        )
        for device in devices
        for sequence in range(1, 1 + count)
    ]
    return np.frombuffer(b"".join(frames), np.uint8).reshape(len(devices), count, -1)


def main(argv: Sequence[str] | None = None) -> int:
    host, port, bundle, devices, rate, seconds = sys.argv[1:] if argv is None else argv
    frames = encode_frames(load_bundle(Path(bundle)), range(1, 1 + int(devices)), SEQUENCES)
    print("ready", flush=True)
    sys.stdin.readline()
    used = time.process_time()
    sent = run((host, int(port)), frames, float(rate), float(seconds))
    print(json.dumps({"sent": sent, "used_s": time.process_time() - used}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
