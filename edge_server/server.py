"""The edge node's life, top-down: startup, serve, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import uvicorn
from grpc_health.v1 import health, health_pb2
from prometheus_client import CollectorRegistry

from edge_server.access import Access, GrpcAccess, HttpAccess, HttpCallers
from edge_server.admission import Admission
from edge_server.bundle_control import BundleControl
from edge_server.connection_limit import ConnectionLimit
from edge_server.devices import DeviceTable
from edge_server.engine import Engine
from edge_server.exposure import check_exposure, lets_clients_load, own_names
from edge_server.feedback import FeedbackJudge
from edge_server.gateway import Gateway, Readers, wire_codecs
from edge_server.grouping import Grouping
from edge_server.grpc_door import UPSTREAM_OPTIONS, GrpcDoor
from edge_server.health_service import HealthService
from edge_server.heap import settle_heap
from edge_server.http_api import AdminApi
from edge_server.http_infer import INFER, HttpInfer
from edge_server.http_server import HttpServer
from edge_server.infer_calls import InferCalls
from edge_server.inference import Inference
from edge_server.jobs import Job
from edge_server.keyring import Keyring
from edge_server.lanes import EngineLane, Engines, Lane, LocalLane
from edge_server.metrics import Metrics
from edge_server.oip.grpc_api import SERVICE as OPEN_INFERENCE
from edge_server.oip.grpc_api import OpenInferenceGrpc
from edge_server.oip.http_api import OpenInferenceHttp
from edge_server.oip.service import OpenInference
from edge_server.reflection_service import ReflectionService
from edge_server.replay import ReplayWindows
from edge_server.repository import load_repository
from edge_server.request_log import RequestLog
from edge_server.scheduler import Limits, Scheduler
from edge_server.serial_door import SerialDoor
from edge_server.service import SERVICE, EdgeService
from edge_server.settings import Settings
from edge_server.sockets import Addresses, bind, join, listen_in, most_connections
from edge_server.status import Status
from edge_server.status_page import StatusPage
from edge_server.stream_limit import StreamLimit
from edge_server.timed_http import TimedHttp
from edge_server.tls import GRPC, HTTP, Certificates
from edge_server.tokens import TokenFile
from edge_server.trace_context import GrpcTraceContext, HttpTraceContext, enter_grpc, enter_http
from edge_server.turns import Turns
from edge_server.udp_door import UdpDoor
from edge_server.watched_file import WatchedFile
from semantic_codec.bundle import bundle_roots
from semantic_codec.errors import WeaklinkError

LAME_DUCK_S = 0.2
"""Every new call is told UNAVAILABLE for this long before the ports close: a closing connection reads as CANCELLED."""
ARRIVED_S = 0.05
"""For what arrived before the signal and still lies in a socket's buffer: nobody would tell a frame's sender."""
KEEPING_S = 1.0
"""How often keys, tokens and certificates are looked at, and the replay window brought to the disk."""
log = logging.getLogger(__name__)


class EdgeServer:
    """``await startup()``, then serve until ``await shutdown()``; or all of it with :meth:`run`."""

    def __init__(
        self,
        settings: Settings,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._settings, self._clock = settings, clock
        self.metrics = Metrics(registry or CollectorRegistry())
        self._serving = False
        self._closers = contextlib.AsyncExitStack()

    async def run(self, on_ready: Callable[[Addresses], None]) -> None:
        """Serve until SIGTERM or SIGINT, which end the start, too; SIGHUP reloads the bundles."""
        stop, reload = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        starting, stopping = asyncio.create_task(self.startup()), asyncio.create_task(stop.wait())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reload.set)  # during the start, too: the folders may have been read by then
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.cancel():
            await asyncio.wait((starting,))
            log.info("stopped before it served")
            return
        addresses = starting.result()
        settle_heap()
        self._closers.callback(asyncio.create_task(self._reload_whenever(reload)).cancel)
        on_ready(addresses)
        await stopping
        await self.shutdown()

    async def startup(self) -> Addresses:
        """Load the bundles, then open the ports. ConfigError: nothing to serve, or everybody would be served;
        AlreadyExists: a port is taken."""
        check_exposure(self._settings)
        try:
            await self._assemble()
            # Closed in the opposite order: readiness and metrics can be read until the last answer has gone out.
            http = await self._open_http()
            serial = await self._open_raw("serial", self._serial, socket.SOCK_STREAM, self._settings.serial_port)
            udp = await self._open_raw("udp", self._udp, socket.SOCK_DGRAM, self._settings.udp_port)
            addresses = Addresses(http=http, serial=serial, udp=udp, grpc=await self._open_grpc())
            if self._engines is not None:
                await self._engines.start()
            self._scheduler.start()
            if self._watched:
                keeping = asyncio.create_task(self._keep())
                self._closers.callback(keeping.cancel)
            for service in ("", SERVICE, OPEN_INFERENCE):
                await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        except BaseException:
            await self._closers.aclose()
            raise
        self._serving = True
        return addresses

    async def _reload_whenever(self, asked: asyncio.Event) -> None:
        """Reload the bundles each time, until cancelled; what is asked for meanwhile is one reload more."""
        while True:
            await asked.wait()
            asked.clear()
            try:
                with contextlib.suppress(WeaklinkError):  # logged and counted
                    await self.bundles.reload()
            except Exception:
                log.exception("bundles could not be reloaded")

    async def shutdown(self) -> None:
        """Drain, then stop. The order matters: nobody is turned away before health says so, nothing is closed that an
        answer under way still needs."""
        self._serving = False
        await self._health.enter_graceful_shutdown()
        log.info("draining")
        limit = self._settings.drain_s
        await asyncio.sleep(ARRIVED_S)
        # Frames first: those taken still have to pass through the scheduler, which is the next to close.
        await self._drained("frames", self._gateway.drain(limit))
        await self._scheduler.drain(limit)
        await self._drained("gRPC calls", self._calls.drain(limit))
        await asyncio.sleep(LAME_DUCK_S)
        await self._closers.aclose()
        metrics = self.metrics
        log.info("requests %s, frames %s", metrics.totals(metrics.requests), metrics.totals(metrics.frames))
        log.info("stopped")

    def _is_ready(self) -> bool:
        return self._serving and (self._engines is None or self._engines.alive)

    async def _drained(self, what: str, draining: Awaitable[None]) -> None:
        try:
            await draining
        except TimeoutError:
            log.warning("%s were still unanswered after %g s", what, self._settings.drain_s)

    async def _assemble(self) -> None:
        settings, clock = self._settings, self._clock
        # A thread of its own, for searches that take longer than the event loop may.
        reading = self._closers.enter_context(ThreadPoolExecutor(1, "frames"))
        engine, lanes = self._open_engine()
        roots = settings.bundles or bundle_roots()
        repository = await asyncio.to_thread(load_repository, roots, engine.add)
        for refusal in repository.refused:
            log.warning("bundle %s refused: %s", refusal.path, refusal.reason)
        self.bundles = BundleControl(roots, engine, repository, partial(self.metrics.reloaded, "bundles"))
        devices = DeviceTable(settings.device_limit, settings.remembered_answers, clock, settings.duplicate_s)
        self._observers = self._open_observers()
        inference = Inference(
            repository, devices, self.metrics, clock, settings.deadline_s, settings.device_in_flight, self._observers
        )
        self._scheduler = Scheduler(
            lanes,
            inference.finish,
            Limits(settings.queue_limit, settings.max_batch, settings.engine_timeout_s),
            clock,
            self.metrics.batch_size.observe,
        )
        inference.connect(self._scheduler)
        self._turns = Turns(lambda: self._scheduler.room)
        self._connections = ConnectionLimit(min(settings.connection_limit, most_connections()), settings.address_limit)
        self._keys = None if settings.keys is None else Keyring(settings.keys)
        tokens = None if settings.tokens is None else TokenFile(settings.tokens)
        self._access = None if tokens is None else Access(tokens, self.metrics)
        self._certificates = None
        if settings.tls_certificate is not None:
            self._certificates = Certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        watched = (self._keys, tokens, self._certificates)
        self._watched: list[WatchedFile] = [file for file in watched if file is not None]
        self._replay = ReplayWindows(settings.replay_path if self._keys is not None else None)
        self._closers.callback(self._replay.close)
        keys = {} if self._keys is None else self._keys
        self.metrics.queue_limit.set(settings.queue_limit)
        self.metrics.watch(
            lambda: self._scheduler.depth,
            lambda: len(devices),
            lambda: devices.active(settings.silent_s),
            lambda: len(keys),
        )
        judge = FeedbackJudge(repository, devices, self.metrics)
        self._service = EdgeService(judge, repository, settings.max_message_bytes)
        self._streams = StreamLimit(settings.stream_limit)
        self._calls = InferCalls(
            inference,
            Grouping(repository, devices),
            clock,
            settings.max_message_bytes,
            settings.stream_window,
            self._streams,
            self._turns,
        )
        self._gateway = Gateway(devices, inference, self.metrics, keys, self._replay)
        datagrams = Readers((), self._keys, settings.reads_open_frames)
        # Bytes go missing on a serial line, not the ends of frames.
        lines = Readers((), self._keys, settings.reads_open_frames, cut_frames=False)

        def serve_frames() -> None:
            codecs = wire_codecs(repository)
            for each in (self._gateway, datagrams, lines):
                each.serve(codecs)

        repository.watch(serve_frames)
        repository.watch(lambda: self.metrics.expect(repository.newest))
        admission = Admission(settings.noise_rate, settings.device_limit, clock)
        self._udp = UdpDoor(self._gateway, datagrams, reading, admission, self._turns, clock)
        self._serial = SerialDoor(self._gateway, lines, reading, client_timeout_s=settings.client_timeout_s)
        status = Status(repository, devices, self.metrics.registry, self._is_ready, settings.silent_s, clock)
        self._http_callers = HttpCallers(self.metrics, self._access, own_names(settings))
        admit = self._admit(self._http_callers.admit, enter_http)
        self._http_infer = HttpInfer(inference, settings.max_message_bytes, admit)
        self._app = AdminApi(
            judge,
            repository,
            self.metrics,
            self._is_ready,
            settings.max_message_bytes,
            StatusPage(status),
        ).app()
        open_inference = OpenInference(
            inference,
            repository,
            self.bundles,
            self._is_ready,
            clock,
            settings.max_batch,
            lets_clients_load(settings),
        )
        self._open_inference = OpenInferenceGrpc(
            open_inference, settings.max_message_bytes, settings.stream_window, self._streams
        )
        OpenInferenceHttp(open_inference, settings.max_message_bytes).add_to(self._app)

    def _open_observers(self) -> list[Callable[[Job], None]]:
        """Who is told of each request's end; empty unless asked for, since it is paid for by each."""
        settings, observers = self._settings, []
        if settings.otlp_endpoint is not None:
            from edge_server.traces import Traces  # of an extra that few install

            traces = Traces(settings.otlp_endpoint, self._clock)
            self._closers.push_async_callback(asyncio.to_thread, traces.close)
            observers.append(traces)
        if settings.log_requests != "none":
            observers.append(RequestLog(everything=settings.log_requests == "all"))
        return observers

    def _open_engine(self) -> tuple[Engine | Engines, Sequence[Lane]]:
        """What holds the bundles' networks, and where it computes."""
        settings = self._settings
        self._engines = None
        if not settings.engines:
            engine = Engine((), settings.runtime, settings.compute_threads)
            computing = self._closers.enter_context(ThreadPoolExecutor(1, "engine"))
            return engine, [LocalLane(engine.infer, computing)]

        died, came_back = self.metrics.engine_deaths.inc, lambda: self._scheduler.wake()
        threads = settings.compute_threads
        lanes = [
            EngineLane(settings.runtime, threads, died, came_back, settings.log_format)
            for _ in range(settings.engines)
        ]
        self._engines = Engines(lanes)
        self._closers.push_async_callback(self._engines.close)
        return self._engines, lanes

    async def _open_grpc(self) -> str:
        settings = self._settings
        interceptors = [] if self._access is None else [GrpcAccess(self._access)]
        server = grpc.aio.server(
            interceptors=[*interceptors, GrpcTraceContext()] if self._observers else interceptors,
            options=UPSTREAM_OPTIONS,
        )
        self._service.register(server)
        self._open_inference.register(server)
        self._health = HealthService(self._streams, settings.max_message_bytes)
        self._health.register(server)
        described = (SERVICE, OPEN_INFERENCE, health.SERVICE_NAME)
        ReflectionService(described, self._streams, settings.max_message_bytes).register(server)
        # A folder that only this user may enter: callers come through the door, which is where they are checked.
        folder = self._closers.enter_context(tempfile.TemporaryDirectory(prefix="weaklink-"))
        upstream = listen_in(server, folder)
        await server.start()
        # Ours are answered by then; who watches the health would stay for ever.
        self._closers.push_async_callback(server.stop, LAME_DUCK_S)
        sock = bind("grpc", settings.host, settings.grpc_port, socket.SOCK_STREAM)
        hot = {f"/{SERVICE}/Infer": self._calls.unary, f"/{SERVICE}/InferStream": self._calls.stream}
        admit = self._admit(self._access and self._access.admit_grpc, enter_grpc)
        self._grpc_door = GrpcDoor(
            hot, upstream, admit, settings.client_timeout_s, self._turns, self._connections, self._calls.refuse
        )
        await self._grpc_door.open(sock, None if self._certificates is None else self._certificates.context(GRPC))
        self._closers.push_async_callback(self._grpc_door.close)
        return join(settings.host, sock.getsockname()[1])

    def _admit(self, check: Callable[..., None] | None, enter: Callable[[Any], None]) -> Callable[..., None]:
        """What a door calls before each request: its trace is entered, which the last argument tells, and its token checked."""
        check = check or (lambda *call: None)
        if not self._observers:
            return check

        def admit(*call) -> None:
            enter(call[-1])
            check(*call)

        return admit

    async def _open_raw(self, name: str, door: UdpDoor | SerialDoor, kind: socket.SocketKind, port: int | None) -> str | None:
        """A door for raw frames; None: not asked for."""
        if port is None:
            return None
        sock = bind(name, self._settings.host, port, kind)
        await door.open(sock)
        self._closers.callback(door.close)
        return join(self._settings.host, sock.getsockname()[1])

    async def _keep(self) -> None:
        """Follow the files that may be replaced and bring the replay window to the disk, until cancelled; what fails is
        tried again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(KEEPING_S)
            try:
                for file in self._watched:
                    outcome = file.reload()
                    if outcome is not None:
                        self.metrics.reloaded(file.name, outcome)
                    if outcome == "ok" and isinstance(file, TokenFile):
                        self._grpc_door.admit_again()  # a struck token's streams would go on without end
                await loop.run_in_executor(None, self._replay.flush_to_disk())
            except Exception:
                log.exception("keys, tokens and certificates were not looked at")

    async def _open_http(self) -> str:
        settings = self._settings
        sock = bind("http", settings.host, settings.http_port, socket.SOCK_STREAM)
        app = HttpTraceContext(self._app) if self._observers else self._app
        hot = {("POST", INFER): self._http_infer}
        config = uvicorn.Config(
            HttpAccess(app, self._http_callers),
            http=partial(TimedHttp, settings.client_timeout_s, self._turns, self._connections, hot),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
        )
        config.load()
        config.ssl = None if self._certificates is None else self._certificates.context(HTTP)
        server = HttpServer(config, settings.drain_s)
        serving = asyncio.create_task(server.serve([sock]))

        async def close() -> None:
            server.should_exit = True
            await serving

        self._closers.push_async_callback(close)
        while not server.started:
            await asyncio.sleep(0.005)
        return join(settings.host, sock.getsockname()[1])
