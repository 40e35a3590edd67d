"""What ``weaklink bench overload`` sends through each door: as many requests under way as wanted, or frames at a rate.

Callers of gRPC and HTTP, refused or answered, ask again at once: with several times as many of them as the queue has places,
it stays full. A device that sends frames waits for nobody, so there it is the rate that is several times the capacity.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

from benchmarks import clients, h2load, udp_devices
from benchmarks.serving_servers import ROOT, Question, Server, questions
from benchmarks.udp_sender import encode_frames
from semantic_codec.bundle import Bundle

CONNECTIONS = 16  # of gRPC, whose calls share them
FRAMES = 150  # of each of those devices that wait for answers, until they begin again: fewer would be duplicates


class Load(Protocol):
    """Callers of one door."""

    protocol: str
    """As the metrics name it."""

    def keep_under_way(self, count: int, seconds: float) -> float:
        """So many requests at a time, each followed by the next; returns the processor time that took, in seconds."""


class H2Load:
    """Single calls: over HTTP/1.1 one on each connection, over gRPC spread over :data:`CONNECTIONS`."""

    def __init__(self, question: Question):
        self.protocol, self._question = question.protocol, question

    def keep_under_way(self, count: int, seconds: float) -> float:
        question = self._question
        connections = CONNECTIONS if question.is_grpc else count
        used = h2load.children_s()
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder, "body")
            data.write_bytes(question.framed)
            command = h2load.command(question.url, data, question.is_grpc, connections, count // connections, seconds)
            subprocess.run(command, capture_output=True, check=True)
        return h2load.children_s() - used


class Streams:
    """Messages of InferStream, on :data:`CONNECTIONS` streams."""

    protocol = "grpc"

    def __init__(self, question: Question):
        self._path, self._body, self._address = f"{question.path}Stream", question.body, ("127.0.0.1", question.port)

    def keep_under_way(self, count: int, seconds: float) -> float:
        with ExitStack() as opened:
            callers = [
                clients.GrpcClient(self._address, self._path, itertools.repeat(self._body), width=count // CONNECTIONS)
                for _ in range(CONNECTIONS)
            ]
            for caller in callers:
                opened.enter_context(closing(caller.sock))
            return clients.run(callers, seconds, 0).cpu_share * seconds


class Frames:
    """Raw frames of devices with a socket each: ``devices`` that flood, and up to ``most`` that wait for answers."""

    protocol = "udp"

    def __init__(self, bundle: Bundle, port: int, devices: int, most: int):
        self._bundle, self._address, self._devices = bundle, ("127.0.0.1", port), devices
        # Others than those that flood, whose numbers the edge has seen.
        self._frames = encode_frames(bundle, range(1 + devices, 1 + devices + most), FRAMES)
        udp_devices.run(self._address, self._frames, 0.1, 0)  # compiles it

    def keep_under_way(self, count: int, seconds: float) -> float:
        return udp_devices.run(self._address, self._frames[:count], seconds, 0).cpu_share * seconds

    def flood(self, rate: float, seconds: float, port: int | None = None) -> subprocess.Popen:
        """A process of its own that sends so many frames a second, here or to another port."""
        target = self._address[0], port or self._address[1]
        arguments = (*target, self._bundle.folder, self._devices, rate, seconds)
        command = [sys.executable, "-m", "benchmarks.udp_sender", *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        process.stdout.readline()
        return process


def flooded(process: subprocess.Popen) -> dict[str, float]:
    """What a flood was in the end: the frames ``sent``, and its processor time ``used_s``."""
    with process:
        return json.loads(process.communicate()[0])


def open_load(door: str, server: Server, bundle: Bundle, devices: int, most: int) -> Load:
    if door == "udp":
        return Frames(bundle, server.ports["udp"], devices, most)
    grpc, http = questions(server, bundle)
    return {"grpc": H2Load(grpc), "stream": Streams(grpc), "http": H2Load(http)}[door]
