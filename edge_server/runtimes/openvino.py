"""OpenVINO on the CPU, in float32 and bfloat16."""

from __future__ import annotations

import numpy as np
import openvino

from edge_server.runtimes.export import export_graph, quiet, task_names
from semantic_codec.bundle import Bundle


class OpenVino:
    """float32, which has to be asked for: on processors with bfloat16 it is not the default."""

    precision = "f32"

    def __init__(self, bundle: Bundle, threads: int):
        self._tasks = task_names(bundle)
        with quiet():
            graph = openvino.convert_model(export_graph(bundle))
        options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": self.precision}
        self._model = openvino.compile_model(graph, "CPU", options | {"PERFORMANCE_HINT": "LATENCY"})

    def __call__(self, soft: np.ndarray, ber: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self._model([soft, ber])
        return {task: np.array(outputs[index]) for index, task in enumerate(self._tasks)}


class OpenVinoBfloat16(OpenVino):
    """bfloat16 where the processor has it."""

    precision = "bf16"
