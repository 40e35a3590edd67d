"""Triton with PyTriton: dynamic batching, one instance per engine (https://triton-inference-server.github.io/pytriton)."""

from __future__ import annotations

import signal

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.model_servers.hosted import MAX_BATCH, find_level, load_engine, settings
from edge_server.engine import EngineRequest


def tensor(name: str, dtype: type, size: int = 1) -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=(size,))


def hosted(codec: str):
    engine, level = load_engine(), find_level(codec)

    @batch
    def infer(bitstream: np.ndarray, ber: np.ndarray):
        requests = [EngineRequest(codec, 0, level, row.tobytes(), float(p[0])) for row, p in zip(bitstream, ber)]
        best = [next(iter(answer.tasks.values()))[0] for answer in engine.infer(requests)]
        classes, confidences = zip(*best)
        return [np.array(classes, np.int32)[:, None], np.array(confidences, np.float32)[:, None]]

    return infer


if __name__ == "__main__":
    codecs, _, engines, port = settings()
    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, grpc_address="127.0.0.1", grpc_port=port + 1, allow_metrics=False
    )
    with Triton(config=config) as triton:
        for codec in codecs:
            triton.bind(
                codec,
                [hosted(codec) for _ in range(engines)],
                inputs=[tensor("bitstream", np.uint8, -1), tensor("ber", np.float32)],
                outputs=[tensor("class", np.int32), tensor("confidence", np.float32)],
                config=ModelConfig(max_batch_size=MAX_BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            )
        triton.run()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
