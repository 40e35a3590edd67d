"""HTTP connections as bytes: requests in pieces, one behind the other, too long, and given up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.edge_server.conftest import running, sample, until
from tests.edge_server.test_http_api import body
from tests.edge_server.test_service import Gate

PATIENCE_S = 30


def request(content: bytes | None = None, head: str = "", version: str = "1.1") -> bytes:
    content = json.dumps(body()).encode() if content is None else content
    return f"POST /v1/infer HTTP/{version}\r\nhost: edge\r\n{head}content-length: {len(content)}\r\n\r\n".encode() + content


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            content = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, content

    async def is_closed(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read() == b""


@contextlib.asynccontextmanager
async def connected(at: dict[str, str]) -> AsyncIterator[Peer]:
    host, _, port = at["http"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


def counted(server, outcome: str, codec: str = "toy") -> float:
    return sample(server, "weaklink_requests_total", transport="http", codec=codec, outcome=outcome)


async def test_a_request_in_pieces_is_one(bundle_root: Path):
    async with running(bundle_root) as (server, at), connected(at) as peer:
        data = request()
        for place in range(0, len(data), 7):
            peer.writer.write(data[place : place + 7])
            await asyncio.sleep(0)
        status, headers, content = await peer.answer()
        assert status == 200 and headers["content-type"] == "application/json" and "date" in headers
        assert json.loads(content)["codec"] == "toy" and counted(server, "ok") == 1


LATE = b"POST /nowhere HTTP/1.1\r\nhost: edge\r\ncontent-length: 4\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "status", "rest"),
    [(request(), 200, b"\r\n"), (LATE, 404, b"body"), (LATE, 404, b"bo")],
    ids=["an empty line", "the rest of a body that was refused", "half of it"],
)
async def test_what_is_no_request_does_not_keep_a_connection_open(bundle_root: Path, first: bytes, status: int, rest: bytes):
    async with running(bundle_root, client_timeout_s=2.0) as (_, at), connected(at) as peer:
        peer.writer.write(first)
        assert (await peer.answer())[0] == status
        peer.writer.write(rest)
        assert await peer.is_closed()  # within one of both limits, and without a second answer


async def test_requests_behind_each_other_are_answered_in_their_order(bundle_root: Path):
    count = 300  # that all come at once: each is still a request of its own
    async with running(bundle_root) as (server, at), connected(at) as peer:
        sent = [json.dumps(body(request_id=str(number))).encode() for number in range(count)]
        scrape = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
        peer.writer.write(b"".join(map(request, sent)) + scrape + request(b"{"))
        answers = [await peer.answer() for _ in range(count + 2)]
        assert [json.loads(content)["request_id"] for _, _, content in answers[:count]] == list(map(str, range(count)))
        assert json.loads(answers[count][2]) == {"status": "alive"} and answers[count + 1][0] == 400
        assert counted(server, "ok") == count and counted(server, "invalid_request", "unknown") == 1


async def test_refusals_behind_each_other_do_not_pile_up(bundle_root: Path):
    count = 3000  # more than calls may be nested
    async with running(bundle_root) as (server, at), connected(at) as peer:
        peer.writer.write(request(b"{") * count)
        assert {(await peer.answer())[0] for _ in range(count)} == {400}
        assert counted(server, "invalid_request", "unknown") == count


async def test_a_body_that_is_too_long_is_refused_before_its_end(bundle_root: Path):
    async with running(bundle_root, max_message_bytes=300_000) as (server, at), connected(at) as peer:
        longest = body(request_id="x" * 250_000)  # longer than uvicorn keeps for an application that does not read
        peer.writer.write(request(json.dumps(longest).encode()))
        assert (await peer.answer())[0] == 400
        peer.writer.write(request(bytes(1_000_000))[:400_000])
        status, _, content = await peer.answer()
        assert status == 413 and b"more than 300000 bytes" in content
        assert counted(server, "invalid_request") == 1 and counted(server, "too_large", "unknown") == 1


async def test_who_waits_to_be_told_to_go_on_is_told(bundle_root: Path):
    async with running(bundle_root) as (_, at), connected(at) as peer:
        data = request(head="expect: 100-continue\r\n")
        head = data.index(b"\r\n\r\n") + 4
        peer.writer.write(data[:head])
        assert (await peer.answer())[0] == 100
        peer.writer.write(data[head:])
        assert (await peer.answer())[0] == 200


@pytest.mark.parametrize("offer", ["h2c", "websocket"])
async def test_an_offer_of_another_protocol_is_ignored(bundle_root: Path, caplog: pytest.LogCaptureFixture, offer: str):
    upgrade = f"connection: keep-alive, upgrade\r\nupgrade: {offer}\r\n"
    scrape = f"GET /healthz HTTP/1.1\r\nhost: localhost\r\n{upgrade}\r\n".encode()
    chunked = b"POST /v1/infer HTTP/1.1\r\nhost: localhost\r\n" + upgrade.encode() + b"transfer-encoding: chunked\r\n\r\n"
    content = json.dumps(body()).encode()
    async with running(bundle_root) as (server, at), connected(at) as peer:
        caplog.clear()
        whole, data = request(head=upgrade), request(head=upgrade)
        peer.writer.write(whole + scrape + chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) + scrape)
        for place in range(0, len(data), 7):
            peer.writer.write(data[place : place + 7])
            await asyncio.sleep(0)
        assert [(await peer.answer())[0] for _ in range(5)] == [200] * 5
        assert counted(server, "ok") == 3 and not caplog.messages
        peer.writer.write(b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n" + upgrade.encode() + b"\r\n")
        assert (await peer.answer())[0] >= 400


async def test_a_connection_ends_behind_the_answer_where_its_peer_says_so(bundle_root: Path):
    async with running(bundle_root) as (_, at):
        for data in (request(version="1.0"), request(head="connection: close\r\n")):
            async with connected(at) as peer:
                peer.writer.write(data)
                status, headers, _ = await peer.answer()
                assert status == 200 and headers["connection"] == "close" and await peer.is_closed()


async def test_who_goes_away_is_counted_once(bundle_root: Path):
    async with running(bundle_root) as (server, at):
        async with connected(at) as peer:
            peer.writer.write(request()[:-1])
            await asyncio.sleep(0.05)
        await until(lambda: counted(server, "cancelled", "unknown") == 1)
        gate = Gate(server)
        async with connected(at) as first, connected(at) as second:
            first.writer.write(request())
            await until(lambda: sample(server, "weaklink_batch_size_count") == 1)
            second.writer.write(request())
            await until(lambda: sample(server, "weaklink_queue_depth") == 1)
        await asyncio.sleep(0.05)
        gate.open()
        await until(lambda: counted(server, "cancelled") == 2)


async def test_a_request_that_makes_the_door_fail_costs_its_connection_alone(bundle_root: Path, monkeypatch):
    async with running(bundle_root) as (server, at), connected(at) as peer:
        with monkeypatch.context() as broken, contextlib.suppress(ConnectionResetError):
            broken.setattr(server._http_infer, "admit", lambda scope: 1 / 0)
            peer.writer.write(request())
            assert await peer.is_closed()
        async with connected(at) as other:
            other.writer.write(request())
            assert (await other.answer())[0] == 200


async def test_answers_to_a_peer_that_reads_none_are_not_piled_up(bundle_root: Path):
    async with running(bundle_root) as (server, at):
        host, _, port = at["http"].rpartition(":")
        loop, data, sent = asyncio.get_running_loop(), request(b"{") * 20, 0
        with socket.socket() as sock:
            for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, buffer, 8192)
            sock.setblocking(False)
            await loop.sock_connect(sock, (host, int(port)))
            with contextlib.suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(0.5):
                        await loop.sock_sendall(sock, data)
                    sent += 20
            taken = counted(server, "invalid_request", "unknown")
            assert taken < sent, "the rest is not taken"
            async with asyncio.timeout(PATIENCE_S):
                while counted(server, "invalid_request", "unknown") == taken:
                    assert await loop.sock_recv(sock, 65536)


@pytest.mark.parametrize(
    "beginning, more",
    [
        (b"GET /", b"a"),
        (b"POST /", b"a"),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n", b"a: b\r\n"),
        (b"POST /v1/infer HTTP/1.1\r\nhost: localhost\r\na: ", b"b"),
        (b"POST /v1/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\na: ", b"b"),
        (b"POST /v1/codecs HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
    ],
)
async def test_a_head_without_end_is_not_held(bundle_root: Path, beginning: bytes, more: bytes):
    async with running(bundle_root) as (_, at), connected(at) as peer:
        data, sent = more * (8192 // len(more)), 0
        peer.writer.write(beginning)
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                peer.writer.write(data)
                await peer.writer.drain()
                sent += len(data)
        assert sent < 50_000_000


async def test_a_head_that_is_too_long_is_refused_by_name_and_one_of_headers_as_allowed_is_not(bundle_root: Path):
    async with running(bundle_root) as (server, at), connected(at) as peer:
        header = b"a: " + b"b" * 997 + b"\r\n"
        peer.writer.write(request(head=(header * 30).decode()) * 9)  # 270 kB of which nothing is too long
        assert {(await peer.answer())[0] for _ in range(9)} == {200}
        begun = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"
        peer.writer.write(begun + header * 30 + b"\r\n" + begun)
        assert (await peer.answer())[0] == 200
        for _ in range(5):
            peer.writer.write(header * 10)
            await peer.writer.drain()
            await asyncio.sleep(0.05)
        status, _, content = await peer.answer()
        assert status == 431 and b"more than 32768 bytes" in content
        assert counted(server, "ok") == 9
