"""The one engine: received bits and what the channel said about them in, calibrated probabilities out.

    bitstreams -> bits -> posterior means -> decoder and tails (a runtime) -> logits -> calibration -> top k
    |______________ decode ____________|    |_____________________________ tail _______________________________|

gRPC, HTTP and UDP reach :meth:`Engine.infer`; offline evaluation reaches :meth:`Engine.infer_arrays`. Both run the
same code from the bits on.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_server.runtimes import DEFAULT_RUNTIME, load_network
from semantic_codec.bitstream import posterior_mean
from semantic_codec.bundle import Bundle
from semantic_codec.calibration import Calibration
from semantic_codec.errors import BundleError, NotFound

CHUNK = 1000  # images per pass of an offline evaluation: bounds memory, and is past where larger stops being faster


@dataclass(slots=True)
class EngineRequest:
    """One checked image. ``bitstream`` holds the level's payload bytes; ``ber`` is in [0, 0.5]; ``erased`` are pairs
    of first bit and bit count; empty ``tasks`` means all; ``version`` 0 means the newest; ``revision`` as for
    :meth:`Engine.add`.

    Or several images of one level, with the same bits erased: ``bers`` is not empty and has each one's BER in place of
    ``ber``, and ``bitstream`` their payloads, one after the other.
    """

    codec: str
    version: int
    level: int
    bitstream: bytes
    ber: float
    erased: tuple[tuple[int, int], ...] = ()
    tasks: tuple[str, ...] = ()
    top_k: int = 1
    revision: int = 0
    bers: tuple[float, ...] = ()

    @property
    def images(self) -> int:
        return len(self.bers) or 1


@dataclass(slots=True)
class EngineAnswer:
    """Per task the best classes with their calibrated probability, best first, of one image after the other; the batch's
    seconds per stage."""

    tasks: dict[str, list[tuple[int, float]]]
    decode_s: float
    tail_s: float


class Engine:
    """Networks of several bundles on one runtime. One thread at a time infers; one at a time, which may be another, adds
    and removes meanwhile."""

    def __init__(self, bundles: Iterable[Bundle] = (), runtime: str = DEFAULT_RUNTIME, threads: int = 1):
        self._runtime, self._threads = runtime, threads
        self._codecs: dict[tuple[str, int, int], CodecEngine] = {}
        for bundle in bundles:
            self.add(bundle)

    def add(self, bundle: Bundle, revision: int = 0) -> None:
        """Load the bundle's network and try it. BundleError: its weights do not fit; ConfigError: no such runtime.

        ``revision`` tells two bundles of the same name and version apart: requests that are under way keep the one that
        they were checked against.
        """
        name, version = bundle.manifest.name, bundle.manifest.version
        engine = CodecEngine(bundle, self._runtime, self._threads)
        engine.try_out()
        self._codecs[name, version, revision] = engine

    def remove(self, name: str, version: int, revision: int = 0) -> None:
        """Forget a network that no request needs any more; none is no error."""
        self._codecs.pop((name, version, revision), None)

    def infer(self, batch: Sequence[EngineRequest]) -> list[EngineAnswer]:
        """Answers in the order of ``batch``, which may mix codecs, levels, BERs, erasures. NotFound: no such codec."""
        groups: dict[tuple[str, int, int], list[int]] = {}
        for index, request in enumerate(batch):
            groups.setdefault((request.codec, request.version, request.revision), []).append(index)
        answers: dict[int, EngineAnswer] = {}
        engines = [self._codec(*key) for key in groups]  # all at once: another thread may remove one
        for engine, members in zip(engines, groups.values()):
            answers.update(zip(members, engine.infer([batch[index] for index in members])))
        return [answers[index] for index in range(len(batch))]

    def infer_arrays(
        self,
        codec: str,
        bits: np.ndarray,
        level: np.ndarray,
        ber: np.ndarray,
        erased: np.ndarray | None = None,
        version: int = 0,
    ) -> dict[str, np.ndarray]:
        """Calibrated probabilities, per task float32 (B, classes).

        ``bits`` uint8 (B, n_bits) of 0 and 1, n_bits those of the longest level; ``level`` int (B,); ``ber`` float
        (B,); ``erased`` bool (B, n_bits) or None. Bits beyond a sample's level are ignored.
        """
        engine = self._codec(codec, version)
        parts = []
        for start in range(0, len(bits), CHUNK):
            rows = slice(start, start + CHUNK)
            soft = engine.soften(bits[rows], level[rows], ber[rows], None if erased is None else erased[rows])
            parts.append(engine.probabilities(soft, level[rows], ber[rows]))
        return {task: np.concatenate([part[task] for part in parts]) for task in parts[0]} if parts else {}

    def _codec(self, name: str, version: int, revision: int = 0) -> CodecEngine:
        engine = self._codecs.get((name, version, revision))
        if engine is None and not version:
            engine = self._codecs.get(max((key for key in list(self._codecs) if key[0] == name), default=None))
        if engine is None:
            loaded = ", ".join(f"{name} version {version}" for name, version, _ in sorted(self._codecs))
            raise NotFound(f"codec {name!r} version {version}", allowed=loaded, fix="load its bundle, or name another")
        return engine


class CodecEngine:
    """One bundle: bits to posterior means, means to probabilities."""

    def __init__(self, bundle: Bundle, runtime: str, threads: int):
        self._manifest = bundle.manifest
        self._network = load_network(runtime, bundle, threads)
        self._calibration = Calibration(bundle.manifest)
        self._task_names = tuple(task.name for task in bundle.manifest.tasks)
        self._bits = bundle.manifest.symbols * bundle.manifest.bits_per_symbol
        self._bytes = max(level.payload_bytes for level in bundle.manifest.levels)
        level_bits = np.array([level.symbols * bundle.manifest.bits_per_symbol for level in bundle.manifest.levels])
        self._beyond = np.arange(self._bits) >= level_bits[:, None]  # bool (levels, n_bits): not sent at this level

    def infer(self, requests: Sequence[EngineRequest]) -> list[EngineAnswer]:
        start = time.perf_counter()
        counts = [request.images for request in requests]
        level = np.repeat([request.level for request in requests], counts)
        ber = np.array([ber for request in requests for ber in request.bers or (request.ber,)], np.float32)
        soft = self.soften(self._unpack(requests), level, ber, self._erasures(requests))
        decoded = time.perf_counter()
        top_k = max(request.top_k for request in requests)
        best = {task: _Best(values, top_k) for task, values in self.probabilities(soft, level, ber).items()}
        finished = time.perf_counter()
        ends = list(itertools.accumulate(counts))
        return [
            EngineAnswer(
                {task: best[task].rows(end - count, end, request.top_k) for task in request.tasks or self._task_names},
                decoded - start,
                finished - decoded,
            )
            for request, count, end in zip(requests, counts, ends)
        ]

    def try_out(self) -> None:
        """One answer, so that whatever a runtime puts off until its first call is done before anybody waits for it.
        BundleError: it is no number."""
        level = self._manifest.levels[-1].number
        request = EngineRequest(self._manifest.name, 0, level, bytes(self._bytes), self._manifest.blind_ber)
        (answer,) = self.infer([request])
        for task, ((_, confidence), *_) in answer.tasks.items():
            if not math.isfinite(confidence):
                raise BundleError(
                    f"the network's answer to the task {task!r} has a confidence of {confidence}",
                    allowed="finite weights",
                    fix="train it again: it has diverged",
                )

    def soften(self, bits: np.ndarray, level: np.ndarray, ber: np.ndarray, erased: np.ndarray | None) -> np.ndarray:
        """Posterior means, float32 (B, n_bits), 0 where erased or beyond the level."""
        missing = self._beyond[level]
        if erased is not None:
            missing |= erased
        return posterior_mean(bits, ber, missing)

    def probabilities(self, soft: np.ndarray, level: np.ndarray, ber: np.ndarray) -> dict[str, np.ndarray]:
        ber = np.asarray(ber, np.float32)
        calibrated = self._calibration.probabilities
        return {task: calibrated(logits, level, ber) for task, logits in self._network(soft, ber).items()}

    def _unpack(self, requests: Sequence[EngineRequest]) -> np.ndarray:
        padded = b"".join(
            self._padded(request) if request.bers else request.bitstream.ljust(self._bytes, b"\0")
            for request in requests
        )
        payload = np.frombuffer(padded, np.uint8).reshape(-1, self._bytes)
        return np.unpackbits(payload, axis=1, count=self._bits)

    def _padded(self, request: EngineRequest) -> bytes:
        """The payloads of several images, each as long as the longest level's."""
        rows = np.frombuffer(request.bitstream, np.uint8).reshape(request.images, -1)
        missing = self._bytes - rows.shape[1]
        return np.pad(rows, ((0, 0), (0, missing))).tobytes() if missing else request.bitstream

    def _erasures(self, requests: Sequence[EngineRequest]) -> np.ndarray | None:
        if not any(request.erased for request in requests):
            return None
        erased = np.zeros((sum(request.images for request in requests), self._bits), bool)
        row = 0
        for request in requests:
            for first, count in request.erased:
                erased[row : row + request.images, first : first + count] = True
            row += request.images
        return erased


class _Best:
    """The ``count`` largest of each row of ``values``, fewer where there are no more, with their columns."""

    def __init__(self, values: np.ndarray, count: int):
        if count == 1:
            columns = values.argmax(axis=1)[:, None]
        else:
            columns = np.argsort(-values, axis=1, kind="stable")[:, :count]
        scores = values[np.arange(len(values))[:, None], columns]
        self._width = columns.shape[1]
        self._pairs = list(zip(columns.ravel().tolist(), scores.ravel().tolist()))

    def rows(self, begin: int, end: int, count: int) -> list[tuple[int, float]]:
        """The first ``count`` of each of these rows, largest first, row after row."""
        width, pairs = self._width, self._pairs
        if count >= width:
            return pairs[begin * width : end * width]
        return [pair for row in range(begin, end) for pair in pairs[row * width : row * width + count]]
