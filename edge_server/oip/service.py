"""What the protocol's gRPC and HTTP doors share: models, inference over the one :class:`Inference`, the repository."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from edge_server.bundle_control import BundleControl
from edge_server.inference import Inference
from edge_server.jobs import Call, Job
from edge_server.oip.model import (
    TIMEOUT,
    InferRequest,
    Wish,
    config,
    metadata,
    to_calls,
    to_outputs,
    to_version,
)
from edge_server.oip.statistics import statistics
from edge_server.oip.tensors import LIMIT
from edge_server.repository import Repository, ServedCodec
from semantic_codec.errors import InvalidRequest, NotFound, PermissionDenied, WeaklinkError

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "statistics",
)


try:
    VERSION = version("weaklink")
except PackageNotFoundError:  # a source tree that was never installed
    VERSION = "unknown"


@dataclass(frozen=True)
class Answer:
    """What answered, and the outputs asked for."""

    served: ServedCodec
    outputs: list[tuple[Wish, np.ndarray]]


class OpenInference:
    """Belongs to the event loop's thread.

    ready: whether new work is welcome. max_batch: images in one request. may_control: whether clients may load and
    unload.
    """

    def __init__(
        self,
        inference: Inference,
        repository: Repository,
        bundles: BundleControl,
        ready: Callable[[], bool],
        clock: Callable[[], float],
        max_batch: int,
        may_control: bool,
        wall_clock: Callable[[], float] = time.time,
    ):
        self._inference, self._repository, self._bundles = inference, repository, bundles
        self.ready, self._clock, self._max_batch, self._may_control = ready, clock, max_batch, may_control
        self._wall_clock = wall_clock

    def server_metadata(self) -> dict[str, Any]:
        """Fields of ServerMetadataResponse."""
        return {"name": "weaklink", "version": VERSION, "extensions": list(EXTENSIONS)}

    def model_ready(self, name: str, version: str) -> bool:
        try:
            self._get(name, version)
        except NotFound:
            return False
        return self.ready()

    def model_metadata(self, name: str, version: str) -> dict[str, Any]:
        """Fields of ModelMetadataResponse. NotFound: it does not serve."""
        served = self._get(name, version)
        return metadata(served, [codec.version for codec in self._repository.codecs if codec.name == served.name])

    def model_config(self, name: str, version: str) -> dict[str, Any]:
        """Fields of ModelConfig. NotFound: it does not serve."""
        return config(self._get(name, version), self._max_batch)

    def model_statistics(self, name: str = "", version: str = "") -> list[dict[str, Any]]:
        """Fields of each ModelStatistics: of all models, of a model's versions, or of one. NotFound: it does not serve."""
        codecs = self._repository.codecs
        if name:
            chosen = self._get(name, version)
            codecs = [codec for codec in codecs if codec is chosen or (codec.name == name and not version)]
        now, wall = self._clock(), self._wall_clock()
        return [statistics(codec, now - codec.statistics.last, wall) for codec in codecs]

    async def infer(
        self, transport: str, request: InferRequest | WeaklinkError, remaining: float | None = None
    ) -> Answer:
        """All images of a request, or the first one's refusal. ``request`` may be what the transport found wrong with
        it; ``remaining`` seconds its caller waits. Each image, or what could not be read, ends in a counted outcome."""
        try:
            if isinstance(request, WeaklinkError):
                raise request
            served = self._repository.get(request.model, request.version)
            calls = to_calls(request, served, transport, self._deadline(request, remaining), self._max_batch)
        except WeaklinkError as error:
            self.refuse(transport, error)
            raise
        jobs = await self._all(calls)
        return Answer(served, to_outputs(request, served, jobs))

    def refuse(self, transport: str, error: WeaklinkError) -> None:
        """Count what is refused before there is an image to refuse."""
        self._inference.submit(Call(transport, b""), lambda job: None, error)

    def gone(self, transport: str) -> None:
        """A caller went away before its request was whole."""
        self._inference.gone(transport)

    async def index(self, only_ready: bool) -> list[dict[str, str]]:
        """Fields of each ModelIndex."""
        return [
            {
                "name": state.name,
                "version": str(state.version),
                "state": "READY" if state.serves else "UNAVAILABLE",
                "reason": state.reason,
            }
            for state in await self._bundles.states()
            if state.serves or not only_ready
        ]

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """NotFound, BundleError: see :meth:`BundleControl.load`. PermissionDenied: clients may not."""
        self._check_control(name)
        for parameter in parameters:
            raise InvalidRequest(
                f"parameter {parameter[:40]!r}", allowed="none", fix="put the bundle's files into its folder first"
            )
        await self._bundles.load(name)

    async def unload(self, name: str, parameters: Mapping[str, Any]) -> None:
        """NotFound: it does not serve. PermissionDenied: clients may not."""
        self._check_control(name)
        for parameter in parameters.keys() - {"unload_dependents", "version"}:
            raise InvalidRequest(f"parameter {parameter[:40]!r}", allowed="unload_dependents, version", fix="leave it out")
        await self._bundles.unload(name, to_version(str(parameters.get("version", ""))))

    def _get(self, name: str, version: str) -> ServedCodec:
        return self._repository.get(name, to_version(version))

    def _deadline(self, request: InferRequest, remaining: float | None) -> float | None:
        timeout = request.parameters.get(TIMEOUT)
        if timeout is not None:
            if not isinstance(timeout, int) or isinstance(timeout, bool) or not 0 < timeout < LIMIT:
                raise InvalidRequest(
                    f"timeout is {str(timeout)[:40]!r}", allowed="microseconds, 1 to 2**63 - 1", fix="leave it out for none"
                )
            remaining = min(timeout / 1e6, remaining if remaining is not None else float("inf"))
        return None if remaining is None else self._clock() + remaining

    async def _all(self, calls: Sequence[Call]) -> list[Job]:
        """The jobs of one request, all answered; raises the first refusal, and the other jobs end as cancelled."""
        answered = asyncio.get_running_loop().create_future()
        jobs: list[Job] = []
        left = len(calls)

        def done(job: Job) -> None:
            nonlocal left
            left -= 1
            if not answered.done() and (job.error is not None or not left):
                answered.set_result(job.error)

        try:
            for call in calls:
                jobs.append(self._inference.submit(call, done))
                if jobs[-1].error is not None:
                    if unasked := len(calls) - len(jobs):
                        self._inference.gone(call.transport, call.codec, unasked)
                    break
            error = await answered
        except asyncio.CancelledError:
            for job in jobs:
                job.abandon(self._clock())
            raise
        if error is not None:
            for job in jobs:
                job.cancelled = job.cancelled or not (job.answer or job.error)
            raise error
        return jobs

    def _check_control(self, name: str) -> None:
        if not self._may_control:
            raise PermissionDenied(
                f"model {name!r} cannot be loaded or unloaded over the network",
                allowed="a server on loopback, or with --model-control",
                fix="send the server SIGHUP to reload its bundles, or start it with --model-control true",
            )
