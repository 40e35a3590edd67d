"""What may run a bundle's networks. Each runtime is one file; only the chosen one is imported.

A runtime is a class ``Runtime(bundle, threads)`` whose instances map ``soft`` float32 (B, n_bits), the posterior means
of the received bits, and ``ber`` float32 (B,) to ``{task: logits float32 (B, classes)}``, for any B of at least 1.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

import numpy as np

from semantic_codec.bundle import Bundle
from semantic_codec.errors import ConfigError


class Network(Protocol):
    def __call__(self, soft: np.ndarray, ber: np.ndarray) -> dict[str, np.ndarray]: ...


RUNTIMES = {
    "auto": ("edge_server.runtimes.eager", "automatic"),
    "eager": ("edge_server.runtimes.eager", "Eager"),
    "eager-bf16": ("edge_server.runtimes.eager", "EagerBfloat16"),
    "compiled": ("edge_server.runtimes.compiled", "Compiled"),
    "onnxruntime": ("edge_server.runtimes.onnx", "OnnxRuntime"),
    "onnxruntime-int8": ("edge_server.runtimes.onnx", "OnnxRuntimeInt8"),
    "openvino": ("edge_server.runtimes.openvino", "OpenVino"),
    "openvino-bf16": ("edge_server.runtimes.openvino", "OpenVinoBfloat16"),
}
DEFAULT_RUNTIME = "auto"


def load_network(runtime: str, bundle: Bundle, threads: int) -> Network:
    """The bundle's decoder and tail on ``runtime``. ConfigError: unknown runtime, or its package is not installed."""
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime is {runtime!r}", allowed=", ".join(RUNTIMES), fix="choose one of these")
    module, name = RUNTIMES[runtime]
    try:
        network = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"runtime {runtime!r} needs the package {error.name!r}, which is not installed",
            allowed=", ".join(RUNTIMES),
            fix="pip install 'weaklink[bench]', or choose eager",
        ) from error
    return network(bundle, threads)
