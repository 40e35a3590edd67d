"""An emulator, an upstream that records UDP frames and answers with them, and a gRPC edge that records requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from channel_emulator.emulator import Emulator
from weaklink.v1 import edge_pb2, edge_pb2_grpc


class EchoUpstream(asyncio.DatagramProtocol):
    """Sends every frame back to where it came from."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.senders: set[tuple] = set()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport
        self.address = "{}:{}".format(*transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, address: tuple) -> None:
        self.frames.append(data)
        self.senders.add(address)
        self.transport.sendto(data, address)


class Client(asyncio.DatagramProtocol):
    """A device with a socket of its own."""

    def __init__(self) -> None:
        self.replies: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport
        self.address = "{}:{}".format(*transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, address: tuple) -> None:
        self.replies.put_nowait(data)

    def send(self, data: bytes) -> None:
        self.transport.sendto(data)

    async def reply(self) -> bytes:
        return await asyncio.wait_for(self.replies.get(), 10)

    async def exchange(self, data: bytes) -> bytes:
        self.send(data)
        return await self.reply()


class RecordingEdge(edge_pb2_grpc.EdgeInferenceServicer):
    """Keeps what it receives; answers with the names it was called by. Codec "refuse" is refused, "wait" hangs."""

    def __init__(self) -> None:
        self.requests: list[edge_pb2.InferRequest] = []
        self.metadata: dict[str, str | bytes] = {}
        self.time_remaining: float | None = None

    async def Infer(self, request, context):
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        self.time_remaining = context.time_remaining()
        if request.codec == "wait":
            await asyncio.Event().wait()
        context.set_trailing_metadata((("edge-trailer", "t"), ("edge-bin", b"\x00\xff")))
        await context.send_initial_metadata((("edge-initial", "i"),))
        if request.codec == "refuse":
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "encoder does not match", (("why-bin", b"\x01\xfe"),)
            )
        return edge_pb2.InferResponse(request_id=request.request_id, device=request.device, sequence=request.sequence)

    async def InferStream(self, request_iterator, context):
        async for request in request_iterator:
            self.requests.append(request)
            if request.codec == "refuse":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "draining", (("why-bin", b"\x01\xfe"),))
            yield edge_pb2.InferResponse(request_id=request.request_id, device=request.device)

    async def Feedback(self, request, context):
        return edge_pb2.FeedbackResponse(matched=True, correct=request.true_class == 3)

    async def ListCodecs(self, request, context):
        return edge_pb2.ListCodecsResponse(codecs=[edge_pb2.Codec(name="digits")])


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    emulator = Emulator(max_devices=4)
    yield emulator
    await emulator.close()


@pytest.fixture
async def udp_upstream() -> AsyncIterator[EchoUpstream]:
    loop = asyncio.get_running_loop()
    transport, upstream = await loop.create_datagram_endpoint(EchoUpstream, local_addr=("127.0.0.1", 0))
    yield upstream
    transport.close()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[object], Awaitable[Client]]]:
    """connect(address) opens a UDP client; all are closed at the end."""
    clients: list[Client] = []

    async def open_client(address) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_datagram_endpoint(Client, remote_addr=(address.host, address.port))
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.transport.close()


@pytest.fixture
async def grpc_edge() -> AsyncIterator[RecordingEdge]:
    edge = RecordingEdge()
    server = grpc.aio.server()
    edge_pb2_grpc.add_EdgeInferenceServicer_to_server(edge, server)
    checks = health.HealthServicer()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    edge.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield edge
    await server.stop(None)
