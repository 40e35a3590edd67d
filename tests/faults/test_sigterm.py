"""SIGTERM under load, at every door at once: each request ends in exactly one way, and with a name."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections import Counter
from pathlib import Path

import grpc
import httpx
import pytest

from semantic_codec.bundle import Bundle, load_bundle
from semantic_codec.reply import REPLY_BYTES, ReplyStatus, read_reply
from semantic_codec.serial_framing import SYNC, add_sync
from tests.faults.clients import PAYLOAD, infer_request, open_frame
from tests.faults.edge import PATIENCE_S, Edge
from weaklink.v1 import edge_pb2_grpc

pytestmark = pytest.mark.timeout(600)  # on a machine that is busy with something else, too
CALLERS = 16
STREAMS = 4
AHEAD = 32
"""Requests of a stream that wait for their answers."""
DEVICES = 8
ENOUGH = 20
"""Answers that everybody got before the signal."""
REFUSED = "UNAVAILABLE"


class Load:
    """Everybody's ends by door. A client goes on until the server refuses it by name."""

    def __init__(self, edge: Edge, bundle: Bundle):
        self.edge, self.bundle = edge, bundle
        self.ends: dict[str, Counter[str]] = {door: Counter() for door in ("grpc", "stream", "http", "udp", "serial")}
        self.sent: Counter[str] = Counter()
        self.silent = asyncio.Event()
        """Devices send no more: the signal is next. A frame lost in between is nobody's to refuse."""
        self.warm = 0
        self.everybody = asyncio.Event()

    def one_more(self, door: str, end: str, mine: int) -> None:
        self.ends[door][end] += 1
        if mine == ENOUGH:
            self.warm += 1
            if self.warm == 2 * CALLERS + STREAMS + 2 * DEVICES:
                self.everybody.set()

    async def call(self, stub) -> None:
        mine = 0
        while True:
            self.sent["grpc"] += 1
            try:
                assert (await stub.Infer(infer_request(), timeout=PATIENCE_S)).results
            except grpc.aio.AioRpcError as error:
                self.one_more("grpc", error.code().name, 0)
                return
            mine += 1
            self.one_more("grpc", "ok", mine)

    async def stream(self, stub) -> None:
        """Requests that were read are answered; those after the stream's end were refused with it."""
        waiting: set[str] = set()
        room, mine = asyncio.Semaphore(AHEAD), 0
        call = stub.InferStream(timeout=PATIENCE_S)

        async def write() -> None:
            number = 0
            try:
                while True:
                    await room.acquire()
                    number += 1
                    waiting.add(str(number))
                    self.sent["stream"] += 1
                    await call.write(infer_request(request_id=str(number)))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # the stream has ended, and says so below

        writing = asyncio.create_task(write())
        try:
            async for answer in call:
                waiting.remove(answer.request_id)  # KeyError: a second answer
                mine += bool(answer.results)
                self.one_more("stream", "ok" if answer.results else answer.error.status, mine)
                room.release()
            code = await call.code()
        except grpc.aio.AioRpcError as error:
            code = error.code()
        writing.cancel()
        await asyncio.wait([writing])
        self.ends["stream"][code.name] += len(waiting)

    async def post(self) -> None:
        mine = 0
        async with httpx.AsyncClient(base_url=f"http://{self.edge.at['http']}", trust_env=False, timeout=PATIENCE_S) as http:
            while True:
                self.sent["http"] += 1
                headers = {"content-type": "application/octet-stream"}
                got = await http.post("/v1/infer?codec=toy", content=PAYLOAD, headers=headers)
                if got.status_code != 200:
                    self.one_more("http", got.json()["error"]["status"], 0)
                    return
                mine += 1
                self.one_more("http", "ok", mine)

    async def udp(self, device: int) -> None:
        transport, replies = await asyncio.get_running_loop().create_datagram_endpoint(
            Replies, remote_addr=self.edge.address("udp")
        )
        sequence = 0
        while not self.silent.is_set():
            self.sent["udp"] += 1
            transport.sendto(open_frame(self.bundle, sequence, device))
            reply = read_reply(await replies.heard.get(), device)
            assert (reply.sequence, reply.status) == (sequence % 4096, ReplyStatus.ANSWERED)
            sequence += 1
            self.one_more("udp", "ok", sequence)
        assert replies.heard.empty()
        transport.close()

    async def serial(self, device: int) -> None:
        reader, writer = await asyncio.open_connection(*self.edge.address("serial"))
        sequence = 0
        while not self.silent.is_set():
            self.sent["serial"] += 1
            writer.write(add_sync(open_frame(self.bundle, sequence, device)))
            reply = read_reply((await reader.readexactly(len(SYNC) + REPLY_BYTES))[len(SYNC) :], device)
            assert (reply.sequence, reply.status) == (sequence % 4096, ReplyStatus.ANSWERED)
            sequence += 1
            self.one_more("serial", "ok", sequence)
        assert await reader.read() == b"", "nothing is answered twice"
        writer.close()


class Replies(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, address: object) -> None:
        self.heard.put_nowait(data)


async def test_sigterm_under_load(bundle_root: Path, tmp_path: Path, figures):
    bundle = load_bundle(bundle_root / "toy" / "2")
    with Edge(tmp_path, bundle_root, engines=1, deadline_s=PATIENCE_S, drain_s=PATIENCE_S) as edge:
        load = Load(edge, bundle)
        async with grpc.aio.insecure_channel(edge.at["grpc"]) as channel, asyncio.TaskGroup() as clients:
            stub = edge_pb2_grpc.EdgeInferenceStub(channel)
            for number in range(CALLERS):
                clients.create_task(load.call(stub))
                clients.create_task(load.post())
            for _ in range(STREAMS):
                clients.create_task(load.stream(stub))
            devices = [clients.create_task(load.udp(number)) for number in range(DEVICES)]
            lines = [clients.create_task(load.serial(100 + number)) for number in range(DEVICES)]
            await load.everybody.wait()
            load.silent.set()
            edge.process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(edge.process.wait, PATIENCE_S)
        log = edge.log()
    assert all(task.done() for task in devices + lines)
    for door, ends in load.ends.items():
        assert ends.total() == load.sent[door], f"every request over {door} has one end: {ends} of {load.sent[door]}"
        assert set(ends) <= {"ok", REFUSED}, f"{door}: {ends}"
    answered = {door: ends["ok"] for door, ends in load.ends.items()}
    counted = eval_counts(log)
    assert counted["ok"] == sum(answered.values()), "the server counts what the clients got"
    assert status == 0 and "Traceback" not in log and "unanswered" not in log
    figures(sent=load.sent.total(), answered=sum(answered.values()), refused_by_name=load.sent.total() - sum(answered.values()), lost=0)


def eval_counts(log: str) -> dict[str, int]:
    """Requests by outcome, from the line that a server leaves behind."""
    found = re.findall(r"requests (\{[^}]*\}), frames", log)
    return json.loads(found[-1].replace("'", '"'))
