"""gRPC, passed through as bytes but for the `bitstream` of inference requests, which goes through the channels."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterable, AsyncIterator

import grpc
from google.protobuf.message import DecodeError

from channel_emulator.bitstream_damage import damaged_request
from channel_emulator.link import Link
from channel_emulator.timeline import Timeline
from channel_emulator.udp_proxy import bind_error, resolve
from semantic_codec.address import Address
from weaklink.v1 import edge_pb2

INFER = "/weaklink.v1.EdgeInference/Infer"
INFER_STREAM = "/weaklink.v1.EdgeInference/InferStream"
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# Devices that do not give their name share one link.
ANONYMOUS = "anonymous"

Metadata = tuple[tuple[str, str | bytes], ...]
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Without this, a second server binds a port that is in use and takes half of its calls.
    ("grpc.so_reuseport", 0),
    # A retry in here would hide the upstream's failure from the device.
    ("grpc.enable_retries", 0),
    # As a device's own channel: gRPC would wait for up to two minutes once an outage has lasted.
    ("grpc.max_reconnect_backoff_ms", 2000),
    # The upstream is where the link says; an HTTP proxy from the environment is never the way there.
    ("grpc.enable_http_proxy", 0),
)


class GrpcProxy(grpc.GenericRpcHandler):
    """A gRPC server that forwards every method to the upstream: metadata, deadline, messages, status, both ways.

    Infer and InferStream go through the link: up, the request's bitstream; down, whole responses. A lost frame is
    UNAVAILABLE to Infer, because the call cannot be answered any more, and silence on a stream.
    """

    def __init__(self, link: Link, *, max_in_flight: int = 4096):
        self.link = link
        self._max_in_flight = max_in_flight

    async def start(self) -> None:
        """Bind and begin. AlreadyExists: the port is taken. ConfigError: not an address of this machine."""
        settings = self.link.settings
        await _refuse_unbindable(settings.listen)
        self._clock = asyncio.get_running_loop().time
        self._upstream = grpc.aio.insecure_channel(str(settings.upstream), options=OPTIONS)
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        try:
            port = self._server.add_insecure_port(str(settings.listen))
        except RuntimeError as error:
            await self._upstream.close()
            raise bind_error(settings.listen, OSError(0, str(error))) from None
        settings.listen = Address(settings.listen.host, port)
        await self._server.start()

    async def stop(self, grace_s: float = 0.5) -> None:
        """Refuse new calls, give those under way `grace_s` seconds, then cancel them."""
        await self._server.stop(grace_s)
        await self._upstream.close()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method
        if method == INFER:
            return grpc.unary_unary_rpc_method_handler(self._infer)
        if method == INFER_STREAM:
            return grpc.stream_stream_rpc_method_handler(self._infer_stream)

        # On the wire the four kinds of methods differ only in how many messages come, so one kind passes them all.
        async def forward(requests: AsyncIterable[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            call = self._call(method, requests, context)
            try:
                async for response in _responses(call, context):
                    yield response
            except grpc.aio.AioRpcError as error:
                await _abort_as(error, context)

        return grpc.stream_stream_rpc_method_handler(forward)

    def _call(
        self, method: str, requests: AsyncIterable[bytes], context: grpc.aio.ServicerContext
    ) -> grpc.aio.StreamStreamCall:
        return self._upstream.stream_stream(method)(
            requests, timeout=context.time_remaining(), metadata=_request_metadata(context)
        )

    def _carry_up(self, message: bytes) -> tuple[str, list[tuple[float, bytes]]]:
        """(device, (time, message) for each copy that arrives) of a serialised InferRequest."""
        try:
            request = edge_pb2.InferRequest.FromString(message)
        except DecodeError:
            return ANONYMOUS, [(0.0, message)]  # the upstream refuses it in its own words
        device, sent = _device(request), request.bitstream
        arrived = self.link.carry("up", device, sent, self._clock())
        return device, [
            (one.time, message if one.data is sent else damaged_request(request, one.data)) for one in arrived
        ]

    async def _wait_until(self, time: float) -> None:
        delay = time - self._clock()
        if delay > 0:
            await asyncio.sleep(delay)

    async def _infer(self, message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if self.link.in_flight >= self._max_in_flight:
            self.link.refuse("up")
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"link {self.link.settings.name!r} holds {self.link.in_flight} messages; "
                f"allowed: {self._max_in_flight}; fix: slow down or delay less",
            )
        self.link.in_flight += 1
        try:
            return await self._exchange(message, context)
        finally:
            self.link.in_flight -= 1

    async def _exchange(self, message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        device, arrivals = self._carry_up(message)
        if not arrivals:
            await self._abort_lost("request", context)
        time, message = arrivals[0]  # one call has one answer: further copies are counted and go no further
        await self._wait_until(time)
        call = self._upstream.unary_unary(INFER)(
            message, timeout=context.time_remaining(), metadata=_request_metadata(context)
        )
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            await _send_initial(context, error.initial_metadata())
            await _abort_as(error, context)
        await _send_initial(context, await call.initial_metadata())
        context.set_trailing_metadata(_plain(await call.trailing_metadata()))
        replies = self.link.carry("down", device, response, self._clock())
        if not replies:
            await self._abort_lost("response", context)
        await self._wait_until(replies[0].time)
        return response

    async def _abort_lost(self, what: str, context: grpc.aio.ServicerContext) -> None:
        await context.abort(
            grpc.StatusCode.UNAVAILABLE, f"the {what} was lost on the emulated link {self.link.settings.name!r}"
        )

    async def _infer_stream(
        self, requests: AsyncIterable[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        up, down = Timeline(self._max_in_flight), Timeline(self._max_in_flight)
        call = self._call(INFER_STREAM, self._due(up), context)

        async def take_requests() -> None:
            try:
                async for message in requests:
                    for time, arrived in self._carry_up(message)[1]:
                        await up.put(time, arrived)
                        self.link.in_flight += 1
            finally:
                up.close()

        async def take_responses() -> None:
            try:
                async for response in _responses(call, context):
                    device = _device(edge_pb2.InferResponse.FromString(response))
                    for one in self.link.carry("down", device, response, self._clock()):
                        await down.put(one.time, response)
                        self.link.in_flight += 1
            finally:
                down.close()

        tasks = [asyncio.create_task(take_requests()), asyncio.create_task(take_responses())]
        try:
            async for response in self._due(down):
                yield response
            await tasks[1]  # how the call ended, behind everything that was still on its way
        except grpc.aio.AioRpcError as error:
            await _abort_as(error, context)
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.link.in_flight -= up.clear() + down.clear()

    async def _due(self, timeline: Timeline) -> AsyncIterator[bytes]:
        async for message in timeline:
            self.link.in_flight -= 1
            yield message


async def _responses(call: grpc.aio.StreamStreamCall, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    """The upstream's messages; its metadata becomes that of `context`. AioRpcError: the upstream's, to be passed on."""
    try:
        await context.send_initial_metadata(_plain(await call.initial_metadata()))
        async for response in call:
            yield response
        context.set_trailing_metadata(_plain(await call.trailing_metadata()))
    finally:
        call.cancel()


async def _abort_as(error: grpc.aio.AioRpcError, context: grpc.aio.ServicerContext) -> None:
    await context.abort(error.code(), error.details() or "", _plain(error.trailing_metadata()))


def _device(message: edge_pb2.InferRequest | edge_pb2.InferResponse) -> str:
    return message.device[:64] or ANONYMOUS


def _plain(metadata: grpc.aio.Metadata | None) -> Metadata:
    return tuple(metadata or ())


async def _send_initial(context: grpc.aio.ServicerContext, metadata: grpc.aio.Metadata | None) -> None:
    """Send the upstream's initial metadata; where it has none, gRPC does so on its own and spares a wake-up."""
    if metadata:
        await context.send_initial_metadata(_plain(metadata))


def _request_metadata(context: grpc.aio.ServicerContext) -> Metadata:
    """What the caller sent, less what the transport writes itself."""
    return tuple(
        (key, value)
        for key, value in context.invocation_metadata() or ()
        if not key.startswith(":") and key not in ("user-agent", "te", "content-type")
    )


async def _refuse_unbindable(address: Address) -> None:
    """Refuse an address that cannot be listened on, with the reason that gRPC's own error leaves out."""
    family, where = (await resolve("listen", address))[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
        except OSError as error:
            raise bind_error(address, error) from None
