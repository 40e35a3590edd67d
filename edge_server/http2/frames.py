"""Frames of HTTP/2 and the reasons why streams and connections end (RFC 9113, 4, 6 and 7)."""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = struct.Struct(">HBBBI")
"""High and low part of the length, kind, flags, stream."""
LARGEST_FRAME = 16_384
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = (1 << 31) - 1
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 3, 4, 5, 6


class Code(IntEnum):
    """Why a stream or connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFailed(Exception):
    """The peer broke the protocol, or a limit: the connection ends with this code."""

    def __init__(self, code: Code):
        super().__init__(code.name)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = len(payload)
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def header_frames(stream: int, block: bytes, end_stream: int = 0) -> bytes:
    """A header block, in as many frames as it takes. end_stream: 0 or END_STREAM."""
    if len(block) <= LARGEST_FRAME:
        return frame(HEADERS, END_HEADERS | end_stream, stream, block)
    parts = [block[start : start + LARGEST_FRAME] for start in range(0, len(block), LARGEST_FRAME)]
    frames = [frame(HEADERS, end_stream, stream, parts[0])]
    frames += [frame(CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    return b"".join(frames) + frame(CONTINUATION, END_HEADERS, stream, parts[-1])


def window_update(stream: int, count: int) -> bytes:
    """stream 0: of the connection."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", count))


def unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFailed(Code.PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]
