"""The gRPC service: one call, a stream of calls, feedback, and the list of codecs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import grpc
from google.protobuf.message import DecodeError

from edge_server.access import caller_name
from edge_server.feedback import FeedbackJudge
from edge_server.inference import Inference
from edge_server.jobs import Call, Job
from edge_server.messages import to_call, to_codec, to_codec_list, to_response
from edge_server.repository import Repository
from edge_server.scheduler import shutting_down
from semantic_codec.errors import InvalidRequest, QueueFull, TooLarge, WeaklinkError
from weaklink.v1 import edge_pb2

SERVICE = edge_pb2.DESCRIPTOR.services_by_name["EdgeInference"].full_name
HARD_LIMIT = 4 << 20  # bytes; gRPC itself closes a call above this, with RESOURCE_EXHAUSTED
TRANSPORT = "grpc"
DEADLINE_SLACK = 0.02  # seconds; a call cancelled this close to its deadline was cancelled by the deadline


class EdgeService:
    """Handlers of ``weaklink.v1.EdgeInference`` on a ``grpc.aio`` server."""

    def __init__(
        self,
        inference: Inference,
        judge: FeedbackJudge,
        repository: Repository,
        clock: Callable[[], float],
        max_message_bytes: int,
        stream_window: int,
        stream_limit: int,
    ):
        self._inference, self._judge, self._repository, self.clock = inference, judge, repository, clock
        self._limit, self._window = max_message_bytes, stream_window
        self._streams: set[_Stream] = set()
        self._stream_limit, self._streams_of = stream_limit, Counter()
        self._calls = 0
        self._idle = asyncio.Event()
        self.draining = False

    def register(self, server: grpc.aio.Server) -> None:
        """Own (de)serializers, so that a message too large or not of its type is refused by name and counted."""
        unary, serialize = grpc.unary_unary_rpc_method_handler, _serialize
        handlers = {
            "Infer": unary(self.infer, self._parser(edge_pb2.InferRequest), serialize),
            "InferStream": grpc.stream_stream_rpc_method_handler(
                self.infer_stream, self._parser(edge_pb2.InferRequest), serialize
            ),
            "Feedback": unary(self.feedback, self._parser(edge_pb2.FeedbackRequest), serialize),
            "ListCodecs": unary(self.list_codecs, self._parser(edge_pb2.ListCodecsRequest), serialize),
            "GetCodec": unary(self.get_codec, self._parser(edge_pb2.GetCodecRequest), serialize),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def drain(self, timeout: float) -> None:
        """Streams end with UNAVAILABLE once everything that was read from them is answered; wait for that, and for
        the single calls. TimeoutError where it takes longer than ``timeout`` seconds."""
        self.draining = True
        for stream in self._streams:
            stream.wake()
        while self._streams or self._calls:
            self._idle.clear()
            await asyncio.wait_for(self._idle.wait(), timeout)

    async def infer(self, request: edge_pb2.InferRequest | WeaklinkError, context: grpc.aio.ServicerContext):
        remaining = context.time_remaining()
        answered = asyncio.get_running_loop().create_future()
        self._calls += 1
        job = self.submit(request, None if remaining is None else self.clock() + remaining, _resolve(answered))
        try:
            await answered
        except asyncio.CancelledError:
            self.abandon(job)
            raise
        finally:
            self._calls -= 1
            self._idle.set()
        if job.error is not None:
            await _abort(context, job.error)
        return to_response(job)

    async def infer_stream(self, _, context: grpc.aio.ServicerContext) -> None:
        owner = caller_name() or context.peer().rpartition(":")[0]
        if self._streams_of[owner] >= self._stream_limit:
            error = QueueFull(
                f"{owner} has {self._stream_limit} streams open",
                allowed=f"up to {self._stream_limit}",
                fix="send more on each stream, or raise --stream-limit",
            )
            self.submit(error, None, lambda job: None)
            await _abort(context, error)
        stream = _Stream(self, context, self._window)
        self._streams.add(stream)
        self._streams_of[owner] += 1
        try:
            await stream.run()
        finally:
            self._streams.discard(stream)
            self._streams_of[owner] -= 1
            if not self._streams_of[owner]:
                del self._streams_of[owner]
            self._idle.set()
            for job in stream.open:
                self.abandon(job)
        if self.draining:
            await _abort(context, shutting_down())

    async def feedback(self, request: edge_pb2.FeedbackRequest | WeaklinkError, context: grpc.aio.ServicerContext):
        try:
            request = _checked(request)
            verdict = self._judge.judge(
                request.device, request.sequence, request.codec, request.task, request.true_class
            )
        except WeaklinkError as error:
            await _abort(context, error)
        return edge_pb2.FeedbackResponse(matched=verdict.matched, correct=verdict.correct)

    async def list_codecs(self, request: edge_pb2.ListCodecsRequest | WeaklinkError, context):
        try:
            _checked(request)
        except WeaklinkError as error:
            await _abort(context, error)
        return to_codec_list(self._repository)

    async def get_codec(self, request: edge_pb2.GetCodecRequest | WeaklinkError, context: grpc.aio.ServicerContext):
        try:
            request = _checked(request)
            return to_codec(self._repository.get(request.codec, request.version))
        except WeaklinkError as error:
            await _abort(context, error)

    def submit(self, request, deadline: float | None, done: Callable[[Job], None]) -> Job:
        if isinstance(request, WeaklinkError):
            return self._inference.submit(Call(TRANSPORT, b""), done, refusal=request)
        return self._inference.submit(to_call(request, TRANSPORT, deadline), done)

    def abandon(self, job: Job) -> None:
        """Nobody waits any more: the scheduler drops the job when it meets it, and counts why."""
        if self.clock() < job.deadline - DEADLINE_SLACK:
            job.cancelled = True
        else:
            job.deadline = 0.0

    def _parser(self, message_type) -> Callable[[bytes], object]:
        def parse(data: bytes):
            if len(data) > self._limit:
                return TooLarge(
                    f"the message has {len(data)} bytes",
                    allowed=f"up to {self._limit}",
                    fix="send one image per message, or raise --max-message-bytes",
                )
            try:
                return message_type.FromString(data)
            except DecodeError as error:
                return InvalidRequest(
                    f"the message cannot be parsed ({error})",
                    allowed=message_type.DESCRIPTOR.full_name,
                    fix="use the stubs of weaklink/v1/edge.proto",
                )

        return parse


class _Stream:
    """One InferStream call: reads up to ``window`` requests ahead of their answers, writes answers as they come.

    ``open`` are the jobs read and not yet answered.
    """

    def __init__(self, service: EdgeService, context: grpc.aio.ServicerContext, window: int):
        self._service, self._context, self._window = service, context, window
        self.open: set[Job] = set()
        self._answers: asyncio.Queue[Job | None] = asyncio.Queue()
        self._room = asyncio.Event()
        self._read_all = False

    def wake(self) -> None:
        """Look again whether the stream is over."""
        self._answers.put_nowait(None)

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        try:
            while self.open or not (self._read_all or self._service.draining):
                job = await self._answers.get()
                if job is not None:
                    await self._context.write(to_response(job))
                    self.open.discard(job)
                    self._room.set()
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self) -> None:
        remaining = self._context.time_remaining()
        deadline = None if remaining is None else self._service.clock() + remaining
        try:
            while (request := await self._context.read()) is not grpc.aio.EOF:
                self.open.add(self._service.submit(request, deadline, self._answers.put_nowait))
                if self._service.draining:
                    break  # a caller that never pauses must not keep the server from ending
                while len(self.open) >= self._window:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._read_all = True
            self.wake()


def _serialize(message) -> bytes:
    return message.SerializeToString()


def _checked(request):
    """The parsed message; raises what the parser found wrong with it."""
    if isinstance(request, WeaklinkError):
        raise request
    return request


def _resolve(future: asyncio.Future) -> Callable[[Job], None]:
    def done(job: Job) -> None:
        if not future.done():
            future.set_result(job)

    return done


async def _abort(context: grpc.aio.ServicerContext, error: WeaklinkError) -> None:
    await context.abort(grpc.StatusCode[error.grpc_status], str(error))
