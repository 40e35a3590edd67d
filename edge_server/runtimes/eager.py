"""PyTorch as it is: the reference that every other runtime is measured against."""

from __future__ import annotations

import numpy as np
import torch

from edge_server.runtimes.flat import flatten
from semantic_codec.bundle import Bundle
from semantic_codec.nn.families import load_edge_network
from semantic_codec.nn.precision import multiplies_bfloat16


class Eager:
    """float32."""

    def __init__(self, bundle: Bundle, threads: int):
        torch.set_num_threads(threads)
        self._network = load_edge_network(bundle).eval()

    def __call__(self, soft: np.ndarray, ber: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            logits = self._run(torch.from_numpy(soft), torch.from_numpy(ber))
        return {task: values.float().numpy() for task, values in logits.items()}

    def _run(self, soft: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        return self._network(soft, ber)


class EagerBfloat16(Eager):
    """Matrix products and convolutions in bfloat16, the rest in float32 (autocast)."""

    def _run(self, soft: torch.Tensor, ber: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self._network(soft, ber)


class Flat(Eager):
    """float32, of the family `weaklink`."""

    def __init__(self, bundle: Bundle, threads: int):
        super().__init__(bundle, threads)
        self._network = flatten(self._network)


def automatic(bundle: Bundle, threads: int) -> Eager:
    """bfloat16 where it is faster: in convolutions, on processors that multiply it; else float32."""
    if bundle.manifest.edge.get("grid") and multiplies_bfloat16():
        return EagerBfloat16(bundle, threads)
    return (Flat if bundle.manifest.family == "weaklink" else Eager)(bundle, threads)
