"""Clients that do little, for loads that h2load cannot make: requests at given times, and streams.

A client keeps its requests as bytes and looks at an answer only as far as its end.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from benchmarks.h2load import Load
from edge_server.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    LARGEST_WINDOW,
    PING,
    PREFACE,
    SETTINGS,
    frame,
    window_update,
)
from edge_server.http2.headers import write_headers

WAIT_S = 1.0
"""For an answer, before the time is looked at again."""
_INITIAL_WINDOW = struct.pack(">HI", 4, LARGEST_WINDOW)


class Client(Protocol):
    sock: socket.socket
    width: int
    """Requests that may be under way at once."""
    failed: int
    """Answers so far that were none."""

    def send(self) -> None:
        """One request; it may wait for :meth:`flush`."""

    def flush(self) -> None:
        """Let everything go that was sent."""

    def received(self) -> int:
        """How many answers came to their end; call when there is something to read."""


class Http1Client:
    """One request at a time on a connection that is kept open."""

    width = 1

    def __init__(self, address: tuple[str, int], path: str, body: bytes):
        self.sock, self.failed, self.body_bytes = _connect(address), 0, 0
        head = f"POST {path} HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request, self._held = head.encode() + body, b""

    def send(self) -> None:
        self.sock.sendall(self._request)

    def flush(self) -> None:
        pass

    def received(self) -> int:
        self._held += self.sock.recv(65_536)
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found or not self._is_whole(head.lower(), body):
            return 0
        self.failed += not head.startswith(b"HTTP/1.1 200")
        self.body_bytes += len(body)
        self._held = b""
        return 1

    def _is_whole(self, head: bytes, body: bytes) -> bool:
        if b"transfer-encoding: chunked" in head:
            return body.endswith(b"0\r\n\r\n")
        return len(body) == int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])


class GrpcClient:
    """One call at a time on a connection that is kept open; or, with ``width``, the messages of one streaming call."""

    def __init__(self, address: tuple[str, int], path: str, messages: Iterator[bytes], width: int | None = None):
        self.sock, self.width = _connect(address), width or 1
        self._streams = width is not None
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "edge")]
        self._head = write_headers([*headers, ("content-type", "application/grpc"), ("te", "trailers")])
        self._messages = messages
        self._stream, self._held = -1, b""
        self._unsent: list[bytes] = []
        self._part = b""  # of a stream's answer
        self._answered, self.failed, self.body_bytes = False, 0, 0
        self.sock.sendall(PREFACE + frame(SETTINGS, 0, 0, _INITIAL_WINDOW) + window_update(0, LARGEST_WINDOW - 65_535))
        if self._streams:
            self._stream = 1
            self.sock.sendall(frame(HEADERS, END_HEADERS, 1, self._head))

    def send(self) -> None:
        message = next(self._messages)
        message = struct.pack(">BI", 0, len(message)) + message
        if self._streams:
            self._unsent.append(frame(DATA, 0, 1, message))
            return
        self._stream += 2
        head = frame(HEADERS, END_HEADERS, self._stream, self._head)
        self.sock.sendall(head + frame(DATA, END_STREAM, self._stream, message))

    def flush(self) -> None:
        """A stream's messages leave together, as gRPC's own clients have it."""
        if self._unsent:
            self.sock.sendall(b"".join(self._unsent))
            self._unsent.clear()

    def received(self) -> int:
        data, place, ended = self._held + self.sock.recv(262_144), 0, 0
        while len(data) - place >= HEAD.size:
            high, low, kind, flags, _ = HEAD.unpack_from(data, place)
            begin = place + HEAD.size
            end = begin + (high << 8 | low)
            if end > len(data):
                break
            if kind == DATA:
                self._answered = True
                self.body_bytes += end - begin
                ended += self._streams and self._answers(data[begin:end])
            elif kind == HEADERS and flags & END_STREAM:
                if self._streams:
                    raise ConnectionError("the server ended the stream")
                self.failed += not self._answered
                self._answered = False
                ended += 1
            elif kind in (SETTINGS, PING) and not flags & ACK:
                self.sock.sendall(frame(kind, ACK, 0, data[begin:end] if kind == PING else b""))
            place = end
        self._held = data[place:]
        return ended

    def _answers(self, data: bytes) -> int:
        """How many of a stream's messages end in this frame's data."""
        data, place, ended = self._part + data, 0, 0
        while len(data) - place >= 5 and (end := place + 5 + int.from_bytes(data[place + 1 : place + 5])) <= len(data):
            place = end
            ended += 1
        self._part = data[place:]
        return ended


def run(
    clients: Sequence[Client], seconds: float, warm_up_s: float, rate: float | None = None, seed: int = 0
) -> Load:
    """rate None: every client asks again as soon as it is answered. Else requests per second at random (Poisson) times,
    each by the client that is free for longest; where none is, the request waits, and its latency counts from the time
    at which it should have been sent. What has no answer at the end counts with the time that it waited, and as
    unanswered."""
    start, used = time.perf_counter(), time.process_time()
    begin, end = start + warm_up_s, start + warm_up_s + seconds
    by_descriptor = {client.sock.fileno(): client for client in clients}
    under_way: dict[Client, deque[float]] = {client: deque() for client in clients}
    poll = select.epoll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    latencies: list[float] = []
    answered = 0
    arrivals = _arrivals(start, end, rate, seed)
    sending: dict[Client, None] = {}
    free = deque(client for client in clients for _ in range(client.width))
    due = next(arrivals, np.inf)

    while (now := time.perf_counter()) < end:
        while free and (rate is None or due <= now):
            client = free.popleft()
            under_way[client].append(now if rate is None else due)
            client.send()
            sending[client] = None
            if rate is not None:
                due = next(arrivals, np.inf)
        for client in sending:
            client.flush()
        sending.clear()
        wait = WAIT_S if rate is None or not free else min(WAIT_S, max(0.0, due - time.perf_counter()))
        if not select.select([poll.fileno()], [], [], wait)[0]:
            events = []
        else:
            events = poll.poll(0)
        now = time.perf_counter()
        for descriptor, _ in events:
            client = by_descriptor[descriptor]
            failed, ended = client.failed, client.received()
            if now >= begin:
                answered += ended - (client.failed - failed)
            for _ in range(ended):
                sent = under_way[client].popleft()
                if (now if rate is None else sent) >= begin:
                    latencies.append(now - sent)
                free.append(client)
    poll.close()
    used = time.process_time() - used
    waiting: list[float] = []
    if rate is not None:  # it has waited at least so long
        waiting = [end - sent for times in under_way.values() for sent in times if sent >= begin]
        waiting += [end - sent for sent in (due, *arrivals) if begin <= sent < end]
    failed = sum(client.failed for client in clients)
    cpu_share = used / (time.perf_counter() - start)
    return Load(answered / seconds, np.array(latencies + waiting), cpu_share, failed, len(waiting))


def _arrivals(start: float, end: float, rate: float | None, seed: int) -> Iterator[float]:
    if rate is None:
        return iter(())
    gaps = np.random.default_rng(seed).exponential(1 / rate, int((end - start) * rate * 1.2) + 100)
    times = start + np.cumsum(gaps)
    return iter(times[times < end].tolist())


def _connect(address: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(address, timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
