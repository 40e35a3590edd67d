"""Keyed mode at the real UDP door: authentic frames once, everybody else not at all."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edge_server import server as edge
from edge_server.gateway import Gateway, Readers
from edge_server.jobs import Group
from semantic_codec.bundle import Bundle
from semantic_codec.errors import ConfigError
from semantic_codec.frame import FrameResult
from semantic_codec.keyed import DeviceKey, KeyedHeader
from semantic_codec.keyed_frame import encode_keyed_frame
from semantic_codec.keyed_reply import KEYED_REPLY_BYTES, read_keyed_reply
from semantic_codec.reply import Refusal, ReplyStatus, read_reply
from tests.edge_server.conftest import LEVELS, grpc_stub, running, sample, until
from tests.edge_server.test_gateway import PAYLOAD, counted, flipped, frame, radio
from tests.semantic_codec.test_key_file import ONE, TWO, secret
from weaklink.v1 import edge_pb2

KEY = DeviceKey.from_hex(ONE)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return secret(tmp_path / "keys.toml", f'7 = "{ONE}"\n')


def keyed(bundle: Bundle, sequence: int, device: int = 7, level: int = 2, key: DeviceKey = KEY) -> bytes:
    payload = PAYLOAD[: LEVELS[level] // 8] if level < len(LEVELS) else PAYLOAD
    return encode_keyed_frame(KeyedHeader(5, level, device, sequence), payload, key, bundle.encoder_hash)


async def test_a_keyed_frame_is_answered_as_grpc_would(bundle_root: Path, bundle: Bundle, keys: Path):
    serving = running(bundle_root, keys=keys)
    async with serving as (server, at), radio(at["udp"]) as device, grpc_stub(at["grpc"]) as stub:
        for level in range(3):
            sequence = 1_000_000 + level
            device.send(keyed(bundle, sequence, level=level))
            data = await device.reply()
            assert len(data) == KEYED_REPLY_BYTES < len(keyed(bundle, sequence, level=0))
            reply = read_keyed_reply(data, 7, KEY)
            expected = await stub.Infer(
                edge_pb2.InferRequest(bitstream=PAYLOAD[: LEVELS[level] // 8], device="7", codec="toy")
            )
            assert (reply.sequence, reply.status) == (sequence, ReplyStatus.ANSWERED)
            assert reply.class_index == expected.results[0].top[0].index
        assert sample(server, "weaklink_requests_total", transport="udp", codec="toy", outcome="ok") == 3
        assert sample(server, "weaklink_keys") == 1


async def test_a_confidence_that_rounding_took_above_one_is_one(
    bundle_root: Path, bundle: Bundle, keys: Path, monkeypatch: pytest.MonkeyPatch
):
    answer = Gateway._answer

    def answer_above_one(self: Gateway, group: Group) -> None:
        group.answer = replace(group.answer, tasks={"shape": [(1, 1.0000001)]})
        answer(self, group)

    monkeypatch.setattr(Gateway, "_answer", answer_above_one)
    async with running(bundle_root, keys=keys) as (_, at), radio(at["udp"]) as device:
        device.send(keyed(bundle, 1))
        reply = read_keyed_reply(await device.reply(), 7, KEY)
    assert (reply.class_index, reply.confidence) == (1, 1.0)


async def test_a_replay_is_counted_and_not_answered(bundle_root: Path, bundle: Bundle, keys: Path):
    async with running(bundle_root, keys=keys) as (server, at), radio(at["udp"]) as device:
        device.send(keyed(bundle, 100))
        await device.reply()
        device.send(keyed(bundle, 100))
        device.send(keyed(bundle, 36))  # older than the window
        assert await counted(server, "replayed", 2) == 2
        assert device.has_heard_nothing()
        device.send(keyed(bundle, 37))
        assert read_keyed_reply(await device.reply(), 7, KEY).sequence == 37


async def test_replays_are_known_after_a_restart(bundle_root: Path, bundle: Bundle, keys: Path):
    async with running(bundle_root, keys=keys) as (_, at), radio(at["udp"]) as device:
        for sequence in (5, 6, 9):
            device.send(keyed(bundle, sequence))
            await device.reply()
    async with running(bundle_root, keys=keys) as (server, at), radio(at["udp"]) as device:
        for sequence in (5, 6, 9):
            device.send(keyed(bundle, sequence))
        assert await counted(server, "replayed", 3) == 3
        device.send(keyed(bundle, 7))
        assert read_keyed_reply(await device.reply(), 7, KEY).sequence == 7


async def test_strangers_hear_nothing(bundle_root: Path, bundle: Bundle, keys: Path):
    other = DeviceKey.from_hex(TWO)
    async with running(bundle_root, keys=keys) as (server, at), radio(at["udp"]) as device:
        device.send(keyed(bundle, 1, key=other))
        await counted(server, "bad_mac")
        device.send(keyed(bundle, 1, device=8, key=other))
        await counted(server, "unknown_device")
        device.send(frame(bundle))
        assert await counted(server, "bad_length") + sample(server, "weaklink_frames_total", outcome="bad_header") == 1
        wrong_encoder = KeyedHeader(5, 2, 7, 1)
        device.send(encode_keyed_frame(wrong_encoder, PAYLOAD, KEY, hashlib.sha256(b"other").digest()))
        await counted(server, "bad_mac", 2)
        assert device.has_heard_nothing()
        device.send(keyed(bundle, 1))
        assert read_keyed_reply(await device.reply(), 7, KEY).sequence == 1, "a forgery takes no sequence"


async def test_the_authentic_are_told_why_they_are_refused(bundle_root: Path, bundle: Bundle, keys: Path):
    async with running(bundle_root, keys=keys) as (server, at), radio(at["udp"]) as device:
        device.send(keyed(bundle, 1, level=9))
        reply = read_keyed_reply(await device.reply(), 7, KEY)
        assert (reply.status, reply.class_index) == (ReplyStatus.REFUSED, Refusal.UNKNOWN_LEVEL)
        device.send(keyed(bundle, 1, level=9))
        assert await counted(server, "replayed") == 1


async def test_open_frames_beside_keyed_ones_where_they_are_allowed(bundle_root: Path, bundle: Bundle, keys: Path):
    settings = {"keys": keys, "open_frames": True}
    async with running(bundle_root, **settings) as (_, at), radio(at["udp"]) as device:
        device.send(frame(bundle, device=9))
        assert read_reply(await device.reply(), device=9).status == ReplyStatus.ANSWERED
        device.send(keyed(bundle, 1))
        assert read_keyed_reply(await device.reply(), 7, KEY).sequence == 1


async def test_a_device_with_a_key_cannot_be_impersonated_by_open_frames(bundle_root: Path, bundle: Bundle, keys: Path):
    async with running(bundle_root, keys=keys, open_frames=True) as (server, at), radio(at["udp"]) as device:
        device.send(frame(bundle, device=7))
        assert await counted(server, "not_keyed") == 1
        assert device.has_heard_nothing()


async def test_a_bad_link_is_estimated(bundle_root: Path, bundle: Bundle, keys: Path):
    async with running(bundle_root, keys=keys) as (_, at), radio(at["udp"]) as device, grpc_stub(at["grpc"]) as stub:
        for sequence in range(24):
            device.send(flipped(keyed(bundle, sequence), 0.05, seed=sequence))
            await device.reply()
        answer = await stub.Infer(edge_pb2.InferRequest(bitstream=PAYLOAD, device="7"))
        assert answer.ber_used == pytest.approx(0.05, rel=0.25)


async def test_new_keys_take_effect_without_a_restart(bundle_root: Path, bundle: Bundle, keys: Path, monkeypatch):
    monkeypatch.setattr(edge, "KEEPING_S", 0.02)
    other = DeviceKey.from_hex(TWO)
    async with running(bundle_root, keys=keys) as (server, at), radio(at["udp"]) as device:
        device.send(keyed(bundle, 500))
        await device.reply()
        secret(keys, f'7 = "{TWO}"\n')
        async with asyncio.timeout(10):
            while not sample(server, "weaklink_reloads_total", file="keys", outcome="ok"):
                await asyncio.sleep(0.01)
        device.send(keyed(bundle, 501))
        await counted(server, "bad_mac")
        device.send(keyed(bundle, 0, key=other))
        assert read_keyed_reply(await device.reply(), 7, other).sequence == 0, "a new key counts from 0"


async def test_keys_are_followed_after_a_look_that_failed(
    bundle_root: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(edge, "KEEPING_S", 0.02)
    async with running(bundle_root, keys=keys) as (server, _):
        with monkeypatch.context() as broken:
            broken.setattr(server._replay, "flush_to_disk", lambda: 1 / 0)
            await until(lambda: "ZeroDivisionError" in caplog.text)
        secret(keys, f'8 = "{TWO}"\n')
        await until(lambda: sample(server, "weaklink_reloads_total", file="keys", outcome="ok") == 1)


async def test_a_frame_of_a_key_replaced_meanwhile_takes_no_sequence_of_the_new_one(
    bundle_root: Path, bundle: Bundle, keys: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(edge, "KEEPING_S", 0.02)
    search, is_read, goes_on = Readers.search, threading.Event(), threading.Event()

    def slow_search(readers: Readers, frames: list[bytes]) -> list[FrameResult]:
        results = search(readers, frames)
        is_read.set()
        assert goes_on.wait(30)
        return results

    monkeypatch.setattr(Readers, "search", slow_search)
    other = DeviceKey.from_hex(TWO)
    async with running(bundle_root, keys=keys) as (server, at), radio(at["udp"]) as device:
        device.send(flipped(keyed(bundle, 500), 0.08))
        assert await asyncio.to_thread(is_read.wait, 30)
        secret(keys, f'7 = "{TWO}"\n')
        await until(lambda: sample(server, "weaklink_reloads_total", file="keys", outcome="ok") == 1)
        goes_on.set()
        await counted(server, "bad_mac")
        device.send(keyed(bundle, 0, key=other))
        assert read_keyed_reply(await device.reply(), 7, other).sequence == 0


async def test_a_keys_file_that_others_may_read_ends_the_start(bundle_root: Path, keys: Path):
    keys.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        async with running(bundle_root, keys=keys):
            pass
