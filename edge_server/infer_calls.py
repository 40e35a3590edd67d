"""``Infer`` and ``InferStream``, the calls of the many: from the bytes of their messages to those of their answers."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence

import grpc

from edge_server.access import caller_name
from edge_server.grpc_messages import parser
from edge_server.grouping import Grouping, encode_responses
from edge_server.http2.frames import Code
from edge_server.http2.grpc_call import CallHead, GrpcCall, Metadata
from edge_server.http2.stream import Stream
from edge_server.inference import Inference
from edge_server.jobs import Call, Group, Job
from edge_server.messages import to_call, to_response
from edge_server.scheduler import shutting_down
from edge_server.stream_limit import StreamLimit
from edge_server.turns import Turns
from semantic_codec.errors import InvalidRequest, LimitReached, WeaklinkError
from weaklink.v1 import edge_pb2

TRANSPORT = "grpc"
HARD_LIMIT = 4 << 20  # bytes of a message; above, it is not even read


class InferCalls:
    """Makes the calls, and knows which are open. Belongs to the event loop's thread.

    ``window``: unanswered messages of a stream before it is read no further; ``streams``: how many a caller may have;
    ``turns``: in which they are read.
    """

    def __init__(
        self,
        inference: Inference,
        grouping: Grouping,
        clock: Callable[[], float],
        max_message_bytes: int,
        window: int,
        streams: StreamLimit,
        turns: Turns,
    ):
        self._inference, self._grouping, self.clock, self.turns = inference, grouping, clock, turns
        self.max_message_bytes, self.window = max_message_bytes, window
        self._parse = parser(edge_pb2.InferRequest, max_message_bytes)
        self._streams = streams
        self._open: set[UnaryInfer | StreamInfer] = set()
        self._idle = asyncio.Event()
        self.draining = False

    def unary(self, stream: Stream, head: CallHead) -> None:
        UnaryInfer(self, stream, head)

    def stream(self, stream: Stream, head: CallHead) -> None:
        StreamInfer(self, stream, head)

    async def drain(self, timeout: float) -> None:
        """Streams end with UNAVAILABLE once everything that was read from them is answered, single calls that have not
        said what they want at once; wait for that, and for the other calls. TimeoutError where it takes longer than
        ``timeout`` seconds."""
        self.draining = True
        for call in list(self._open):
            call.look()
        while self._open:
            self._idle.clear()
            await asyncio.wait_for(self._idle.wait(), timeout)

    def enter(self, call: UnaryInfer | StreamInfer) -> None:
        self._open.add(call)

    def leave(self, call: UnaryInfer | StreamInfer) -> None:
        self._open.discard(call)
        if not self._open:
            self._idle.set()

    def enter_stream(self, call: StreamInfer, owner: str) -> None:
        """LimitReached: the owner has enough of them."""
        self._streams.enter(owner)
        self.enter(call)

    def leave_stream(self, call: StreamInfer, owner: str) -> None:
        if call in self._open:
            self.leave(call)
            self._streams.leave(owner)

    def deadline(self, head: CallHead) -> float | None:
        return None if head.timeout_s is None else self.clock() + head.timeout_s

    def submit(self, body: bytes | WeaklinkError, deadline: float | None, done: Callable[[Job], None]) -> Job:
        """As :meth:`Inference.submit`, of an InferRequest's bytes, or of what is wrong with them."""
        request = self._read(body)
        if isinstance(request, WeaklinkError):
            return self.refuse(request, done)
        return self._inference.submit(to_call(request, TRANSPORT, deadline), done)

    def submit_all(
        self, bodies: Sequence[bytes | WeaklinkError], deadline: float | None, done: Callable[[Job], None], done_group: Callable[[Group], None]
    ) -> list[Job | Group]:
        """As :meth:`submit`, of several InferRequests; what is under way then."""
        if len(bodies) == 1 or self._inference.observed:  # to observers a group's members have no request ids
            jobs = [self.submit(body, deadline, done) for body in bodies]
            return [job for job in jobs if job.error is None]
        requests = [self._read(body) for body in bodies]
        refused = [request for request in requests if isinstance(request, WeaklinkError)]
        for error in refused:
            self.refuse(error, done)
        if refused:
            requests = [request for request in requests if not isinstance(request, WeaklinkError)]
        groups, alone = self._grouping.split(requests, TRANSPORT, deadline, done_group)
        under_way: list[Job | Group] = []
        for group in groups:
            under_way += self._inference.submit_group(group)
        jobs = [self._inference.submit(to_call(request, TRANSPORT, deadline), done) for request in alone]
        return under_way + [job for job in jobs if job.error is None]

    def _read(self, body: bytes | WeaklinkError) -> edge_pb2.InferRequest | WeaklinkError:
        return body if isinstance(body, WeaklinkError) else self._parse(body)

    def refuse(self, error: WeaklinkError, done: Callable[[Job], None] = lambda job: None) -> Job:
        return self._inference.submit(Call(TRANSPORT, b""), done, refusal=error)

    def gone(self) -> None:
        """A caller went away before its one message was whole."""
        self._inference.gone(TRANSPORT)


class UnaryInfer(GrpcCall):
    """One message, one answer."""

    def __init__(self, calls: InferCalls, stream: Stream, head: CallHead):
        super().__init__(stream, head, HARD_LIMIT, calls.max_message_bytes)
        self._calls = calls
        self._deadline = calls.deadline(head)
        self._context = contextvars.copy_context()
        self._asked = False  # or ended, and so not to be asked any more
        self._job: Job | None = None
        calls.enter(self)

    def look(self) -> None:
        if self._asked:
            return
        body = self.next_message()
        if body is not None:
            self._asked = True
            self._job = self._context.run(self._calls.submit, body, self._deadline, self._done)
        elif self.stream.closed:  # that was none
            return
        elif self.read_all:
            self.refuse(InvalidRequest("the call has no whole message", allowed="one", fix="send an InferRequest"))
        elif self._calls.draining:
            self.refuse(shutting_down())

    def refuse(self, error: WeaklinkError) -> None:
        self._asked = True
        self._calls.refuse(error, self._done)

    def cancelled(self) -> None:
        if self._job is not None:
            self._job.abandon(self._calls.clock())
        elif not self._asked:
            self._calls.gone()
        self._calls.leave(self)

    def end(self, status: grpc.StatusCode, message: str = "", metadata: Metadata = ()) -> None:
        self._asked = True
        super().end(status, message, metadata)

    def _done(self, job: Job) -> None:
        self._calls.leave(self)
        if job.error is not None:
            self.end(grpc.StatusCode[job.error.grpc_status], str(job.error))
        elif not job.cancelled:
            self.answer(to_response(job).SerializeToString())


class StreamInfer(GrpcCall):
    """Any number of messages, each answered as soon as it can be."""

    answers_each = True

    def __init__(self, calls: InferCalls, stream: Stream, head: CallHead):
        super().__init__(stream, head, HARD_LIMIT, calls.max_message_bytes)
        self._calls = calls
        self._deadline = calls.deadline(head)
        self._context = contextvars.copy_context()
        self._jobs: set[Job | Group] = set()
        self._answers: list[bytes] = []  # that are to be sent
        self._unanswered = 0
        self._over = False  # although the peer's window may still keep answers and the status from it
        self._owner = caller_name() or stream.connection.peer
        try:
            calls.enter_stream(self, self._owner)
        except LimitReached as error:
            self.refuse(error)

    def look(self) -> None:
        if not self._over:
            self._calls.turns.wait(self, self._read)

    def _read(self, most: int) -> int:
        """Take up to ``most`` of the messages that there is room for, and return how many; end the call where it is
        over."""
        try:
            return self._read_messages(most)
        except Exception:
            self.stream.reset(Code.INTERNAL_ERROR)
            self.cancelled()
            raise

    def _read_messages(self, most: int) -> int:
        room = min(most, self._calls.window - self._unanswered) if self._has_room() else 0
        bodies = self.next_messages(room)
        if bodies:
            self._unanswered += len(bodies)
            ends = self._done, self._group_done
            self._jobs.update(self._context.run(self._calls.submit_all, bodies, self._deadline, *ends))
            if self._held and self._has_room():
                self.look()
                return len(bodies)
        self._end_if_over()
        return len(bodies)

    def _end_if_over(self) -> None:
        if self._unanswered or self._answers or self._over:
            return
        if self._calls.draining:
            self._end_with(shutting_down())
        elif self.read_all and self.stream.has_room:
            if self._held:
                self.refuse(InvalidRequest("the last message is cut short", allowed="whole ones", fix="send all of it"))
            else:
                self.end(grpc.StatusCode.OK)

    def refuse(self, error: WeaklinkError) -> None:
        self._calls.refuse(error)
        self._end_with(error)

    def cancelled(self) -> None:
        self._over = True
        self._calls.leave_stream(self, self._owner)
        self._calls.turns.leave(self)
        now = self._calls.clock()
        for job in self._jobs:
            job.abandon(now)

    def _has_room(self) -> bool:
        return self._unanswered < self._calls.window and self.stream.has_room and not self._calls.draining

    def _done(self, job: Job) -> None:
        self._ended(job, [] if job.cancelled else [to_response(job).SerializeToString()])

    def _group_done(self, group: Group) -> None:
        self._ended(group, [] if group.cancelled else encode_responses(group))

    def _ended(self, job: Job | Group, answers: list[bytes]) -> None:
        self._unanswered -= job.images
        self._jobs.discard(job)
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._answer)
        self._answers += answers

    def _answer(self) -> None:
        """Everything that ended since the last time, together."""
        if self._over:
            return
        if self._answers:
            self.send(*self._answers)
            self._answers.clear()
        # Where room was what this stream waited for, or this was the last answer.
        if self._held or not self._unanswered:
            self.look()

    def _end_with(self, error: WeaklinkError) -> None:
        self.end(grpc.StatusCode[error.grpc_status], str(error))

    def end(self, status: grpc.StatusCode, message: str = "", metadata: Metadata = ()) -> None:
        if self._answers:
            self.send(*self._answers)
        super().end(status, message, metadata)
        self.cancelled()  # what is still under way has nobody to go to
