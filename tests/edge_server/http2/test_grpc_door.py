"""The gRPC door with gRPC's own client: a hot method that echoes, and another one behind the relay."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_server.grpc_door import GrpcDoor
from edge_server.http2.receive_windows import LOAN
from edge_server.http2.frames import PREFACE, RST_STREAM, frame
from edge_server.http2.grpc_call import CallHead, GrpcCall
from edge_server.http2.headers import LARGEST_BLOCK, HeaderReader, write_headers
from semantic_codec.errors import InvalidRequest, TooLarge

LARGEST = 4 << 20
PATIENCE_S = 30
NOBODY = "nobody"
"""Whom the door does not admit."""
CALL = [(":method", "POST"), (":path", "/test.Echo/Hot"), ("content-type", "application/grpc")]


class Echo(GrpcCall):
    """Answers every message with itself, or ends with what the message says."""

    cancellations = 0

    def look(self) -> None:
        while self.stream.has_room and (body := self.next_message()) is not None:
            if body.startswith(b"fail"):
                self.end(grpc.StatusCode.FAILED_PRECONDITION, body.decode())
            else:
                self.send(body)
        if self.read_all and self.stream.has_room:
            self.end(grpc.StatusCode.OK)

    def cancelled(self) -> None:
        Echo.cancellations += 1


class EchoUnary(Echo):
    def look(self) -> None:
        if (body := self.next_message()) is not None:
            self.answer(body)


async def cold(messages, context: grpc.aio.ServicerContext):
    await context.send_initial_metadata([("early", "1"), ("early-bin", b"\x00\xff")])
    given = dict(context.invocation_metadata())
    context.set_trailing_metadata([("late", given.get("mine", "none"))])
    async for message in messages:
        if message == b"fail":
            await context.abort(grpc.StatusCode.DATA_LOSS, "ümläut: 100 %")
        yield message


def admit(method: str, metadata) -> None:
    if ("authorization", NOBODY) in metadata:
        raise InvalidRequest("you are nobody", allowed="somebody", fix="be somebody")


@contextlib.asynccontextmanager
async def door(folder: Path) -> AsyncIterator[tuple[str, GrpcDoor]]:
    upstream = grpc.aio.server(options=[("grpc.max_receive_message_length", LARGEST)])
    handlers = {"Cold": grpc.stream_stream_rpc_method_handler(cold)}
    upstream.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    address = f"unix:{folder}/up"
    upstream.add_insecure_port(address)
    await upstream.start()

    hot = {
        "/test.Echo/Hot": lambda stream, head: Echo(stream, head, LARGEST),
        "/test.Echo/HotUnary": lambda stream, head: EchoUnary(stream, head, LARGEST),
    }
    it = GrpcDoor(hot, address, admit)
    sock = socket.create_server(("127.0.0.1", 0))
    await it.open(sock)
    try:
        yield f"127.0.0.1:{sock.getsockname()[1]}", it
    finally:
        await it.close()
        await upstream.stop(0)


@contextlib.asynccontextmanager
async def client(folder: Path, **options) -> AsyncIterator[grpc.aio.Channel]:
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with door(folder) as (address, _), asyncio.timeout(PATIENCE_S):
        async with grpc.aio.insecure_channel(address, options=limits, **options) as channel:
            yield channel


@pytest.mark.parametrize("size", [0, 1, 16_384, 70_000, 4_000_000])
async def test_messages_of_any_size_both_ways(tmp_path: Path, size: int):
    async with client(tmp_path) as channel:
        body = bytes(range(256)) * (size // 256 + 1)
        assert await channel.unary_unary("/test.Echo/HotUnary")(body[:size]) == body[:size]


@pytest.mark.parametrize("method", ["Hot", "Cold"])
async def test_a_stream_of_more_than_the_windows_hold(tmp_path: Path, method: str):
    async with client(tmp_path) as channel:
        parts = [bytes([n]) * 100_000 for n in range(LOAN // 100_000)]
        answers = [answer async for answer in channel.stream_stream(f"/test.Echo/{method}")(iter(parts))]
        assert answers == parts


async def test_many_calls_at_once(tmp_path: Path):
    async with client(tmp_path) as channel:
        call = channel.unary_unary("/test.Echo/HotUnary")
        bodies = [str(number).encode() for number in range(300)]
        assert await asyncio.gather(*map(call, bodies)) == bodies


@pytest.mark.parametrize("method", ["HotUnary", "Cold"])
async def test_many_long_messages_at_once(tmp_path: Path, method: str):
    async with client(tmp_path) as channel:
        call = channel.unary_unary(f"/test.Echo/{method}")
        bodies = [bytes([number]) * 300_000 for number in range(100)]
        assert await asyncio.gather(*map(call, bodies)) == bodies


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("method", ["HotUnary", "Cold"])
async def test_compressed_messages(tmp_path: Path, compression: grpc.Compression, method: str):
    async with client(tmp_path, compression=compression) as channel:
        assert await channel.unary_unary(f"/test.Echo/{method}")(b"a" * 10_000) == b"a" * 10_000


async def test_a_status_with_its_message(tmp_path: Path):
    async with client(tmp_path) as channel:
        for method, body, code, details in (
            ("Hot", "fail: ünknown 100 %".encode(), grpc.StatusCode.FAILED_PRECONDITION, "fail: ünknown 100 %"),
            ("Cold", b"fail", grpc.StatusCode.DATA_LOSS, "ümläut: 100 %"),
            ("Nothing", b"", grpc.StatusCode.UNIMPLEMENTED, "Method not found!"),
            ("HotUnary", bytes(LARGEST + 1), grpc.StatusCode.RESOURCE_EXHAUSTED, None),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await channel.unary_unary(f"/test.Echo/{method}")(body)
            assert error.value.code() is code
            assert details in (None, error.value.details())


@pytest.mark.parametrize("encoding", ["identity", "gzip", "snappy"])
async def test_what_is_marked_as_compressed_and_is_not(tmp_path: Path, encoding: str):
    async with door(tmp_path) as (address, _), asyncio.timeout(PATIENCE_S):
        head = write_headers([*CALL, ("grpc-encoding", encoding)])
        read, write = await asyncio.open_connection(*address.split(":"))
        write.write(PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, head) + frame(0, 1, 1, b"\1\0\0\0\1x"))
        await read.readuntil(b"grpc-status\x013")  # INVALID_ARGUMENT
        write.close()


async def test_a_bomb_is_not_inflated(tmp_path: Path):
    async with client(tmp_path, compression=grpc.Compression.Gzip) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary("/test.Echo/HotUnary")(bytes(100 * LARGEST))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "headers",
    [
        [(":method", "GET"), *CALL[1:]],
        CALL + [(":path", "/other")],
        CALL[:1] + CALL[2:],
        CALL + [("X-Upper", "1")],
        CALL + [("bad name", "1")],
        CALL + [("x", "new\nline")],
        CALL + [("x-bin", "é")],
        CALL + [("-bin", "AAAA")],
        CALL + [("grpc-timeout", "-1S")],
    ],
    ids=lambda headers: str(headers[-1]),
)
async def test_headers_that_no_grpc_client_sends(tmp_path: Path, headers):
    async with door(tmp_path) as (address, _), asyncio.timeout(PATIENCE_S):
        read, write = await asyncio.open_connection(*address.split(":"))
        write.write(PREFACE + frame(4, 0, 0, b"") + frame(1, 5, 1, write_headers(headers)))
        await read.readuntil(b"grpc-status\x013")  # INVALID_ARGUMENT
        write.close()


async def test_a_deadline_in_centuries_has_not_passed(tmp_path: Path):
    headers = [CALL[0], (":path", "/test.Echo/Cold"), CALL[2], ("grpc-timeout", "99999999H")]
    async with door(tmp_path) as (address, _), asyncio.timeout(PATIENCE_S):
        read, write = await asyncio.open_connection(*address.split(":"))
        write.write(PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, write_headers(headers)))
        write.write(frame(0, 1, 1, b"\0\0\0\0\1x"))
        await read.readuntil(b"grpc-status\x010")
        write.close()


async def test_metadata_passes_both_ways(tmp_path: Path):
    async with client(tmp_path) as channel:
        call = channel.stream_stream("/test.Echo/Cold")(iter([b"x"]), metadata=[("mine", "yours"), ("some-bin", b"\x01")])
        assert [answer async for answer in call] == [b"x"]
        early = dict(await call.initial_metadata())
        assert early["early"] == "1" and early["early-bin"] == b"\x00\xff"
        assert dict(await call.trailing_metadata())["late"] == "yours"


def test_binary_metadata_that_was_joined_is_several():
    head = CallHead.of([*CALL, ("a-bin", "QUJD,QQ"), ("b-bin", "QQ==, QUI="), ("c-bin", ""), ("d", "QQ,QQ")])
    several = [("a-bin", b"ABC"), ("a-bin", b"A"), ("b-bin", b"A"), ("b-bin", b"AB"), ("c-bin", b""), ("d", "QQ,QQ")]
    assert head.metadata == several and head.refusal() is None
    many = CallHead.of([*CALL, ("a-bin", "," * (LARGEST_BLOCK // 36))])
    assert isinstance(many.refusal(), TooLarge) and not many.metadata


async def test_who_is_not_admitted_is_refused(tmp_path: Path):
    async with client(tmp_path) as channel:
        call = channel.unary_unary("/test.Echo/HotUnary")
        with pytest.raises(grpc.aio.AioRpcError, match="you are nobody"):
            await call(b"x", metadata=[("authorization", "nobody")])
        assert await call(b"x", metadata=[("authorization", "me")]) == b"x"


@pytest.mark.parametrize("method", ["Hot", "Cold"])
async def test_open_calls_that_are_admitted_no_more_end(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch):
    async with door(tmp_path) as (address, it), asyncio.timeout(PATIENCE_S), grpc.aio.insecure_channel(address) as channel:
        calls = []
        for name in ("first", "second"):
            calls.append(channel.stream_stream(f"/test.Echo/{method}")(metadata=[("authorization", name)]))
            await calls[-1].write(b"x")
            assert await calls[-1].read() == b"x"
        monkeypatch.setattr(f"{__name__}.NOBODY", "first")
        it.admit_again()
        with pytest.raises(grpc.aio.AioRpcError, match="you are nobody"):
            await calls[0].read()
        await calls[1].write(b"y")
        assert await calls[1].read() == b"y"


async def test_cancelled_calls_are_told(tmp_path: Path):
    async with client(tmp_path) as channel:
        before = Echo.cancellations
        call = channel.stream_stream("/test.Echo/Hot")()
        await call.write(b"x")
        assert await call.read() == b"x"
        call.cancel()
        while Echo.cancellations < before + 1:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("last", [b"fail", bytes(LARGEST + 1)], ids=["ended behind the relay", "refused by it"])
@pytest.mark.parametrize("first", [[], [b"x"]], ids=["at once", "later"])
async def test_nothing_is_left_of_relayed_calls_that_end_before_their_client(tmp_path: Path, first: list[bytes], last: bytes):
    def left() -> list[str]:
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
        return [name for name in names if "_pass_on" in name or "_consume_request_iterator" in name]

    gc.disable()  # it would find them, in the end
    try:
        async with client(tmp_path) as channel:
            for _ in range(3):
                call = channel.stream_stream("/test.Echo/Cold")()
                for body in first:
                    await call.write(body)
                    assert await call.read() == body
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call.write(last)
                assert await call.code() in (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.RESOURCE_EXHAUSTED)
            while left():
                await asyncio.sleep(0.01)
    finally:
        gc.enable()


async def test_something_else_than_grpc_is_told_415(tmp_path: Path):
    async with door(tmp_path) as (address, _), asyncio.timeout(PATIENCE_S):
        headers = write_headers([(":method", "GET"), (":path", "/"), (":scheme", "http")])
        read, write = await asyncio.open_connection(*address.split(":"))
        write.write(PREFACE + frame(4, 0, 0, b"") + frame(1, 5, 1, headers))
        received = b""
        while b"415" not in received:
            received += await read.readexactly(1)
        write.close()


async def test_the_rest_of_something_else_than_grpc_is_not_wanted(tmp_path: Path):
    """Else who has more to send than the window holds waits for ever."""
    async with door(tmp_path) as (address, _), asyncio.timeout(PATIENCE_S):
        headers = write_headers([(":method", "POST"), (":path", "/"), (":scheme", "http")])
        read, write = await asyncio.open_connection(*address.split(":"))
        write.write(PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, headers))
        await read.readuntil(b"415")
        await read.readuntil(frame(RST_STREAM, 0, 1, bytes(4)))  # NO_ERROR
        write.close()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                frame, st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=24)
            ),
            st.just(frame(1, 4, 1, write_headers(CALL))),
            st.just(frame(0, 1, 1, b"\0\0\0\0\1x")),
        ),
        max_size=8,
    )
)
def test_no_bytes_break_the_door(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]):
    """Whatever one connection sends, it is answered or closed, and the next one is served."""

    async def try_it() -> None:
        loop = asyncio.get_running_loop()
        problems = []
        loop.set_exception_handler(lambda _, context: problems.append(context))
        it = GrpcDoor({"/test.Echo/Hot": lambda stream, head: Echo(stream, head, 100)}, "unix:/nowhere")
        sock = socket.create_server(("127.0.0.1", 0))
        await it.open(sock)
        async with asyncio.timeout(PATIENCE_S):
            read, write = await asyncio.open_connection(*sock.getsockname())
            write.write(PREFACE + b"".join(parts))
            write.write_eof()
            with contextlib.suppress(ConnectionError):
                await read.read()
            write.close()
        await it.close()
        assert not problems

    asyncio.run(try_it())


@given(st.lists(st.tuples(st.sampled_from(["a", "grpc-x", "z-bin"]), st.text(max_size=300)), max_size=5))
def test_headers_come_back_as_written(headers: list[tuple[str, str]]):
    reader = HeaderReader(list, lambda cost: None)
    block = write_headers(headers)
    expected = [(name, value.encode().decode("latin-1")) for name, value in headers]
    assert reader.read(block) == expected
    assert reader.read(block) == expected


def test_remembered_blocks_do_not_outlive_the_table():
    import hpack

    encoder, reader = hpack.Encoder(), HeaderReader(list, lambda cost: None)
    for number in range(300):
        headers = [("name", f"value-{number % 7}"), (f"x-{number}", "y" * 40)]
        assert reader.read(encoder.encode(headers)) == headers


@pytest.mark.parametrize(
    ("value", "seconds"), [("5S", 5), ("100m", 0.1), ("7u", 7e-6), ("1H", 3600), ("", None), ("5", None), ("-1S", None)]
)
def test_deadlines(value: str, seconds: float | None):
    head = CallHead.of([(":method", "POST"), (":path", "/a/b"), ("grpc-timeout", value)])
    assert head.timeout_s == seconds
    assert bool(head.problem) == (seconds is None)
