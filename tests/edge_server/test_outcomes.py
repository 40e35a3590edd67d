"""Every request ends in exactly one counted outcome: what was sent, what callers were told and what is counted agree."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import httpx
import numpy as np

from edge_server.metrics import error_label
from edge_server.server import EdgeServer
from semantic_codec import errors
from semantic_codec.bundle import Bundle
from tests.edge_server.conftest import grpc_stub, running, sample, until
from tests.edge_server.test_gateway import Radio, flipped, frame, radio
from tests.edge_server.test_service import PAYLOAD, Gate, refused, request
from weaklink.v1 import edge_pb2_grpc

REFUSALS = [
    kind(problem="", allowed="", fix="") for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.WeaklinkError)
]  # fmt: skip
STATUS = {"ok": "OK", "cancelled": "CANCELLED"} | {error_label(error): error.grpc_status for error in REFUSALS}
REQUESTS = (
    *[{}] * 6,
    {"codec": "nobody's"},
    {"bitstream": bytes(7)},
    {"ber_estimate": 0.7},
    {"device": "x" * 100},
    {"bitstream": bytes(70_000)},
)
DEADLINE_S = 5.0


def counted(server: EdgeServer, transport: str) -> Counter[str]:
    """A transport's requests so far by outcome."""
    outcomes: Counter[str] = Counter()
    for each in server.metrics.requests.collect()[0].samples:
        if each.name.endswith("_total") and each.labels["transport"] == transport:
            outcomes[each.labels["outcome"]] += int(each.value)
    return +outcomes  # those that happened


def as_told(outcomes: Counter[str]) -> Counter[str]:
    """By the status that callers are told."""
    told: Counter[str] = Counter()
    for outcome, count in outcomes.items():
        told[STATUS[outcome]] += count
    return told


async def at_once(calls: Iterable[Callable[[], Awaitable[str]]], most: int) -> Counter[str]:
    """The statuses of all calls, so many of them under way."""
    room = asyncio.Semaphore(most)

    async def one(call: Callable[[], Awaitable[str]]) -> str:
        async with room:
            return await call()

    return Counter(await asyncio.gather(*map(one, calls)))


async def unary(stub: edge_pb2_grpc.EdgeInferenceStub, fields: dict) -> str:
    try:
        await stub.Infer(request(**fields))
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def streamed(stub: edge_pb2_grpc.EdgeInferenceStub, requests: list[dict]) -> Counter[str]:
    told: Counter[str] = Counter()
    async for answer in stub.InferStream(iter([request(**fields) for fields in requests])):
        told[answer.error.status or "OK"] += 1
    return told


async def posted(client: httpx.AsyncClient, fields: dict) -> str:
    body = {"codec": "toy", "bitstream": PAYLOAD} | fields
    body["bitstream"] = base64.b64encode(body["bitstream"]).decode()
    answer = await client.post("/v1/infer", json=body)
    return "OK" if answer.status_code == 200 else answer.json()["error"]["status"]


def replies(device: Radio) -> int:
    count = 0
    while not device.has_heard_nothing():
        count += 1
    return count


async def test_under_load_counts_and_answers_agree(bundle_root: Path, bundle: Bundle):
    """More at once than the queue takes, a good part of it wrong, over every door."""
    choice = random.Random(0)
    unaries, stream, posts = ([choice.choice(REQUESTS) for _ in range(count)] for count in (400, 400, 200))
    noise = np.random.default_rng(0)
    datagrams = [flipped(frame(bundle, sequence), 0.05, sequence) for sequence in range(1, 201)]
    datagrams += [frame(bundle, sequence, device=8, codec=9) for sequence in range(20)]
    datagrams += choice.choices(datagrams, k=30) + [noise.bytes(int(noise.integers(0, 60))) for _ in range(50)]
    choice.shuffle(datagrams)

    async def sent(device: Radio) -> None:
        for number, datagram in enumerate(datagrams):
            device.send(datagram)
            if number % 20 == 0:
                await asyncio.sleep(0)

    async with (
        running(bundle_root, queue_limit=16, max_batch=4) as (server, at),
        grpc_stub(at["grpc"]) as stub,
        httpx.AsyncClient(base_url=f"http://{at['http']}", timeout=60) as client,
        radio(at["udp"]) as device,
    ):
        told_unary, told_stream, told_http, _ = await asyncio.gather(
            at_once([lambda fields=fields: unary(stub, fields) for fields in unaries], 64),
            streamed(stub, stream),
            at_once([lambda fields=fields: posted(client, fields) for fields in posts], 32),
            sent(device),
        )
        assert (told_unary.total(), told_stream.total(), told_http.total()) == (400, 400, 200)
        assert as_told(counted(server, "grpc")) == told_unary + told_stream
        assert as_told(counted(server, "http")) == told_http
        assert counted(server, "grpc")["queue_full"] > 0

        def frames() -> Counter[str]:
            return Counter(server.metrics.totals(server.metrics.frames))

        await until(lambda: frames().total() == len(datagrams))
        await until(lambda: counted(server, "udp").total() == frames()["ok"])
        assert set(counted(server, "udp")) <= {"ok", "queue_full"}
        # Of the damaged ones a few cannot be read; all that can be gets exactly one reply.
        refusals = frames()["unknown_codec"] + frames()["unknown_level"] + frames()["encoder_mismatch"]
        assert replies(device) == frames()["ok"] + frames()["duplicate"] + refusals
        print(f"grpc {dict(counted(server, 'grpc'))}, http {dict(counted(server, 'http'))}, frames {dict(frames())}")


async def test_of_what_is_cancelled_left_or_late_everything_is_counted(bundle_root: Path, bundle: Bundle):
    """The engine is held until all of it has arrived, so that the number sent is the number that came."""
    now = 100.0
    async with AsyncExitStack() as stack:
        server, at = await stack.enter_async_context(running(bundle_root, lambda: now, deadline_s=DEADLINE_S))
        stub = await stack.enter_async_context(grpc_stub(at["grpc"]))
        device = await stack.enter_async_context(radio(at["udp"]))
        gate, sent = Gate(server), Counter[str]()

        async def arrived(transport: str, count: int) -> None:
            """One of the first is computed, all others wait."""
            sent[transport] += count
            await until(lambda: sample(server, "weaklink_queue_depth") == sent.total() - 1)

        first = asyncio.ensure_future(stub.Infer(request()))
        await until(lambda: sample(server, "weaklink_batch_size_count") == 1)
        sent["grpc"] += 1
        # Cancelled by their callers: single calls, and a stream with requests under way.
        calls = [stub.Infer(request()) for _ in range(3)]
        await arrived("grpc", 3)
        stream = stub.InferStream()
        for _ in range(4):
            await stream.write(request())
        await arrived("grpc", 4)
        for call in (*calls, stream):
            call.cancel()
        # Callers that vanish with their connection, in the middle of a request, too.
        gone = grpc.aio.insecure_channel(at["grpc"], options=[("grpc.use_local_subchannel_pool", 1)])
        left = [edge_pb2_grpc.EdgeInferenceStub(gone).Infer(request()) for _ in range(3)]
        await arrived("grpc", 3)
        await gone.close()
        await asyncio.gather(*left, return_exceptions=True)
        host, port = at["http"].split(":")
        ours = {"codec": "toy", "bitstream": base64.b64encode(PAYLOAD).decode()}
        images = [list(PAYLOAD)] * 2
        tensor = {"name": "bitstream", "datatype": "UINT8", "shape": [2, len(PAYLOAD)], "data": images}
        for transport, path, asked, count in (
            ("http", "/v1/infer", ours, 1),
            ("oip-http", "/v2/models/toy/infer", {"inputs": [tensor]}, 2),
        ):
            body = json.dumps(asked).encode()
            head = f"POST {path} HTTP/1.1\r\nhost: edge\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            for whole in (True, True, False):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(head + (body if whole else body[:10]))
                if whole:
                    await arrived(transport, count)
                await writer.drain()
                writer.close()
            await until(lambda: counted(server, transport)["cancelled"] == 1)
        # Late, on the caller's clock or on the server's.
        hurried = asyncio.ensure_future(stub.Infer(request(), timeout=30))
        patient = asyncio.ensure_future(stub.Infer(request(), timeout=3000))
        await arrived("grpc", 2)
        for sequence in range(3):
            device.send(frame(bundle, sequence))
            await arrived("udp", 1)
        now += DEADLINE_S + 30
        gate.open()
        for late in (first, hurried):
            assert (await refused(late)).code().name == "DEADLINE_EXCEEDED"
        assert (await patient).codec == "toy"
        sent["http"] += 1  # the one that was cut short never waited
        sent["oip-http"] += 1
        for transport, expected in (
            ("grpc", {"deadline_exceeded": 2, "cancelled": 10, "ok": 1}),
            ("http", {"cancelled": 3}),
            ("oip-http", {"cancelled": 5}),
            ("udp", {"deadline_exceeded": 3}),
        ):
            await until(lambda: counted(server, transport).total() >= sent[transport])
            assert counted(server, transport) == expected and sum(expected.values()) == sent[transport]
        assert (await stub.Infer(request())).codec == "toy"
        assert sample(server, "weaklink_queue_depth") == 0
        images = sample(server, "weaklink_batch_size_sum")
        assert images == 3, "what nobody waits for is not computed"
