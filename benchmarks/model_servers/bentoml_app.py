"""BentoML: adaptive batching, one worker per engine (https://docs.bentoml.com)."""

from __future__ import annotations

import os

import bentoml

from benchmarks.model_servers.hosted import MAX_BATCH, load_engine, to_body, to_request


@bentoml.service(workers=int(os.environ["RIVAL_ENGINES"]), traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class HostedEngine:
    def __init__(self):
        self.engine = load_engine()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=60_000, route="/infer")
    def infer(self, requests: list[dict]) -> list[dict]:
        return [to_body(answer) for answer in self.engine.infer([to_request(request) for request in requests])]
