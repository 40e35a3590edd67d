"""The edge node as a Ray Serve application: the same engine and the same gRPC contract, on several machines.

    client -> Ray's gRPC proxy -> Ingress -> consistent hash of the device's name -> EdgeReplica -> engine
              (each machine)      (each machine)                                     (one a machine)

What the edge remembers of a device, its BER estimate and the answers that await feedback, lives in one replica, and
every request that names the device goes there. When a replica is lost, its devices go to others, which know nothing
of them yet; the other devices stay where they were. Ray passes no raw frames, so there are no replay windows here.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import ray
from prometheus_client import CollectorRegistry
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter
from ray.serve.grpc_util import RayServegRPCContext, gRPCInputStream
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from ray.serve.request_router import RequestRouter

from edge_server.access import Access
from edge_server.devices import DeviceTable
from edge_server.engine import Engine
from edge_server.feedback import FeedbackJudge
from edge_server.grpc_messages import parser
from edge_server.infer_calls import TRANSPORT
from edge_server.inference import Inference
from edge_server.jobs import Call, Job
from edge_server.lanes import LocalLane
from edge_server.messages import to_call, to_response
from edge_server.metrics import Metrics
from edge_server.repository import load_repository
from edge_server.scheduler import Limits, Scheduler
from edge_server.service import SERVICE, EdgeService
from edge_server.settings import Settings
from edge_server.tokens import TokenFile
from semantic_codec.bundle import bundle_roots
from semantic_codec.errors import ConfigError, Unavailable, WeaklinkError
from weaklink.v1 import edge_pb2

USED = (
    "bundles", "runtime", "threads", "max_batch", "queue_limit", "stream_window", "max_message_bytes", "deadline_s",
    "drain_s", "device_in_flight", "device_limit", "remembered_answers", "tokens", "insecure",
)  # fmt: skip
"""The settings that mean something here; the others are about ports and raw frames."""
ATTEMPTS = 3
"""Replicas that are tried before a request ends as UNAVAILABLE; an inference that was begun twice does no harm."""
GRACE_S = 1.0
"""How much longer than the request's own deadline the ingress waits: a replica that lives answers first."""
ONGOING = 1_000_000
"""Calls of one replica, as Ray bounds them: never met, because the scheduler's queue refuses by name long before."""
KEEPING_S = 1.0
"""How often the tokens are looked at."""
OK = "OK"


@dataclass(frozen=True, slots=True)
class Reply:
    """How one call ended: the name of a gRPC status, with a serialized message where it is OK, else with the reason."""

    status: str
    message: bytes = b""
    reason: str = ""


class EdgeReplica:
    """One engine with its queue, and what it remembers of its devices. Serve makes these, one a machine."""

    async def __init__(self, settings: Settings):
        clock = time.monotonic
        metrics = Metrics(CollectorRegistry())
        engine = Engine((), settings.runtime, settings.compute_threads)
        repository = load_repository(settings.bundles or bundle_roots(), engine.add)
        devices = DeviceTable(settings.device_limit, settings.remembered_answers, clock, settings.duplicate_s)
        inference = Inference(
            repository, devices, metrics, clock, settings.deadline_s, settings.device_in_flight
        )
        scheduler = Scheduler(
            [LocalLane(engine.infer, ThreadPoolExecutor(1, "engine"))],
            inference.finish,
            Limits(settings.queue_limit, settings.max_batch),
            clock,
            metrics.batch_size.observe,
        )
        inference.connect(scheduler)
        judge = FeedbackJudge(repository, devices, metrics)
        service = EdgeService(judge, repository, settings.max_message_bytes)
        self._inference, self._clock, self._limit = inference, clock, settings.max_message_bytes
        self._methods = {
            "Infer": (edge_pb2.InferRequest, self._infer),
            "Feedback": (edge_pb2.FeedbackRequest, service.feedback),
            "ListCodecs": (edge_pb2.ListCodecsRequest, service.list_codecs),
            "GetCodec": (edge_pb2.GetCodecRequest, service.get_codec),
        }
        self._access = None
        if settings.tokens is not None:
            tokens = TokenFile(settings.tokens)
            self._access = Access(tokens, metrics)
            self._keeping = asyncio.create_task(_keep(tokens))
        scheduler.start()

    async def call(self, method: str, message: bytes, metadata: Sequence[tuple[str, str]] = ()) -> Reply:
        """One call of the contract, as a gRPC server would make it. ``message`` and the reply's are serialized."""
        message_type, handler = self._methods[method]
        try:
            if self._access is not None:
                self._access.admit_grpc(f"/{SERVICE}/{method}", metadata)
            answer = await handler(parser(message_type, self._limit)(message), _Context())
        except WeaklinkError as error:
            return Reply(error.grpc_status, reason=str(error))
        except _Refused as refused:
            return Reply(refused.status, reason=refused.reason)
        return Reply(OK, answer.SerializeToString())

    async def _infer(self, request: edge_pb2.InferRequest | WeaklinkError, _) -> edge_pb2.InferResponse:
        answered: asyncio.Future[Job] = asyncio.get_running_loop().create_future()

        def done(job: Job) -> None:
            if not answered.done():
                answered.set_result(job)

        if isinstance(request, WeaklinkError):
            job = self._inference.submit(Call(TRANSPORT, b""), done, refusal=request)
        else:
            # Ray tells no deadline: it cancels the call when that has passed.
            job = self._inference.submit(to_call(request, TRANSPORT, None), done)
        try:
            await answered
        except asyncio.CancelledError:
            job.abandon(self._clock())
            raise
        if job.error is not None:
            raise job.error
        return to_response(job)


class DeviceRouter(ConsistentHashRouter):
    """A replica that is slow keeps its devices; only one that is gone loses them, to its successors on the ring."""

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        ranked = await super().choose_replicas(candidate_replicas, pending_request)
        return ranked[:1]


class NearRouter(RequestRouter):
    """A machine's proxy keeps to the machine's ingress, so that both are lost together: to a proxy that outlives the
    ingress its call ends as INTERNAL, which no client may take for a reason to try again."""

    async def choose_replicas(self, candidate_replicas, pending_request=None):
        here = ray.get_runtime_context().get_node_id()
        return [[replica for replica in candidate_replicas if replica.node_id == here] or candidate_replicas]


class Ingress:
    """``weaklink.v1.EdgeInference`` behind Ray's proxy: finds the device's replica, and another one if that is lost.

    Its methods have the contract's names, by which the proxy calls them.
    """

    def __init__(self, replicas: DeploymentHandle, stream_window: int, patience_s: float):
        self._call, self._window, self._patience_s = replicas.call, stream_window, patience_s

    async def Infer(self, request: edge_pb2.InferRequest, grpc_context: RayServegRPCContext):
        return await self._answer("Infer", request, edge_pb2.InferResponse, grpc_context, request.device)

    async def Feedback(self, request: edge_pb2.FeedbackRequest, grpc_context: RayServegRPCContext):
        return await self._answer("Feedback", request, edge_pb2.FeedbackResponse, grpc_context, request.device)

    async def ListCodecs(self, request: edge_pb2.ListCodecsRequest, grpc_context: RayServegRPCContext):
        return await self._answer("ListCodecs", request, edge_pb2.ListCodecsResponse, grpc_context)

    async def GetCodec(self, request: edge_pb2.GetCodecRequest, grpc_context: RayServegRPCContext):
        return await self._answer("GetCodec", request, edge_pb2.Codec, grpc_context)

    async def InferStream(
        self, requests: gRPCInputStream[edge_pb2.InferRequest], grpc_context: RayServegRPCContext
    ) -> AsyncIterator[edge_pb2.InferResponse]:
        """Answers as they are ready; at most ``stream_window`` requests are read ahead of their answers."""
        metadata = grpc_context.invocation_metadata()
        room = asyncio.Semaphore(self._window)
        ended: asyncio.Queue[asyncio.Task | None] = asyncio.Queue()
        under_way: set[asyncio.Task] = set()

        async def read() -> None:
            try:
                async for request in requests:
                    await room.acquire()
                    # Without the stream's own context: Ray would take its messages for one request, and mix them up.
                    answering = self._answer_in_stream(request, metadata)
                    task = asyncio.create_task(answering, context=contextvars.Context())
                    under_way.add(task)
                    task.add_done_callback(ended.put_nowait)
                if under_way:
                    await asyncio.wait(under_way)
            finally:
                ended.put_nowait(None)

        reading = asyncio.create_task(read())
        try:
            while (task := await ended.get()) is not None:
                under_way.discard(task)
                room.release()
                yield task.result()
            await reading  # where it failed, so does the call
        finally:
            for task in (reading, *under_way):
                task.cancel()

    async def _answer(self, method: str, request, response, grpc_context: RayServegRPCContext, device: str = ""):
        reply = await self._routed(method, request, device, grpc_context.invocation_metadata())
        if reply.status == OK:
            return response.FromString(reply.message)
        # Not raised: a refusal is no failure of this deployment, and Serve would log its traceback.
        grpc_context.set_code(grpc.StatusCode[reply.status])
        grpc_context.set_details(reply.reason)
        return response()

    async def _answer_in_stream(self, request: edge_pb2.InferRequest, metadata) -> edge_pb2.InferResponse:
        reply = await self._routed("Infer", request, request.device, metadata)
        if reply.status == OK:
            return edge_pb2.InferResponse.FromString(reply.message)
        return edge_pb2.InferResponse(
            request_id=request.request_id,
            codec=request.codec,
            device=request.device,
            sequence=request.sequence,
            error=edge_pb2.Error(status=reply.status, message=reply.reason),
        )

    async def _routed(self, method: str, request, device: str, metadata) -> Reply:
        """Without a device, any replica."""
        call = self._call.options(session_id=device) if device else self._call
        message = request.SerializeToString()
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._attempted(lambda: call.remote(method, message, metadata))
        except TimeoutError:
            # Not DEADLINE_EXCEEDED: a replica that lives would have said so itself.
            lost = Unavailable(
                f"no replica answered within {self._patience_s:g} s",
                allowed="requests while replicas serve",
                fix="send it again",
            )
            return Reply(lost.grpc_status, reason=str(lost))

    @staticmethod
    async def _attempted(send: Callable[[], DeploymentResponse]) -> Reply:
        for _ in range(ATTEMPTS):
            response = send()
            try:
                return await response
            except asyncio.CancelledError:
                response.cancel()
                raise
            except (RayActorError, DeploymentUnavailableError) as error:
                problem = f"{ATTEMPTS} replicas were lost with the request under way ({type(error).__name__})"
        lost = Unavailable(problem, allowed="requests while replicas serve", fix="send it again")
        return Reply(lost.grpc_status, reason=str(lost))


def application(args: dict[str, Any]) -> serve.Application:
    """What ``import_path`` in a Serve config names; ``args`` are edge settings by name.

    ConfigError: one that means nothing here; or none says who may call, and Ray's gRPC port is open to the network.
    pydantic's ValidationError: a value that cannot work.
    """
    unused = sorted(set(args) - set(USED))
    if unused:
        raise ConfigError(f"args has {unused[0]!r}", allowed=", ".join(USED), fix="remove it from the Serve config")
    settings = Settings(**args)
    if settings.tokens is None and not settings.insecure:
        raise ConfigError(
            "args has no tokens, and Ray's gRPC port is open to the network",
            allowed="callers that prove who they are",
            fix="give tokens: FILE, or insecure: true on a network of your own",
        )
    replica = serve.deployment(
        EdgeReplica,
        name="edge",
        max_ongoing_requests=ONGOING,
        max_replicas_per_node=1,
        request_router_config=RequestRouterConfig(request_router_class=DeviceRouter),
        graceful_shutdown_timeout_s=settings.drain_s,
        health_check_period_s=2,
        health_check_timeout_s=10,
    )
    ingress = serve.deployment(
        Ingress,
        name="ingress",
        max_ongoing_requests=ONGOING,
        max_replicas_per_node=1,
        request_router_config=RequestRouterConfig(request_router_class=NearRouter),
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=settings.drain_s,
    )
    return ingress.bind(replica.bind(settings), settings.stream_window, settings.deadline_s + GRACE_S)


async def _keep(tokens: TokenFile) -> None:
    while True:
        await asyncio.sleep(KEEPING_S)
        tokens.reload()


class _Refused(Exception):
    def __init__(self, status: str, reason: str):
        super().__init__(status, reason)
        self.status, self.reason = status, reason


class _Context:
    """What :class:`EdgeService` asks of a call's context."""

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise _Refused(code.name, details)
