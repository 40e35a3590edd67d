"""Ray Serve: dynamic batching, one replica per engine, its throughput settings and HAProxy by environment variables
(https://docs.ray.io/en/latest/serve)."""

from __future__ import annotations

import signal

import ray
from ray import serve

from benchmarks.model_servers.hosted import (
    BATCH_WAIT_S,
    MAX_BATCH,
    MOST_REQUESTS,
    load_engine,
    settings,
    to_body,
    to_request,
)


@serve.deployment(max_ongoing_requests=MOST_REQUESTS)
class HostedEngine:
    def __init__(self):
        self.engine = load_engine()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def infer(self, requests):
        return self.engine.infer(requests)

    async def __call__(self, request):
        return to_body(await self.infer(to_request(await request.json())))


if __name__ == "__main__":
    *_, engines, port = settings()
    ray.init(address="local", include_dashboard=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(HostedEngine.options(num_replicas=engines, ray_actor_options={"num_cpus": 1}).bind(), route_prefix="/infer")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
