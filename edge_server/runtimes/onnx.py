"""ONNX Runtime, in float32 and with int8 weights and activations."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from edge_server.runtimes.export import export_onnx, task_names
from semantic_codec.bitstream import posterior_mean
from semantic_codec.bundle import Bundle, load_recording
from semantic_codec.errors import NotFound

CALIBRATION_IMAGES = 512


class OnnxRuntime:
    """float32."""

    def __init__(self, bundle: Bundle, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # A worker that spins between batches would take the core from the server's event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._tasks = task_names(bundle)
        self._session = onnxruntime.InferenceSession(
            self._model(bundle), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, soft: np.ndarray, ber: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self._tasks, self._session.run(self._tasks, {"soft": soft, "ber": ber})))

    def _model(self, bundle: Bundle) -> bytes:
        return export_onnx(bundle)


class OnnxRuntimeInt8(OnnxRuntime):
    """int8 with scales fixed beforehand: scales taken from each batch would make an answer depend on its company."""

    def _model(self, bundle: Bundle) -> bytes:
        from onnxruntime.quantization import QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        with tempfile.TemporaryDirectory() as folder:
            plain, prepared, quantized = (Path(folder, f"{stage}.onnx") for stage in ("plain", "prepared", "int8"))
            plain.write_bytes(super()._model(bundle))
            quant_pre_process(plain, prepared)
            quantize_static(
                prepared,
                quantized,
                _Calibration(bundle),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["Gemm", "MatMul"],
                reduce_range=products_saturate(),
            )
            return quantized.read_bytes()


def products_saturate() -> bool:
    """Whether this processor adds two products of bytes in 16 bits, which may be too few unless weights have 7 bits: x86 without
    VNNI (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "When and why do I need to try U8U8?")."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx2") and not (known.get("avx512_vnni") or known.get("avx_vnni")))


class _Calibration:
    """What the quantizer learns the ranges of activations from: recorded or random bits, at all BERs and levels."""

    def __init__(self, bundle: Bundle):
        self._batches = _calibration_batches(bundle)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _calibration_batches(bundle: Bundle) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    bits_total = bundle.manifest.bits
    try:
        payload = load_recording(bundle).bitstreams[:CALIBRATION_IMAGES]
        sent = np.unpackbits(payload, axis=1, count=bits_total)
    except NotFound:
        sent = rng.integers(0, 2, (CALIBRATION_IMAGES, bits_total), dtype=np.uint8)
    for level in bundle.manifest.levels:
        ber = 10 ** rng.uniform(-4, np.log10(0.3), len(sent)).astype(np.float32)
        received = sent ^ (rng.random(sent.shape) < ber[:, None])
        beyond = np.arange(bits_total) >= level.symbols * bundle.manifest.bits_per_symbol
        missing = np.broadcast_to(beyond, sent.shape)
        yield {"soft": posterior_mean(received, ber, missing), "ber": ber}
