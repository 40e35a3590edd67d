"""What every rival hosts: the engine, and the requests of the benchmark in JSON.

    {"codec": "digits", "bitstream": "<base64>", "ber": 0.01} -> {"class": 3, "confidence": 0.98}
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

from edge_server.engine import Engine, EngineAnswer, EngineRequest
from semantic_codec.bundle import find_bundle

MAX_BATCH = 64
BATCH_WAIT_S = 0.001
MOST_REQUESTS = 1024
"""That may wait: as many as with us."""


def settings() -> tuple[list[str], int, int, int]:
    """(codecs, threads of each engine, engines, port) as the benchmark wants them."""
    environment = os.environ
    return (
        environment["RIVAL_CODECS"].split(","),
        int(environment["RIVAL_THREADS"]),
        int(environment["RIVAL_ENGINES"]),
        int(environment["RIVAL_PORT"]),
    )


def load_engine() -> Engine:
    codecs, threads, *_ = settings()
    return Engine([find_bundle(codec) for codec in codecs], threads=threads)


def to_request(body: Mapping[str, Any]) -> EngineRequest:
    """At the codec's longest level."""
    level = find_level(body["codec"])
    return EngineRequest(body["codec"], 0, level, base64.b64decode(body["bitstream"]), body["ber"])


def find_level(codec: str) -> int:
    if codec not in _LEVELS:
        _LEVELS[codec] = find_bundle(codec).manifest.levels[-1].number
    return _LEVELS[codec]


def to_body(answer: EngineAnswer) -> dict[str, Any]:
    (best,) = next(iter(answer.tasks.values()))
    return {"class": best[0], "confidence": best[1]}


_LEVELS: dict[str, int] = {}
