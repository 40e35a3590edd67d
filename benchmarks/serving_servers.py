"""The servers of ``weaklink bench serving``: how each is started, asked, and stopped."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.clients import GrpcClient, Http1Client
from semantic_codec.bundle import Bundle
from semantic_codec.errors import ConfigError
from weaklink.v1 import edge_pb2

ROOT = Path(__file__).parents[1]
START_S = 180.0
STOP_S = 30.0
BER = 0.01
OWN = ("weaklink", "echo")
"""Speak our protocols; a row for each."""
RIVALS = ("litserve", "ray serve", "bentoml", "triton")
_RIVAL_COMMANDS = {
    "litserve": ["-m", "benchmarks.model_servers.litserve_app"],
    "ray serve": ["-m", "benchmarks.model_servers.ray_app"],
    "bentoml": ["-m", "bentoml", "serve", "benchmarks.model_servers.bentoml_app:HostedEngine", "--host", "127.0.0.1", "--port"],
    "triton": ["-m", "benchmarks.model_servers.triton_app"],
}
# What their documentation says to set for throughput.
_RIVAL_ENVIRONMENT = {
    "ray serve": {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    },
    "bentoml": {"BENTOML_DO_NOT_TRACK": "1"},
}


@dataclass(frozen=True)
class Question:
    """One request as bytes. ``path``: of the URL, or the full method; ``body``: of HTTP, or the gRPC message."""

    protocol: str
    path: str
    body: bytes
    port: int

    @property
    def is_grpc(self) -> bool:
        return self.protocol == "grpc"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    @property
    def framed(self) -> bytes:
        """What h2load sends."""
        return struct.pack(">BI", 0, len(self.body)) + self.body if self.is_grpc else self.body

    def client(self) -> GrpcClient | Http1Client:
        address = ("127.0.0.1", self.port)
        if self.is_grpc:
            return GrpcClient(address, self.path, itertools.repeat(self.body))
        return Http1Client(address, self.path, self.body)


@dataclass
class Server:
    """A running server. ``ports``: by the names of its doors."""

    name: str
    process: subprocess.Popen
    ports: dict[str, int] = field(default_factory=dict)

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_weaklink(codecs: list[Bundle], engines: int, threads: int, log: Path, **settings: Any) -> Server:
    """``weaklink serve`` as it is by default, but for the engines, their threads, and ``settings``."""
    roots = os.pathsep.join(sorted({str(bundle.folder.parents[1]) for bundle in codecs}))
    chosen = {"grpc_port": 0, "http_port": 0, "udp_port": 0, "engines": engines, "threads": threads, "bundles": roots}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in (chosen | settings).items()]
    process = _start([sys.executable, "-m", "weaklink", "serve", *flags], {}, log, subprocess.PIPE)
    at = _ready_line("weaklink", process, log)
    ports = {door: int(at[door].rpartition(":")[2]) for door in ("grpc", "http", "udp")}
    return Server("weaklink", process, ports)


def start_echo(log: Path) -> Server:
    """Ours without anything behind the protocols; it has no HTTP."""
    process = _start([sys.executable, "-m", "benchmarks.echo_server"], {}, log, subprocess.PIPE)
    return Server("echo", process, _ready_line("echo", process, log))


def start_rival(name: str, python: Path, codecs: list[Bundle], engines: int, threads: int, log: Path) -> Server:
    """ConfigError: it did not start, or gave no answer for :data:`START_S`."""
    port = _free_port()
    environment = {
        "RIVAL_CODECS": ",".join(bundle.manifest.name for bundle in codecs),
        "RIVAL_THREADS": str(threads),
        "RIVAL_ENGINES": str(engines),
        "RIVAL_PORT": str(port),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [_library_folder(python), os.environ.get("LD_LIBRARY_PATH")])),
        **_RIVAL_ENVIRONMENT.get(name, {}),
    }
    command = [str(python), *_RIVAL_COMMANDS[name], *([str(port)] if name == "bentoml" else [])]
    server = Server(name, _start(command, environment, log, subprocess.DEVNULL), {"http": port, "grpc": port + 1})
    deadline = time.monotonic() + START_S
    while not all(_answers(question) for bundle in codecs for question in questions(server, bundle)):
        if server.process.poll() is not None or time.monotonic() > deadline:
            server.stop()
            raise _not_started(name, log)
        time.sleep(0.5)
    return server


def questions(server: Server, bundle: Bundle) -> list[Question]:
    """One for each protocol that it is asked in."""
    name, payload = bundle.manifest.name, bytes(range(bundle.manifest.levels[-1].payload_bytes))
    body: dict[str, Any] = {"codec": name, "bitstream": base64.b64encode(payload).decode(), "ber": BER}
    if server.name in OWN:
        request = edge_pb2.InferRequest(codec=name, bitstream=payload, ber_estimate=BER).SerializeToString()
        asked = [Question("grpc", "/weaklink.v1.EdgeInference/Infer", request, server.ports["grpc"])]
        if "http" in server.ports:
            body["ber_estimate"] = body.pop("ber")
            asked.append(Question("http", "/v1/infer", _json(body), server.ports["http"]))
        return asked
    http = server.ports["http"]
    if server.name == "triton":
        inputs = [("bitstream", "UINT8", list(payload)), ("ber", "FP32", [BER])]
        tensors = [
            {"name": tensor, "shape": [1, len(values)], "datatype": kind, "data": [values]} for tensor, kind, values in inputs
        ]
        return [
            Question("grpc", "/inference.GRPCInferenceService/ModelInfer", _triton_message(name, payload), server.ports["grpc"]),
            Question("http", f"/v2/models/{name}/infer", _json({"inputs": tensors}), http),
        ]
    return [Question("http", "/infer", _json({"requests": [body]} if server.name == "bentoml" else body), http)]


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _triton_message(name: str, payload: bytes) -> bytes:
    """A ModelInferRequest of the Open Inference Protocol, its tensors raw."""

    def field(number: int, value: bytes | int) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        return bytes([number << 3 | 2, len(value)]) + value  # all of them are shorter than 128 bytes

    def tensor(label: bytes, kind: bytes, size: int) -> bytes:
        return field(1, label) + field(2, kind) + field(3, bytes([1, size]))

    inputs = tensor(b"bitstream", b"UINT8", len(payload)), tensor(b"ber", b"FP32", 1)
    raw = payload, struct.pack("<f", BER)
    return field(1, name.encode()) + b"".join(field(5, each) for each in inputs) + b"".join(field(7, each) for each in raw)


def _answers(question: Question) -> bool:
    try:
        client = question.client()
        with client.sock:
            client.send()
            while not client.received():
                pass
            return not client.failed
    except OSError:
        return False


def answer_bytes(question: Question) -> int:
    """Length of the body of a right answer."""
    client = question.client()
    with client.sock:
        client.send()
        while not client.received():
            pass
        return client.body_bytes


def _start(command: list[str], environment: Mapping[str, str], log: Path, stdout: int) -> subprocess.Popen:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with open(log, "ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout if stdout == subprocess.PIPE else file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": path, **environment},
            cwd=log.parent,
            start_new_session=True,
        )


def _ready_line(name: str, process: subprocess.Popen, log: Path) -> dict[str, Any]:
    """What it prints when it listens."""
    ready = process.stdout.readline()
    if not ready:
        process.wait()
        raise _not_started(name, log)
    return json.loads(ready)


def _library_folder(python: Path) -> str:
    code = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _free_port() -> int:
    """Two in a row, the second for gRPC."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with suppress(OSError):
                second.bind(("127.0.0.1", port + 1))
                return port


def _not_started(name: str, log: Path) -> ConfigError:
    last = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
    return ConfigError(
        f"{name} did not start: {' / '.join(last)}",
        allowed="a server that answers",
        fix="see benchmarks/rivals-requirements.txt for the environment, and its log above",
    )
