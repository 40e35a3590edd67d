"""h2load (nghttp2-client): clients in a closed loop over HTTP/1.1 or gRPC's HTTP/2, in C: the server has the cores."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semantic_codec.errors import ConfigError


@dataclass(frozen=True)
class Load:
    """What a load generator saw. ``requests_per_s``: right answers; ``latencies_s``: of each request of the time that was
    measured, so far as it waited for those without an answer; ``cpu_share``: of one core, the generator's own;
    ``failed``: requests that ended otherwise than asked for; ``unanswered``: in an open loop, without an answer at the end."""

    requests_per_s: float
    latencies_s: np.ndarray
    cpu_share: float
    failed: int
    unanswered: int = 0


def find() -> str:
    """ConfigError: it is not installed."""
    program = shutil.which("h2load")
    if program is None:
        raise ConfigError(
            "the load generator h2load is not installed", allowed="h2load", fix="apt-get install nghttp2-client"
        )
    return program


def run(
    url: str, body: bytes, grpc: bool, clients: int, seconds: float, warm_up_s: float, answer_bytes: int
) -> Load:
    """``clients`` connections with one request under way on each.

    answer_bytes: of the body of a right answer: a gRPC call that fails has the HTTP status 200, too, and no body.
    """
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder, "body"), Path(folder, "log")
        data.write_bytes(body)
        # A run of its own: --warm-up-time adds its answers' bytes to the others', which hides calls that fail.
        if warm_up_s:
            subprocess.run(command(url, data, grpc, clients, 1, warm_up_s), capture_output=True, check=True)
        used, started = children_s(), time.monotonic()
        done = subprocess.run(
            [*command(url, data, grpc, clients, 1, seconds), f"--log-file={log}"], capture_output=True, text=True, check=True
        )
        used, wall = children_s() - used, time.monotonic() - started
        lines = np.loadtxt(log, dtype=np.int64, ndmin=2, delimiter="\t", usecols=(1, 2))
    answered = lines[lines[:, 0] == 200, 1] / 1e6
    whole = int(re.search(r"\((\d+)\) data", done.stdout)[1]) / answer_bytes
    right = min(len(answered), round(whole)) if grpc else len(answered)
    return Load(right / seconds, answered, used / wall, len(lines) - right)


def command(url: str, data: Path, grpc: bool, clients: int, each: int, seconds: float) -> list[str]:
    """h2load with so many connections and so many requests under way on each; ``data``: the file of a request's body."""
    headers = {"content-type": "application/grpc", "te": "trailers"} if grpc else {"content-type": "application/json"}
    program = [find(), "-t1", f"-c{clients}", f"-m{each}", f"-D{_milliseconds(seconds)}", f"--data={data}"]
    program += [f"--header={name}: {value}" for name, value in headers.items()]
    return program + ([] if grpc else ["--h1"]) + [url]


def children_s() -> float:
    """Processor time of the children that have ended, seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1e3)}ms"

