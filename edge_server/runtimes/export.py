"""The network as a graph with a free batch size, for runtimes that are not PyTorch."""

from __future__ import annotations

import contextlib
import io
import warnings

import torch

from semantic_codec.bundle import Bundle
from semantic_codec.nn.families import load_edge_network

LARGEST_BATCH = 1 << 20


class _Ordered(torch.nn.Module):
    """Logits as a tuple in the order of the manifest's tasks: graphs have positions, not names."""

    def __init__(self, bundle: Bundle):
        super().__init__()
        self._network = load_edge_network(bundle)
        self._tasks = task_names(bundle)

    def forward(self, soft: torch.Tensor, ber: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self._network(soft, ber)
        return tuple(logits[task] for task in self._tasks)


def task_names(bundle: Bundle) -> tuple[str, ...]:
    return tuple(task.name for task in bundle.manifest.tasks)


def export_graph(bundle: Bundle) -> torch.export.ExportedProgram:
    """``(soft float32 (B, n_bits), ber float32 (B,)) -> logits float32 (B, classes)`` per task, for any B."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    example = torch.zeros(2, bundle.manifest.bits), torch.full((2,), 0.01)
    with quiet():
        return torch.export.export(_Ordered(bundle), example, dynamic_shapes=({0: batch}, {0: batch}))


def export_onnx(bundle: Bundle) -> bytes:
    """The graph as an ONNX model with inputs ``soft`` and ``ber`` and the tasks as outputs."""
    names = {"input_names": ["soft", "ber"], "output_names": list(task_names(bundle))}
    graph = export_graph(bundle)
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        return torch.onnx.export(graph, dynamo=True, verbose=False, **names).model_proto.SerializeToString()


@contextlib.contextmanager
def quiet():
    """Silences what exporters and converters warn about: calls inside torch itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
