"""The gRPC door, over a real channel."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
import threading
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edge_server.http2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame
from edge_server.http2.headers import LARGEST_BLOCK, write_headers
from edge_server.service import SERVICE
from semantic_codec.bundle import Bundle
from tests.edge_server.conftest import grpc_stub, make_bundle, running, sample, until
from weaklink.v1 import edge_pb2

PAYLOAD = bytes(range(8))


def request(**fields) -> edge_pb2.InferRequest:
    return edge_pb2.InferRequest(**({"bitstream": PAYLOAD, "codec": "toy"} | fields))


async def refused(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


async def test_an_answer_says_what_was_used(bundle_root: Path):
    async with running(bundle_root) as (server, at), grpc_stub(at["grpc"]) as stub:
        answer = await stub.Infer(
            request(request_id="r1", device="cam", sequence=9, top_k=3, tasks=["shape"], ber_estimate=0.05)
        )
        assert (answer.request_id, answer.device, answer.sequence) == ("r1", "cam", 9)
        assert (answer.codec, answer.version, answer.level) == ("toy", 2, 2)
        assert answer.ber_used == 0.05 and answer.ber_source == edge_pb2.BER_SOURCE_REQUEST
        (shape,) = answer.results
        assert shape.task == "shape" and len(shape.top) == 3
        assert all(score.label == f"shape-{score.index}" for score in shape.top)
        assert 1 >= shape.top[0].confidence >= shape.top[1].confidence >= shape.top[2].confidence >= 0
        assert answer.advice.level == 2
        assert answer.times.total_ms >= answer.times.tail_ms > 0
        assert sample(server, "weaklink_requests_total", transport="grpc", codec="toy", outcome="ok") == 1
        for stage in ("queue", "decode", "tail", "total"):
            assert sample(server, "weaklink_latency_seconds_count", stage=stage) == 1
        assert sample(server, "weaklink_confidence_count", codec="toy", task="shape") == 1


async def test_absent_is_not_zero(bundle_root: Path):
    async with running(bundle_root) as (_, at), grpc_stub(at["grpc"]) as stub:
        absent, zero = await stub.Infer(request()), await stub.Infer(request(ber_estimate=0.0))
        assert (absent.ber_used, absent.ber_source) == (0.02, edge_pb2.BER_SOURCE_PRIOR)
        assert (zero.ber_used, zero.ber_source) == (0.0, edge_pb2.BER_SOURCE_REQUEST)
        assert absent.results[0].top[0].confidence != zero.results[0].top[0].confidence


async def test_the_length_names_the_level_where_none_is_given(bundle_root: Path):
    async with running(bundle_root) as (_, at), grpc_stub(at["grpc"]) as stub:
        for level, size in enumerate((2, 4, 8)):
            assert (await stub.Infer(request(bitstream=PAYLOAD[:size]))).level == level
            assert (await stub.Infer(request(bitstream=PAYLOAD[:size], level=level, codec="", version=1))).version == 1


@pytest.mark.parametrize(
    ("fields", "status", "told", "outcome"),
    [
        ({"bitstream": b""}, "INVALID_ARGUMENT", "bitstream has 0 bytes; allowed: 2, 4, 8 bytes", "invalid_request"),
        ({"bitstream": bytes(7)}, "INVALID_ARGUMENT", "bitstream has 7 bytes", "invalid_request"),
        ({"level": 0}, "INVALID_ARGUMENT", "8 bytes; allowed: 2 bytes at level 0", "invalid_request"),
        ({"level": 3}, "INVALID_ARGUMENT", "level is 3; allowed: 0 to 2", "invalid_request"),
        ({"codec": "none"}, "NOT_FOUND", "codec 'none'; allowed: toy 1, toy 2", "not_found"),
        ({"version": 7}, "NOT_FOUND", "codec 'toy' version 7", "not_found"),
        ({"ber_estimate": math.nan}, "INVALID_ARGUMENT", "ber_estimate is nan; allowed: 0 to 0.5", "invalid_request"),
        ({"ber_estimate": -1e-9}, "INVALID_ARGUMENT", "ber_estimate is -1e-09", "invalid_request"),
        ({"ber_estimate": 0.51}, "INVALID_ARGUMENT", "ber_estimate is 0.51", "invalid_request"),
        ({"ber_estimate": math.inf}, "INVALID_ARGUMENT", "ber_estimate is inf", "invalid_request"),
        ({"erased": [{"first_bit": 60, "bit_count": 5}]}, "INVALID_ARGUMENT", "60, bit_count 5", "invalid_request"),
        ({"erased": [{"first_bit": 1, "bit_count": 0}]}, "INVALID_ARGUMENT", "at least 1 bit", "invalid_request"),
        ({"erased": [{"first_bit": 1, "bit_count": 1}] * 257}, "INVALID_ARGUMENT", "257 ranges", "invalid_request"),
        ({"tasks": ["smell"]}, "INVALID_ARGUMENT", "task is 'smell'; allowed: shape, colour", "invalid_request"),
        ({"top_k": 11}, "INVALID_ARGUMENT", "top_k is 11; allowed: up to 10", "invalid_request"),
        ({"device": "d" * 65}, "INVALID_ARGUMENT", "device has 65 characters", "invalid_request"),
        ({"request_id": "r" * 65}, "INVALID_ARGUMENT", "request_id has 65 characters", "invalid_request"),
        ({"encoder_hash": b"\x01" * 8}, "FAILED_PRECONDITION", "encoder_hash is 0101010101010101", "encoder_mismatch"),
        ({"encoder_hash": b"\x01" * 4}, "INVALID_ARGUMENT", "encoder_hash has 4 bytes; allowed: 8", "invalid_request"),
        ({"bitstream": bytes(70_000)}, "RESOURCE_EXHAUSTED", "bytes; allowed: up to 65536", "too_large"),
    ],
)
async def test_a_bad_request_is_refused_by_name_and_counted_once(
    bundle_root: Path, fields: dict, status: str, told: str, outcome: str
):
    async with running(bundle_root) as (server, at), grpc_stub(at["grpc"]) as stub:
        error = await refused(stub.Infer(request(**fields)))
        assert error.code().name == status
        assert told in error.details() and "fix: " in error.details()
        codec = "unknown" if outcome in ("not_found", "too_large") else "toy"
        assert sample(server, "weaklink_requests_total", transport="grpc", codec=codec, outcome=outcome) == 1
        assert (await stub.Infer(request())).codec == "toy", "the server goes on"


async def test_the_matching_encoder_is_taken(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (_, at), grpc_stub(at["grpc"]) as stub:
        assert (await stub.Infer(request(encoder_hash=bundle.encoder_hash[:8]))).version == 2


async def test_bytes_that_are_no_message(bundle_root: Path):
    async with running(bundle_root) as (server, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        error = await refused(channel.unary_unary(f"/{SERVICE}/Infer")(b"\xff\xff\xff"))
        assert error.code().name == "INVALID_ARGUMENT" and "weaklink.v1.InferRequest" in error.details()
        assert sample(
            server, "weaklink_requests_total", transport="grpc", codec="unknown", outcome="invalid_request"
        ) == 1  # fmt: skip
        error = await refused(channel.unary_unary(f"/{SERVICE}/Infer")(bytes(5 << 20)))
        assert error.code().name == "RESOURCE_EXHAUSTED"


async def test_a_stream_answers_all_and_survives_bad_requests(bundle_root: Path, bitstreams: np.ndarray):
    def requests():
        for number in range(300):
            level = 9 if number % 10 == 0 else 2
            yield request(bitstream=bitstreams[number % 100].tobytes(), request_id=str(number), level=level)

    async with running(bundle_root, stream_window=16) as (server, at), grpc_stub(at["grpc"]) as stub:
        answers = {answer.request_id: answer async for answer in stub.InferStream(requests())}
        assert sorted(map(int, answers)) == list(range(300))
        for number, answer in answers.items():
            if int(number) % 10 == 0:
                assert answer.error.status == "INVALID_ARGUMENT" and "level is 9" in answer.error.message
                assert not answer.results
            else:
                assert answer.results and not answer.HasField("error")
        assert sample(server, "weaklink_requests_total", transport="grpc", codec="toy", outcome="ok") == 270
        assert sample(server, "weaklink_requests_total", transport="grpc", codec="toy", outcome="invalid_request") == 30


async def test_a_stream_that_is_left_counts_every_request(bundle_root: Path):
    async with running(bundle_root) as (server, at), grpc_stub(at["grpc"]) as stub:
        call = stub.InferStream()
        for _ in range(50):
            await call.write(request())
        await call.read()
        call.cancel()

        def ended() -> float:
            return sum(
                sample(server, "weaklink_requests_total", transport="grpc", codec="toy", outcome=outcome)
                for outcome in ("ok", "cancelled")
            )

        before = -1.0
        async with asyncio.timeout(10):
            while ended() == 0 or ended() != before:  # what the server had read by then
                before = ended()
                await asyncio.sleep(0.1)
        assert 1 <= ended() <= 50
        assert sample(server, "weaklink_queue_depth") == 0
        assert (await stub.Infer(request())).codec == "toy"


class Gate:
    """Holds the engine until opened, so that a test decides when batches end."""

    def __init__(self, server) -> None:
        (lane,) = server._scheduler._computing
        self._open, self._infer = threading.Event(), lane._infer
        lane._infer = self._wait

    def _wait(self, batch):
        self._open.wait(30)
        return self._infer(batch)

    def open(self) -> None:
        self._open.set()


async def test_a_full_queue_and_a_late_answer(bundle_root: Path):
    async with running(bundle_root, queue_limit=2) as (server, at), grpc_stub(at["grpc"]) as stub:
        gate = Gate(server)
        first = asyncio.ensure_future(stub.Infer(request()))
        await until(lambda: sample(server, "weaklink_batch_size_count") == 1)
        waiting = [asyncio.ensure_future(stub.Infer(request(), timeout=timeout)) for timeout in (None, 2)]
        await until(lambda: sample(server, "weaklink_queue_depth") == 2)
        error = await refused(stub.Infer(request()))
        assert error.code().name == "RESOURCE_EXHAUSTED" and "2 requests are waiting" in error.details()
        assert (await refused(waiting[1])).code().name == "DEADLINE_EXCEEDED"
        gate.open()
        assert (await first).codec == (await waiting[0]).codec == "toy"
        counted = {
            outcome: sample(server, "weaklink_requests_total", transport="grpc", codec="toy", outcome=outcome)
            for outcome in ("ok", "queue_full", "deadline_exceeded", "cancelled")
        }
        assert counted == {"ok": 2, "queue_full": 1, "deadline_exceeded": 1, "cancelled": 0}


async def test_more_than_the_queue_takes_is_refused_bit_by_bit(bundle_root: Path):
    """Over all ways that are read in turns; whoever asks for health meanwhile is answered."""
    count, message = 60, {"codec": "toy", "bitstream": base64.b64encode(PAYLOAD).decode()}
    async with (
        running(bundle_root, queue_limit=2, max_batch=1) as (server, at),
        grpc_stub(at["grpc"]) as stub,
        httpx.AsyncClient(base_url=f"http://{at['http']}", timeout=30, limits=httpx.Limits(max_connections=None)) as http,
    ):
        gate = Gate(server)
        first = asyncio.ensure_future(stub.Infer(request()))
        await until(lambda: sample(server, "weaklink_batch_size_count") == 1)
        waiting = [asyncio.ensure_future(stub.Infer(request())) for _ in range(2)]
        await until(lambda: sample(server, "weaklink_queue_depth") == 2)
        answers = [answer async for answer in stub.InferStream(iter([request()] * count))]
        assert [answer.error.status for answer in answers] == ["RESOURCE_EXHAUSTED"] * count
        refusals = await asyncio.gather(*(refused(stub.Infer(request())) for _ in range(count)))
        assert {error.code().name for error in refusals} == {"RESOURCE_EXHAUSTED"}
        posts = [asyncio.ensure_future(http.post("/v1/infer", json=message)) for _ in range(count)]
        assert (await http.get("/healthz")).status_code == 200
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {429}
        gate.open()
        assert [(await call).codec for call in (first, *waiting)] == ["toy"] * 3
        counted = [
            sample(server, "weaklink_requests_total", transport=transport, codec="toy", outcome=outcome)
            for transport, outcome in (("grpc", "ok"), ("grpc", "queue_full"), ("http", "queue_full"))
        ]
        assert counted == [3, 2 * count, count]


@pytest.mark.parametrize("method", ["Infer", "InferStream"])
async def test_a_call_that_breaks_off_is_refused_and_counted(bundle_root: Path, method: str):
    """The end of the call comes before the end of its message."""
    async with running(bundle_root) as (server, at):
        head = [(":method", "POST"), (":path", f"/{SERVICE}/{method}"), ("content-type", "application/grpc")]
        read, write = await asyncio.open_connection(*at["grpc"].split(":"))
        write.write(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, write_headers(head)))
        write.write(frame(DATA, END_STREAM, 1, b"\0\0\0\0\x09half"))
        async with asyncio.timeout(30):
            await read.readuntil(b"grpc-status\x013")  # INVALID_ARGUMENT
        write.close()
        counted = {"transport": "grpc", "codec": "unknown", "outcome": "invalid_request"}
        assert sample(server, "weaklink_requests_total", **counted) == 1


@pytest.mark.parametrize("method", ["Infer", "InferStream"])
async def test_a_call_whose_headers_are_wrong_is_counted(bundle_root: Path, method: str):
    head = [(":method", "POST"), (":path", f"/{SERVICE}/{method}"), ("content-type", "application/grpc")]
    wrong = [head + [("grpc-timeout", "-1S")], head + [("x-bin", "\xff")], [(":method", "GET"), *head[1:]]]
    other = [(":method", "GET"), (":path", f"/{SERVICE}/ListCodecs"), head[2]]
    async with running(bundle_root) as (server, at):
        read, write = await asyncio.open_connection(*at["grpc"].split(":"))
        write.write(PREFACE + frame(SETTINGS, 0, 0, b""))
        for place, headers in enumerate([*wrong, other]):
            write.write(frame(HEADERS, END_HEADERS | END_STREAM, 2 * place + 1, write_headers(headers)))
            async with asyncio.timeout(30):
                await read.readuntil(b"grpc-status\x013")  # INVALID_ARGUMENT
        write.close()
        counted = {"transport": "grpc", "codec": "unknown", "outcome": "invalid_request"}
        assert sample(server, "weaklink_requests_total", **counted) == len(wrong)


async def test_a_call_with_more_headers_than_there_may_be_costs_no_other_call(bundle_root: Path):
    async with running(bundle_root) as (server, at), grpc_stub(at["grpc"]) as stub:
        stream = stub.InferStream()
        await stream.write(request())
        assert (await stream.read()).codec == "toy"
        error = await refused(stub.Infer(request(), metadata=[("a", "x" * 17_000)]))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the headers have 17" in error.details() and f"allowed: up to {LARGEST_BLOCK}" in error.details()
        await stream.write(request())
        assert (await stream.read()).codec == "toy"
        counted = {"transport": "grpc", "codec": "unknown", "outcome": "too_large"}
        assert sample(server, "weaklink_requests_total", **counted) == 1


async def test_a_call_that_is_given_up_before_its_message_is_whole_is_counted(bundle_root: Path):
    head = [(":method", "POST"), (":path", f"/{SERVICE}/Infer"), ("content-type", "application/grpc")]
    whole = request().SerializeToString()
    async with running(bundle_root) as (server, at):
        ended = lambda outcome, codec: sample(  # noqa: E731
            server, "weaklink_requests_total", transport="grpc", codec=codec, outcome=outcome
        )
        _, write = await asyncio.open_connection(*at["grpc"].split(":"))
        write.write(PREFACE + frame(SETTINGS, 0, 0, b""))
        for number in (1, 3, 5):
            write.write(frame(HEADERS, END_HEADERS, number, write_headers(head)))
        write.write(frame(DATA, 0, 1, b"\0\0\0\0\x09half") + frame(RST_STREAM, 0, 1, bytes(4)))
        await until(lambda: ended("cancelled", "unknown") == 1)
        write.write(frame(DATA, END_STREAM, 5, struct.pack(">BI", 0, len(whole)) + whole))
        await until(lambda: ended("ok", "toy") == 1)
        write.close()
        await until(lambda: ended("cancelled", "unknown") == 2)
    assert ended("ok", "toy") == 1 and ended("cancelled", "unknown") == 2 and ended("cancelled", "toy") == 0


async def test_a_call_that_has_not_said_what_it_wants_does_not_hold_up_the_end(bundle_root: Path):
    async with running(bundle_root, drain_s=3600) as (_, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        call = channel.stream_stream(f"/{SERVICE}/Infer")()
        await call.wait_for_connection()


async def test_one_device_does_not_fill_the_queue(bundle_root: Path):
    async with running(bundle_root, device_in_flight=2) as (server, at), grpc_stub(at["grpc"]) as stub:
        gate = Gate(server)
        held = [asyncio.ensure_future(stub.Infer(request(device="cam")))]
        await until(lambda: sample(server, "weaklink_batch_size_count") == 1)
        held.append(asyncio.ensure_future(stub.Infer(request(device="cam"))))
        await until(lambda: sample(server, "weaklink_queue_depth") == 1)
        error = await refused(stub.Infer(request(device="cam")))
        assert error.code().name == "RESOURCE_EXHAUSTED"
        assert "device 'cam' has 2 requests under way; allowed: up to 2" in error.details()
        for device in ("other", "", "", ""):
            held.append(asyncio.ensure_future(stub.Infer(request(device=device))))
        await until(lambda: sample(server, "weaklink_queue_depth") == 5)
        gate.open()
        await asyncio.gather(*held)
        for _ in range(3):
            await stub.Infer(request(device="cam"))
        assert sample(server, "weaklink_requests_total", transport="grpc", codec="toy", outcome="limit_reached") == 1


async def test_streams_of_one_caller_are_bounded(bundle_root: Path):
    async with running(bundle_root, stream_limit=2) as (server, at), grpc_stub(at["grpc"]) as stub:
        streams = [stub.InferStream() for _ in range(2)]
        for stream in streams:
            await stream.write(request())
            assert (await stream.read()).codec == "toy"
        error = await refused(stub.InferStream().read())
        assert error.code().name == "RESOURCE_EXHAUSTED" and "2 streams open; allowed: up to 2" in error.details()
        counted = {"transport": "grpc", "codec": "unknown", "outcome": "limit_reached"}
        assert sample(server, "weaklink_requests_total", **counted) == 1
        await streams[0].done_writing()
        assert await streams[0].read() == grpc.aio.EOF
        third = stub.InferStream()
        await third.write(request())
        assert (await third.read()).codec == "toy"


async def test_the_servers_own_deadline(bundle_root: Path):
    """It passes while one request is computed and another waits: neither is answered, the second is not computed."""
    now = 100.0
    async with running(bundle_root, lambda: now, deadline_s=5) as (server, at), grpc_stub(at["grpc"]) as stub:
        gate = Gate(server)
        computed = asyncio.ensure_future(stub.Infer(request()))
        await until(lambda: sample(server, "weaklink_batch_size_count") == 1)
        waiting = asyncio.ensure_future(stub.Infer(request()))
        await until(lambda: sample(server, "weaklink_queue_depth") == 1)
        now += 5
        gate.open()
        for call in (computed, waiting):
            error = await refused(call)
            assert error.code().name == "DEADLINE_EXCEEDED" and "fix: " in error.details()
        assert sample(server, "weaklink_batch_size_count") == 1


async def test_feedback_becomes_accuracy(bundle_root: Path):
    async with running(bundle_root) as (server, at), grpc_stub(at["grpc"]) as stub:
        answer = await stub.Infer(request(device="cam", sequence=1, ber_estimate=0.03))
        right = answer.results[0].top[0].index

        def feedback(**fields):
            defaults = {"device": "cam", "sequence": 1, "true_class": right}
            return stub.Feedback(edge_pb2.FeedbackRequest(**(defaults | fields)))

        verdicts = [
            await feedback(),
            await feedback(),
            await feedback(sequence=2),
            await feedback(device="nobody"),
            await feedback(task="colour", true_class=(answer.results[1].top[0].index + 1) % 3),
        ]
        assert [(one.matched, one.correct) for one in verdicts] == [
            (True, True), (True, True), (False, False), (False, False), (True, False),
        ]  # fmt: skip
        for fields, status in (
            ({"true_class": 10}, "INVALID_ARGUMENT"),
            ({"task": "smell"}, "INVALID_ARGUMENT"),
            ({"codec": "x"}, "NOT_FOUND"),
            ({"device": "x" * 70_000}, "RESOURCE_EXHAUSTED"),  # more than a message may have: not even read
        ):
            assert (await refused(feedback(**fields))).code().name == status
        counted = {
            outcome: sample(server, "weaklink_feedback_total", outcome=outcome)
            for outcome in ("ok", "repeated", "unknown", "invalid")
        }
        assert counted == {"ok": 2, "repeated": 1, "unknown": 2, "invalid": 4}
        for task, correct in (("shape", 1), ("colour", 0)):
            labels = {"codec": "toy", "task": task, "ber_bucket": "5e-2"}
            assert sample(server, "weaklink_predictions_total", **labels) == 1
            assert sample(server, "weaklink_correct_predictions_total", **labels) == correct


async def test_a_compressed_message_that_is_too_large_is_refused_alone(bundle_root: Path):
    async with running(bundle_root) as (_, at), grpc_stub(at["grpc"]) as stub:
        asked = [request(request_id="1"), request(request_id="2", bitstream=bytes(70_000)), request(request_id="3")]
        call = stub.InferStream(iter(asked), compression=grpc.Compression.Gzip)
        answers = [answer async for answer in call]
        assert await call.code() is grpc.StatusCode.OK
        refused = [answer.error.message for answer in answers if answer.HasField("error")]
        assert len(answers) == 3 and len(refused) == 1 and "more than 65536 bytes" in refused[0]


async def test_metadata_up_to_the_limit_are_taken_by_every_method(bundle_root: Path):
    async with running(bundle_root) as (_, at), grpc_stub(at["grpc"]) as stub:
        metadata = (("x-trace", 15_000 * "a"),)
        for _ in range(20):  # grpcio's own server would refuse some nine in ten of these
            assert await stub.ListCodecs(edge_pb2.ListCodecsRequest(), metadata=metadata)
            assert await stub.Infer(request(), metadata=metadata)


async def test_codecs_are_listed_with_the_refused_ones(tmp_path: Path, bundle: Bundle):
    make_bundle(tmp_path)
    (make_bundle(tmp_path, "worse", codec_id=9) / "encoder.bin").write_bytes(b"")
    async with running(tmp_path) as (_, at), grpc_stub(at["grpc"]) as stub:
        listed = await stub.ListCodecs(edge_pb2.ListCodecsRequest())
        assert [codec.name for codec in listed.codecs] == ["toy"]
        assert [one.path for one in listed.refused] == ["worse/1"] and "SHA-256" in listed.refused[0].reason
        codec = await stub.GetCodec(edge_pb2.GetCodecRequest(codec="toy"))
        assert codec == listed.codecs[0]
        assert [(level.number, level.symbols, level.payload_bytes) for level in codec.levels] == [
            (0, 16, 2), (1, 32, 4), (2, 64, 8),
        ]  # fmt: skip
        assert json.loads(codec.manifest_json)["blind_ber"] == 0.02
        for name in ("worse", "x" * 17_000):  # the second in more words than a client takes headers
            error = await refused(stub.GetCodec(edge_pb2.GetCodecRequest(codec=name)))
            assert error.code().name == "NOT_FOUND" and error.details().startswith(f"codec '{name[:100]}")


async def test_health(bundle_root: Path):
    async with running(bundle_root) as (_, at), grpc.aio.insecure_channel(at["grpc"]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            checked = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert checked.status == health_pb2.HealthCheckResponse.SERVING
        error = await refused(health.Check(health_pb2.HealthCheckRequest(service="none")))
        assert error.code().name == "NOT_FOUND"
