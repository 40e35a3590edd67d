"""LitServe: batching, the fast queue for high throughput, one worker per engine (https://lightning.ai/docs/litserve)."""

from __future__ import annotations

import litserve as ls

from benchmarks.model_servers.hosted import BATCH_WAIT_S, MAX_BATCH, load_engine, settings, to_body, to_request


class HostedEngine(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.engine = load_engine()

    def decode_request(self, request):
        return to_request(request)

    def batch(self, inputs):
        return list(inputs)

    def predict(self, batch):
        return self.engine.infer(batch)

    def unbatch(self, output):
        return output

    def encode_response(self, answer):
        return to_body(answer)


if __name__ == "__main__":
    *_, engines, port = settings()
    api = HostedEngine(max_batch_size=MAX_BATCH, batch_timeout=BATCH_WAIT_S, api_path="/infer")
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=engines, fast_queue=True)
    server.run(host="127.0.0.1", port=port, log_level="warning", access_log=False, generate_client_file=False)
