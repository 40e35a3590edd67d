"""PyTorch compiled for this processor by Inductor; needs a C++ compiler on the machine."""

from __future__ import annotations

import numpy as np
import torch

from edge_server.runtimes.eager import Eager
from semantic_codec.bundle import Bundle


class Compiled(Eager):
    """float32; batches are padded to a power of two so that few shapes are ever compiled."""

    def __init__(self, bundle: Bundle, threads: int):
        super().__init__(bundle, threads)
        self._network = torch.compile(self._network, dynamic=False)

    def __call__(self, soft: np.ndarray, ber: np.ndarray) -> dict[str, np.ndarray]:
        count = len(soft)
        padding = (1 << (count - 1).bit_length()) - count
        if padding:
            soft, ber = np.pad(soft, ((0, padding), (0, 0))), np.pad(ber, (0, padding))
        return {task: logits[:count] for task, logits in super().__call__(soft, ber).items()}
