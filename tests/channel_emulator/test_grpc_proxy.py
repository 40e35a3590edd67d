"""The gRPC proxy in front of a real edge service that keeps what it receives."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from channel_emulator.emulator import PROXIES
from channel_emulator.grpc_proxy import OPTIONS, GrpcProxy
from channel_emulator.link import bit_errors
from semantic_codec.errors import AlreadyExists, ConfigError
from weaklink.v1 import edge_pb2, edge_pb2_grpc

BITSTREAM = bytes(range(32))


@pytest.fixture
async def through(emulator, grpc_edge):
    """through(up, down) creates a link to the edge: (link, stub, channel)."""
    channels = []

    async def create(up=(), down=(), name="gateway"):
        body = {"name": name, "kind": "grpc", "upstream": grpc_edge.address, "up": list(up), "down": list(down)}
        link = await emulator.create(body)
        channel = grpc.aio.insecure_channel(str(link.settings.listen))
        channels.append(channel)
        return link, edge_pb2_grpc.EdgeInferenceStub(channel), channel

    yield create
    for channel in channels:
        await channel.close()


def request(**more):
    return edge_pb2.InferRequest(
        **{"bitstream": BITSTREAM, "device": "cam", "codec": "cifar10", "ber_estimate": 0.05, "sequence": 7} | more
    )


async def test_without_channels_everything_passes_as_it_is(through, grpc_edge):
    link, stub, _ = await through()
    call = stub.Infer(request(), timeout=20, metadata=(("tenant", "a"), ("token-bin", b"\x00\xff")))
    assert await call == edge_pb2.InferResponse(device="cam", sequence=7)
    assert grpc_edge.requests == [request()]
    assert grpc_edge.metadata["tenant"] == "a" and grpc_edge.metadata["token-bin"] == b"\x00\xff"
    assert 0 < grpc_edge.time_remaining < 21  # gRPC sends a deadline rounded up
    assert dict(await call.initial_metadata())["edge-initial"] == "i"
    assert dict(await call.trailing_metadata()) == {"edge-trailer": "t", "edge-bin": b"\x00\xff"}
    assert link.tallies["up"].frames == {"clean": 1} and link.in_flight == 0


async def test_without_a_deadline_none_is_added(through, grpc_edge):
    _, stub, _ = await through()
    await stub.Infer(request())
    assert grpc_edge.time_remaining is None


async def test_only_the_bitstream_is_damaged_and_the_true_ber_is_counted(through, grpc_edge):
    link, stub, _ = await through([{"channel": "bsc", "ber": 0.1}])
    for _ in range(40):
        await stub.Infer(request())
    flipped = 0
    for received in grpc_edge.requests:
        flipped += bit_errors(BITSTREAM, received.bitstream)
        received.bitstream = BITSTREAM
        assert received == request()
    assert link.tallies["up"].bits == 40 * 256
    assert link.tallies["up"].flipped == flipped > 0
    assert link.tallies["down"].flipped == 0


async def test_the_same_seed_gives_the_same_bitstreams_over_grpc_as_over_udp(
    through, grpc_edge, emulator, udp_upstream, connect
):
    noise = [{"channel": "bsc", "ber": 0.1}]
    _, stub, _ = await through(noise)
    radio = await emulator.create({"name": "radio", "kind": "udp", "upstream": udp_upstream.address, "up": noise})
    client = await connect(radio.settings.listen)
    for _ in range(10):
        await stub.Infer(request())
        await client.exchange(BITSTREAM)
    assert [received.bitstream for received in grpc_edge.requests] == udp_upstream.frames


async def test_truncation_keeps_the_length_and_marks_erased_bits(through, grpc_edge):
    _, stub, _ = await through([{"channel": "truncation", "probability": 1, "keep_bytes": 20}])
    await stub.Infer(request())
    (received,) = grpc_edge.requests
    assert received.bitstream == BITSTREAM[:20] + bytes(12)
    assert [(one.first_bit, one.bit_count) for one in received.erased] == [(160, 96)]


@pytest.mark.parametrize(("direction", "word", "reached"), [("up", "request", 0), ("down", "response", 1)])
async def test_a_lost_call_is_unavailable(through, grpc_edge, direction, word, reached):
    link, stub, _ = await through(**{direction: [{"channel": "erasure", "probability": 1}]})
    with pytest.raises(grpc.aio.AioRpcError) as lost:
        await stub.Infer(request())
    assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
    assert lost.value.details() == f"the {word} was lost on the emulated link 'gateway'"
    assert len(grpc_edge.requests) == reached
    assert link.tallies[direction].frames == {"lost": 1}


async def test_status_details_and_trailers_of_the_edge_pass(through):
    _, stub, _ = await through([{"channel": "bsc", "ber": 0.1}])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Infer(request(codec="refuse"))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.details() == "encoder does not match"
    assert dict(refused.value.initial_metadata())["edge-initial"] == "i"
    assert dict(refused.value.trailing_metadata())["why-bin"] == b"\x01\xfe"


async def test_calls_beyond_the_bound_are_refused_and_counted(through, grpc_edge, monkeypatch):
    monkeypatch.setitem(PROXIES, "grpc", partial(GrpcProxy, max_in_flight=1))
    link, stub, _ = await through()
    first = stub.Infer(request(codec="wait"))
    while not grpc_edge.requests:
        await asyncio.sleep(0.01)
    with pytest.raises(grpc.aio.AioRpcError, match="allowed: 1; fix: slow down") as refused:
        await stub.Infer(request())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert link.tallies["up"].frames["queue_full"] == 1 and link.in_flight == 1
    first.cancel()


async def test_the_deadline_holds_during_delay_and_at_the_edge(through):
    _, stub, _ = await through([{"channel": "delay", "delay_ms": 60_000}])
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await stub.Infer(request(), timeout=0.2)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    link, stub, _ = await through(name="second")
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await stub.Infer(request(codec="wait"), timeout=0.2)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    while link.in_flight:
        await asyncio.sleep(0.01)


async def test_delay_adds_up_both_ways(through):
    delay = [{"channel": "delay", "delay_ms": 60}]
    _, stub, _ = await through(delay, delay)
    clock = asyncio.get_running_loop().time
    began = clock()
    await stub.Infer(request())
    assert clock() - began >= 0.12


async def test_an_edge_that_is_down_is_unavailable(emulator):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        upstream = "127.0.0.1:{}".format(unused.getsockname()[1])
    link = await emulator.create({"name": "gateway", "kind": "grpc", "upstream": upstream})
    async with grpc.aio.insecure_channel(str(link.settings.listen)) as channel:
        stub = edge_pb2_grpc.EdgeInferenceStub(channel)
        for call in (stub.Infer(request()), stub.ListCodecs(edge_pb2.ListCodecsRequest())):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


def test_an_edge_that_is_back_is_soon_called_again():
    """The option alone: only a long outage tells gRPC's own, which grow to two minutes, from these."""
    assert dict(OPTIONS)["grpc.max_reconnect_backoff_ms"] == 2000


@pytest.mark.parametrize("name", ["http_proxy", "grpc_proxy"])
async def test_the_environment_s_http_proxy_is_not_on_the_way(emulator, grpc_edge, monkeypatch, name):
    for exempt in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(exempt, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    link = await emulator.create({"name": "gateway", "kind": "grpc", "upstream": grpc_edge.address})
    async with grpc.aio.insecure_channel(str(link.settings.listen), options=OPTIONS) as channel:
        assert await edge_pb2_grpc.EdgeInferenceStub(channel).Infer(request(), timeout=20)


async def test_streams_are_damaged_message_by_message(through, grpc_edge):
    link, stub, _ = await through([{"channel": "bsc", "ber": 0.1}])

    async def send():
        for number in range(20):
            yield request(request_id=str(number), device=f"cam{number % 2}")

    answers = [answer.request_id async for answer in stub.InferStream(send())]
    assert answers == [str(number) for number in range(20)]
    flipped = sum(bit_errors(BITSTREAM, received.bitstream) for received in grpc_edge.requests)
    assert link.tallies["up"].flipped == flipped > 0
    assert {row["device"] for row in link.as_json()["devices"]} == {"cam0", "cam1"}


async def test_a_lost_message_of_a_stream_is_silence_and_a_copy_is_answered_too(through, grpc_edge):
    link, stub, _ = await through(
        [{"channel": "erasure", "probability": 0.3}, {"channel": "duplication", "probability": 0.3}]
    )

    async def send():
        for number in range(60):
            yield request(request_id=str(number))

    answers = [answer.request_id async for answer in stub.InferStream(send())]
    frames = link.tallies["up"].frames
    assert len(answers) == len(grpc_edge.requests) == 60 - frames["lost"] + frames["duplicate"]
    assert frames["lost"] > 0 and frames["duplicate"] > 0


async def test_messages_of_a_stream_may_overtake_each_other(through):
    _, stub, _ = await through([{"channel": "reordering", "probability": 0.5, "hold_ms": 50}])

    async def send():
        for number in range(20):
            yield request(request_id=str(number))

    answers = [int(answer.request_id) async for answer in stub.InferStream(send())]
    assert sorted(answers) == list(range(20)) != answers


@pytest.mark.parametrize("down", [[], [{"channel": "delay", "delay_ms": 100}]], ids=["at once", "delayed"])
async def test_a_stream_ends_with_the_status_of_the_edge_behind_its_answers(through, down):
    _, stub, _ = await through(down=down)

    async def send():
        yield request(request_id="1")
        yield request(request_id="2")
        yield request(codec="refuse")

    answers = []
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        async for answer in stub.InferStream(send()):
            answers.append(answer.request_id)
    assert answers == ["1", "2"]
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.UNAVAILABLE, "draining")
    assert dict(failed.value.trailing_metadata()) == {"why-bin": b"\x01\xfe"}


async def test_a_stream_that_its_client_cancels_leaves_nothing_behind(through, grpc_edge):
    link, stub, _ = await through()
    before = len(asyncio.all_tasks())
    call = stub.InferStream()
    await call.write(request(request_id="1"))
    assert (await call.read()).request_id == "1"
    call.cancel()
    while len(asyncio.all_tasks()) > before:
        await asyncio.sleep(0.01)
    assert await stub.Infer(request())


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_messages_of_a_stream_are_in_flight_until_they_leave(through, grpc_edge, direction):
    link, stub, _ = await through(**{direction: [{"channel": "delay", "delay_ms": 100}]})
    call = stub.InferStream()
    for _ in range(3):
        await call.write(request())
    while link.in_flight < 3:
        await asyncio.sleep(0.005)
    assert [await call.read() for _ in range(3)] == 3 * [edge_pb2.InferResponse(device="cam")]
    assert link.in_flight == 0
    link.change({direction: [{"channel": "delay", "delay_ms": 60_000}]})
    await call.write(request())
    while link.in_flight < 1:
        await asyncio.sleep(0.005)
    call.cancel()
    while link.in_flight:
        await asyncio.sleep(0.005)


async def test_other_methods_pass_without_damage(through):
    link, stub, channel = await through([{"channel": "erasure", "probability": 1}])
    reply = await stub.Feedback(edge_pb2.FeedbackRequest(device="cam", sequence=7, true_class=3))
    assert reply == edge_pb2.FeedbackResponse(matched=True, correct=True)
    assert (await stub.ListCodecs(edge_pb2.ListCodecsRequest())).codecs[0].name == "digits"
    health = health_pb2_grpc.HealthStub(channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    watching = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
    watching.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await stub.GetCodec(edge_pb2.GetCodecRequest())
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert not link.tallies["up"].frames


async def test_bytes_that_are_no_request_reach_the_edge_as_they_are(through):
    _, _, channel = await through([{"channel": "bsc", "ber": 0.5}])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await channel.unary_unary("/weaklink.v1.EdgeInference/Infer")(b"\xff\xff\xff")
    # What grpc.aio itself answers to a message that it cannot parse.
    assert refused.value.code() is grpc.StatusCode.UNKNOWN and "DecodeError" in refused.value.details()


async def test_messages_beyond_the_usual_limit_are_left_to_the_edge(through, grpc_edge):
    _, stub, _ = await through()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Infer(request(bitstream=bytes(5_000_000)))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in refused.value.details() and grpc_edge.requests == []


async def test_a_busy_port_is_refused(emulator, through, grpc_edge):
    link, _, _ = await through()
    body = {"name": "second", "kind": "grpc", "upstream": grpc_edge.address, "listen": str(link.settings.listen)}
    with pytest.raises(AlreadyExists, match=str(link.settings.listen)):
        await emulator.create(body)
    with pytest.raises(ConfigError, match="192.0.2.1"):
        await emulator.create(body | {"listen": "192.0.2.1:9000"})
    assert [one.settings.name for one in emulator.links()] == ["gateway"]
