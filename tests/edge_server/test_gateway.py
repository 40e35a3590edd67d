"""The raw-frame door, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_server.admission import BURST
from semantic_codec.bundle import Bundle, load_bundle
from semantic_codec.frame import encode_frame
from semantic_codec.header import Header
from semantic_codec.reply import REPLY_BYTES, Refusal, ReplyStatus, read_reply
from tests.edge_server.conftest import LEVELS, grpc_stub, has_ipv6, make_bundle, running, sample, until
from tests.edge_server.test_service import Gate
from weaklink.v1 import edge_pb2

PAYLOAD = bytes(range(8))


class Radio:
    """A device's socket. A plain one: asyncio's transports send no empty datagram, a radio may."""

    def __init__(self, address: str, source: str = "127.0.0.1") -> None:
        family, host = (socket.AF_INET6, "::1") if ":" in source else (socket.AF_INET, "127.0.0.1")
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((source, 0))
        self._socket.setblocking(False)
        self._socket.connect((host, int(address.rpartition(":")[2])))
        self.send, self.close = self._socket.send, self._socket.close

    async def reply(self) -> bytes:
        async with asyncio.timeout(10):
            return await asyncio.get_running_loop().sock_recv(self._socket, 1024)

    def has_heard_nothing(self) -> bool:
        try:
            return not self._socket.recv(1024)
        except BlockingIOError:
            return True


@contextlib.asynccontextmanager
async def radio(address: str, source: str = "127.0.0.1") -> AsyncIterator[Radio]:
    with contextlib.closing(Radio(address, source)) as device:
        yield device


def frame(bundle: Bundle, sequence: int = 1, device: int = 7, level: int = 2, codec: int = 5, payload: bytes = PAYLOAD):
    size = LEVELS[level] // 8 if level < len(LEVELS) else len(payload)
    return encode_frame(Header(codec, level, device, sequence), payload[:size], bundle.encoder_hash)


def flipped(data: bytes, ber: float, seed: int = 0) -> bytes:
    flips = np.packbits(np.random.default_rng(seed).random(8 * len(data)) < ber)
    return (np.frombuffer(data, np.uint8) ^ flips).tobytes()


async def counted(server, outcome: str, at_least: int = 1) -> float:
    async with asyncio.timeout(10):
        while sample(server, "weaklink_frames_total", outcome=outcome) < at_least:
            await asyncio.sleep(0.005)
    return sample(server, "weaklink_frames_total", outcome=outcome)


async def test_a_frame_is_answered_as_grpc_would(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device, grpc_stub(at["grpc"]) as stub:
        for level in range(3):
            device.send(frame(bundle, sequence=level + 1, level=level))
            reply = read_reply(await device.reply(), device=7)
            expected = await stub.Infer(
                edge_pb2.InferRequest(bitstream=PAYLOAD[: LEVELS[level] // 8], device="7", codec="toy")
            )
            best = expected.results[0].top[0]
            assert expected.ber_source == edge_pb2.BER_SOURCE_ESTIMATED
            assert (reply.sequence, reply.status, reply.class_index) == (level + 1, ReplyStatus.ANSWERED, best.index)
            assert reply.confidence == pytest.approx(best.confidence, abs=0.5 / 63 + 1e-6)
            assert reply.advice_level == expected.advice.level
        assert sample(server, "weaklink_frames_total", outcome="ok") == 3
        assert sample(server, "weaklink_requests_total", transport="udp", codec="toy", outcome="ok") == 3
        assert sample(server, "weaklink_estimated_ber_count", codec="toy") == 6


async def test_an_older_version_is_known_by_its_encoder(bundle_root: Path):
    old = load_bundle(bundle_root / "toy" / "1")
    async with running(bundle_root) as (_, at), radio(at["udp"]) as device, grpc_stub(at["grpc"]) as stub:
        device.send(frame(old))
        reply = read_reply(await device.reply(), device=7)
        expected = await stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD, device="7", version=1))
        assert reply.class_index == expected.results[0].top[0].index


async def test_the_reply_is_for_this_device_and_no_longer_than_the_frame(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (_, at), radio(at["udp"]) as device:
        device.send(frame(bundle, level=0))
        data = await device.reply()
        assert len(data) == REPLY_BYTES <= len(frame(bundle, level=0))
        assert read_reply(data, device=8) is None


async def test_a_duplicate_gets_the_earlier_reply_and_no_second_inference(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
        device.send(frame(bundle))
        first = await device.reply()
        device.send(frame(bundle, payload=bytes(8)))
        assert await device.reply() == first
        assert sample(server, "weaklink_frames_total", outcome="duplicate") == 1
        assert sample(server, "weaklink_requests_total", transport="udp", codec="toy", outcome="ok") == 1


async def test_a_duplicate_of_a_frame_under_way_waits_for_its_reply(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device, radio(at["udp"]) as elsewhere:
        gate = Gate(server)
        device.send(frame(bundle))
        await counted(server, "ok")
        elsewhere.send(frame(bundle))
        await counted(server, "duplicate")
        gate.open()
        assert await device.reply() == await elsewhere.reply()
        assert sample(server, "weaklink_requests_total", transport="udp", codec="toy", outcome="ok") == 1


async def test_a_restart_from_zero_is_accepted(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
        for sequence in (0, 1, 2, 0, 1):
            device.send(frame(bundle, sequence=sequence))
            assert read_reply(await device.reply(), device=7).sequence == sequence
        assert sample(server, "weaklink_frames_total", outcome="ok") == 5


async def test_pilots_estimate_the_ber_and_failures_push_it_up(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device, grpc_stub(at["grpc"]) as stub:

        async def estimate() -> float:
            answer = await stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD, device="7"))
            assert answer.ber_source == edge_pb2.BER_SOURCE_ESTIMATED
            return answer.ber_used

        for sequence in range(32):
            device.send(flipped(frame(bundle, sequence), 0.05, seed=sequence))
            await device.reply()
        before = await estimate()
        assert before == pytest.approx(0.05, rel=0.25)
        device.send(np.random.default_rng(1).bytes(26))
        await counted(server, "bad_header")
        assert await estimate() > before


@pytest.mark.parametrize(
    ("fields", "outcome", "refusal"),
    [
        ({"codec": 9}, "unknown_codec", Refusal.UNKNOWN_CODEC),
        ({"level": 11}, "unknown_level", Refusal.UNKNOWN_LEVEL),
    ],
)
async def test_a_readable_frame_that_cannot_be_served_is_told_why(
    bundle_root: Path, bundle: Bundle, fields: dict, outcome: str, refusal: Refusal
):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
        device.send(frame(bundle, **fields))
        reply = read_reply(await device.reply(), device=7)
        assert (reply.status, reply.class_index, reply.sequence) == (ReplyStatus.REFUSED, refusal, 1)
        assert sample(server, "weaklink_frames_total", outcome=outcome) == 1


async def test_an_encoder_that_does_not_match_is_refused(bundle_root: Path, tmp_path: Path):
    stranger = load_bundle(make_bundle(tmp_path, version=3))
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
        device.send(frame(stranger))
        reply = read_reply(await device.reply(), device=7)
        assert (reply.status, reply.class_index) == (ReplyStatus.REFUSED, Refusal.ENCODER_MISMATCH)
        assert sample(server, "weaklink_frames_total", outcome="encoder_mismatch") == 1


async def test_a_cut_frame_is_a_frame_with_erasures(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
        device.send(frame(bundle)[:-2])
        assert read_reply(await device.reply(), device=7).status == ReplyStatus.ANSWERED
        assert sample(server, "weaklink_frames_total", outcome="ok") == 1


async def test_a_frame_shorter_than_a_reply_gets_none(bundle_root: Path, bundle: Bundle):
    """Also not as the repetition of a longer one: whoever gives a false address has no more sent there than they sent."""
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
        whole = frame(bundle, level=0)
        device.send(whole)
        await device.reply()
        device.send(whole[: REPLY_BYTES - 1])
        await counted(server, "bad_length")
        assert device.has_heard_nothing()
        device.send(whole[:REPLY_BYTES])
        assert len(await device.reply()) == REPLY_BYTES
        assert sample(server, "weaklink_frames_total", outcome="duplicate") == 1


@pytest.mark.parametrize(
    "host, flooded_from, elsewhere, shown",
    [("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.2:"), ("::1", "::1", "::1", "[::1]:"), ("::", "127.0.0.2", "::1", "[::ffff:127.0.0.2]:")],
)
async def test_noise_is_dropped_unread_while_devices_are_answered(
    bundle_root: Path, bundle: Bundle, caplog, host: str, flooded_from: str, elsewhere: str, shown: str
):
    """Of a sender that floods, of its neighbour at the same address and of one elsewhere; each datagram is counted."""
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no ::1")
    noise, sent = np.random.default_rng(3).bytes(26), 0
    async with (
        running(bundle_root, noise_rate=1, host=host, insecure=True) as (server, at),
        contextlib.AsyncExitStack() as radios,
    ):
        flooder, neighbour, device = [
            await radios.enter_async_context(radio(at["udp"], source)) for source in (flooded_from, flooded_from, elsewhere)
        ]
        for round_number in range(300):
            for _ in range(40):
                flooder.send(noise)
            sent += 40
            if round_number % 10 == 0:
                for number, honest in enumerate((neighbour, device), 7):
                    honest.send(frame(bundle, sequence=round_number, device=number))
                    assert read_reply(await honest.reply(), device=number).status == ReplyStatus.ANSWERED
                    sent += 1
        assert flooder.has_heard_nothing()
        assert [record.message for record in caplog.records if "a flood of frames" in record.message][0].startswith(
            f"a flood of frames that cannot be read, from {shown}"
        )
        await until(lambda: sum(server.metrics.totals(server.metrics.frames).values()) == sent)
        frames = server.metrics.totals(server.metrics.frames)
        assert frames["ok"] == 60 and frames["bad_header"] <= BURST + 60
        assert frames["rate_limited"] + frames.get("dropped_by_kernel", 0) == sent - 60 - frames["bad_header"]
        assert sys.platform != "linux" or frames["dropped_by_kernel"] > 0


async def test_empty_short_long_and_random_frames_are_counted_and_not_answered(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
        for size in (0, 1, 5, 60_000):
            device.send(bytes(size))
        await counted(server, "bad_length", 4)
        device.send(np.random.default_rng(2).bytes(26))
        await counted(server, "bad_header")
        assert device.has_heard_nothing()
        device.send(frame(bundle))
        assert read_reply(await device.reply(), device=7).status == ReplyStatus.ANSWERED


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(st.binary(max_size=40), min_size=1, max_size=30))
def test_any_bytes_are_counted_exactly_once(bundle_root: Path, frames: list[bytes]):
    async def flood() -> None:
        async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
            for data in frames:
                device.send(data)

            def total() -> float:
                (metric,) = (each for each in server.metrics.registry.collect() if each.name == "weaklink_frames")
                return sum(each.value for each in metric.samples if each.name.endswith("_total"))

            async with asyncio.timeout(10):
                while total() < len(frames):
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.01)
            assert total() == len(frames)

    asyncio.run(flood())


async def test_a_full_queue_says_busy_and_the_retry_is_served(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root, queue_limit=1) as (server, at), radio(at["udp"]) as device:
        gate = Gate(server)
        device.send(frame(bundle, sequence=1))
        async with asyncio.timeout(10):
            while sample(server, "weaklink_batch_size_count") < 1:
                await asyncio.sleep(0.005)
        device.send(frame(bundle, sequence=2))
        device.send(frame(bundle, sequence=3))
        busy = read_reply(await device.reply(), device=7)
        assert (busy.sequence, busy.status) == (3, ReplyStatus.BUSY)
        gate.open()
        for _ in range(2):
            await device.reply()
        device.send(frame(bundle, sequence=3))
        retried = read_reply(await device.reply(), device=7)
        assert (retried.sequence, retried.status) == (3, ReplyStatus.ANSWERED)
        assert sample(server, "weaklink_requests_total", transport="udp", codec="toy", outcome="queue_full") == 1


async def test_a_frame_that_makes_the_gateway_fail_while_the_queue_is_full_is_not_the_last(
    bundle_root: Path, bundle: Bundle, monkeypatch
):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
        failed = asyncio.Event()

        def fail(results, senders):
            failed.set()
            raise ZeroDivisionError

        with monkeypatch.context() as broken:
            broken.setattr(server._turns, "_room", lambda: 0)
            broken.setattr(server._gateway, "handle_whole", fail)
            device.send(frame(bundle, sequence=1))
            async with asyncio.timeout(30):
                await failed.wait()
        device.send(frame(bundle, sequence=2))
        assert read_reply(await device.reply(), device=7).sequence == 2


async def test_feedback_reaches_what_a_frame_asked(bundle_root: Path, bundle: Bundle):
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device, grpc_stub(at["grpc"]) as stub:
        device.send(frame(bundle, sequence=12))
        index = read_reply(await device.reply(), device=7).class_index
        verdict = await stub.Feedback(edge_pb2.FeedbackRequest(device="7", sequence=12, true_class=index))
        assert verdict.matched and verdict.correct


async def test_a_system_without_calls_for_many_datagrams_serves_too(
    bundle_root: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("edge_server.datagrams._library", lambda: None)
    async with running(bundle_root) as (server, at), radio(at["udp"]) as device:
        for sequence in range(20):
            device.send(frame(bundle, sequence, level=sequence % 3))
        replies = [read_reply(await device.reply(), device=7) for _ in range(20)]
        assert {reply.sequence for reply in replies} == set(range(20))
        assert {reply.status for reply in replies} == {ReplyStatus.ANSWERED}


async def test_damaged_frames_of_strangers_are_searched_together(bundle_root: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    """So that noise in a trickle costs no search each; a known sender's damaged frame waits for none."""
    monkeypatch.setattr("edge_server.udp_door.GATHER_S", 3600.0)
    noise = np.random.default_rng(4).bytes(26)
    async with running(bundle_root) as (server, at), radio(at["udp"]) as stranger, radio(at["udp"]) as device:
        device.send(frame(bundle))
        assert read_reply(await device.reply(), device=7).status == ReplyStatus.ANSWERED
        for _ in range(3):
            stranger.send(noise)
        stranger.send(frame(bundle, sequence=1, device=8))
        assert read_reply(await stranger.reply(), device=8).status == ReplyStatus.ANSWERED
        assert sample(server, "weaklink_frames_total", outcome="bad_header") == 0
        device.send(noise)
        await counted(server, "bad_header", 4)
