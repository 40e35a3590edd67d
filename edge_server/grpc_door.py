"""The gRPC port: the calls of the many are served right here, all others by grpcio's server behind it.

    caller --HTTP/2, TLS--> Http2Connection -> Infer, InferStream -> InferCalls
                                           '-> any other method   -> Relay --unix socket--> grpcio: health, ...

A call through grpcio's own server costs several times the processor time of everything else that happens to it here.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import grpc

from edge_server.access import allowed_on_grpc
from edge_server.connection_limit import ConnectionLimit
from edge_server.grpc_messages import PEER
from edge_server.http2.connection import Http2Connection
from edge_server.http2.grpc_call import CallHead, GrpcCall, Metadata, refuse_protocol
from edge_server.http2.headers import LARGEST_BLOCK
from edge_server.http2.stream import Stream
from edge_server.infer_calls import HARD_LIMIT
from edge_server.turns import Turns
from semantic_codec.errors import WeaklinkError

BACKLOG = 1024
LONGEST_TIMEOUT_S = 365 * 86400.0
OPEN_LIMIT = 4096
"""Bytes of a message to a method that anybody may call: nobody knows who keeps it half sent."""
CHANNEL_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0))
UPSTREAM_OPTIONS = (
    ("grpc.max_receive_message_length", HARD_LIMIT),
    # This door's limit is the lower one; grpcio's own refuses by chance from 8 KB on.
    ("grpc.max_metadata_size", 2 * LARGEST_BLOCK),
    ("grpc.absolute_max_metadata_size", 2 * LARGEST_BLOCK),
)
"""Of the server behind."""
log = logging.getLogger(__name__)
Open = Callable[[Stream, CallHead], None]


class GrpcDoor:
    """``hot``: what serves a full method name; ``upstream``: the address of grpcio's server for all others.

    ``admit(method, metadata)`` raises a WeaklinkError for a call that may not be made; it may set context variables,
    which hold for the whole of a hot call. For the others grpcio's interceptors set them anew. ``patience_s``: for a peer
    that says nothing, or not enough. ``turns``: in which connections are read; ``limit``: how many there may be.
    ``refused(error)``: is told of hot calls that end for their headers, and so have nobody else to count them.
    """

    def __init__(
        self,
        hot: Mapping[str, Open],
        upstream: str,
        admit: Callable[[str, Metadata], None] = lambda method, metadata: None,
        patience_s: float = 30.0,
        turns: Turns | None = None,
        limit: ConnectionLimit | None = None,
        refused: Callable[[WeaklinkError], object] = lambda error: None,
    ):
        self._turns, self._limit, self._refused = turns or Turns(), limit, refused
        self._hot, self._upstream, self._admit, self._patience_s = hot, upstream, admit, patience_s
        self._connections: set[Http2Connection] = set()
        self._server: asyncio.Server | None = None
        self._channel: grpc.aio.Channel | None = None

    async def open(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a bound socket."""
        self._channel = grpc.aio.insecure_channel(self._upstream, CHANNEL_OPTIONS)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Http2Connection(
                self._open_stream, CallHead.of, self._connections, self._patience_s, self._turns, limit=self._limit
            ),
            sock=sock,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else self._patience_s,
            backlog=BACKLOG,
        )

    async def close(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.close()
        await self._channel.close()

    def admit_again(self) -> None:
        """Ask ``admit`` for every open call, since what it goes by has changed; those that may not be made any more end."""
        for stream in [stream for connection in self._connections for stream in connection.streams]:
            if stream.closed or stream.trailers is not None:  # its end is on its way
                continue
            call: GrpcCall = stream.receiver
            try:
                contextvars.copy_context().run(self._admit, call.head.path, call.head.metadata)
            except WeaklinkError as error:
                call.end(grpc.StatusCode[error.grpc_status], str(error))
                call.cancelled()

    def _open_stream(self, stream: Stream, head: CallHead) -> None:
        if not head.content_type.startswith("application/grpc"):
            stream.receiver = GrpcCall(stream, head, 0)
            refuse_protocol(stream)
        elif (refusal := head.refusal()) is not None:
            GrpcCall(stream, head, 0).refuse(refusal)
            if head.path in self._hot:
                self._refused(refusal)
        else:
            # A context of its own: whose call this is must not be taken for the next one's.
            contextvars.copy_context().run(self._serve, self._hot.get(head.path, self._relay), stream, head)

    def _relay(self, stream: Stream, head: CallHead) -> None:
        Relay(stream, head, self._channel, HARD_LIMIT if allowed_on_grpc(head.path) else OPEN_LIMIT)

    def _serve(self, serve: Open, stream: Stream, head: CallHead) -> None:
        try:
            self._admit(head.path, head.metadata)
        except WeaklinkError as error:
            GrpcCall(stream, head, 0).refuse(error)
            return
        serve(stream, head)


class Relay(GrpcCall):
    """A call of any kind, passed on message by message, both ways."""

    def __init__(self, stream: Stream, head: CallHead, channel: grpc.aio.Channel, largest: int):
        super().__init__(stream, head, largest)
        self._changed = asyncio.Event()
        self._over = False
        self._task = asyncio.get_running_loop().create_task(self._pass_on(channel))

    def look(self) -> None:
        self._changed.set()

    def refuse(self, error: WeaklinkError) -> None:
        super().refuse(error)
        self.cancelled()

    def cancelled(self) -> None:
        self._task.cancel()

    async def _call(self, channel: grpc.aio.Channel) -> grpc.aio.Call:
        """One message that came with the end is not passed on as a stream: where a refusal comes while grpcio still
        writes one, its client tells INTERNAL in place of the refusal."""
        metadata = [one for one in self.head.metadata if one[0] != PEER] + [(PEER, self.stream.connection.peer)]
        # gRPC takes a deadline beyond its clock's range for one that has passed.
        timeout_s = None if self.head.timeout_s is None else min(self.head.timeout_s, LONGEST_TIMEOUT_S)
        path, options = self.head.path, {"timeout": timeout_s, "metadata": metadata}
        requests = self._requests()
        first = await anext(requests, None)
        if first is not None and self.read_all and not self._held:
            return channel.unary_stream(path)(first, **options)

        async def all_of_them() -> AsyncIterator[bytes]:
            if first is not None:
                yield first
                async for body in requests:
                    yield body

        return channel.stream_stream(path)(all_of_them(), **options)

    async def _requests(self) -> AsyncIterator[bytes]:
        """Up to the last, or until the call is over."""
        while not self._over:
            self._changed.clear()
            if (body := self.next_message()) is not None:
                yield body
            elif self.read_all and not self.stream.closed:
                return
            else:  # where it was refused, to be cancelled
                await self._changed.wait()

    async def _pass_on(self, channel: grpc.aio.Channel) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            call = await self._call(channel)
            try:
                self.begin(list(await call.initial_metadata()))
                async for body in call:
                    while not self.stream.has_room:
                        self._changed.clear()
                        await self._changed.wait()
                    self.send(body)
                self.end(await call.code(), await call.details(), list(await call.trailing_metadata()))
            except grpc.aio.AioRpcError as error:
                self.end(error.code(), error.details(), list(error.trailing_metadata()))
            except Exception:  # whatever grpcio may find wrong: this call fails, the connection goes on
                log.exception("a call of %s could not be passed on", self.head.path)
                self.end(grpc.StatusCode.INTERNAL, "the call could not be passed on")
            finally:
                call.cancel()
                # Of a call that ended, grpcio waits for the next request nevertheless.
                self._over = True
                self._changed.set()
