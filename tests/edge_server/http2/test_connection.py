"""What peers may not do to a connection: floods, bombs, windows that are not theirs. And what working peers may."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.http2.allowance import MOST, PER_SECOND, Allowance
from edge_server.http2.connection import MOST_SETTINGS, MOST_STREAMS
from edge_server.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Code,
    ConnectionFailed,
    frame,
    window_update,
)
from edge_server.http2.grpc_call import CallHead, GrpcCall
from edge_server.http2.headers import NO_TABLE, READ_BLOCK, HeaderReader, write_headers
from edge_server.http2.receive_windows import CONNECTION_WINDOW, LOAN
from edge_server.http2.stream import Stream
from edge_server.turns import SHARE, Turns
from tests.edge_server.http2.memory import Peer

LARGEST = 4 << 20
PATIENCE_S = 30
HEAD = [(":method", "POST"), (":path", "/test.Echo/Unary"), ("content-type", "application/grpc")]
BLOCK = write_headers(HEAD)
MESSAGE = b"\0\0\0\0\1x"
FLOOD = MOST * 2


class Echo(GrpcCall):
    """Answers its one message."""

    def look(self) -> None:
        if (body := self.next_message()) is not None:
            self.answer(body)


class Silent(GrpcCall):
    """Takes messages and answers none."""

    def look(self) -> None:
        while self.next_messages(3):
            pass


class Deaf(GrpcCall):
    """Takes nothing."""


def serving(kind: type[GrpcCall]) -> Callable[[Stream, CallHead], None]:
    return lambda stream, head: kind(stream, head, LARGEST) and None


def headers(stream: int, flags: int = END_HEADERS, block: bytes = BLOCK) -> bytes:
    return frame(HEADERS, flags, stream, block)


def calls(count: int, data: bytes = MESSAGE, first: int = 1) -> list[bytes]:
    numbers = range(first, first + 2 * count, 2)
    return [headers(number) + frame(DATA, END_STREAM, number, data) for number in numbers]


def settings_of(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def rising(count: int) -> range:
    return range(1, 2 * count, 2)


FLOODS = {
    "rapid reset": lambda: [headers(n) + frame(RST_STREAM, 0, n, bytes(4)) for n in rising(FLOOD)],
    "ping": lambda: [frame(PING, 0, 0, bytes(8))] * FLOOD,
    "ping answers": lambda: [frame(PING, ACK, 0, bytes(8))] * FLOOD,
    "settings": lambda: [frame(SETTINGS, 0, 0, b"")] * FLOOD,
    "settings acknowledged": lambda: [frame(SETTINGS, ACK, 0, b"")] * FLOOD,
    "settings that do much": lambda: [settings_of(*[(INITIAL_WINDOW_SIZE, 9)] * (MOST_SETTINGS + 1))],
    "priority": lambda: [frame(PRIORITY, 0, 1, bytes(5))] * FLOOD,
    "unknown kinds": lambda: [frame(0xFA, 0, 1, b"x")] * FLOOD,
    "empty data": lambda: [headers(1)] + [frame(DATA, 0, 1, b"")] * FLOOD,
    "padding alone": lambda: [headers(1)] + [frame(DATA, PADDED, 1, b"\3\0\0\0")] * FLOOD,
    "data of a call that ended": lambda: calls(1) + [frame(DATA, 0, 1, b"x")] * FLOOD,
    "windows wider by a byte": lambda: [headers(1)] + [window_update(0, 1), window_update(1, 1)] * FLOOD,
    "empty continuations": lambda: [headers(1, 0)] + [frame(CONTINUATION, 0, 1, b"")] * FLOOD,
    "long continuations": lambda: [headers(1, 0)] + [frame(CONTINUATION, 0, 1, bytes(999))] * FLOOD,
    "headers of a call that ended": lambda: calls(1) + [headers(1)] * FLOOD,
    "more streams than there may be": lambda: [headers(n) for n in rising(MOST_STREAMS + FLOOD)],
    "header blocks to decode": lambda: [
        headers(n, END_HEADERS | END_STREAM, BLOCK + write_headers([("x", str(n) + "y" * 9000)])) for n in rising(FLOOD)
    ],
}


@pytest.mark.parametrize("name", FLOODS)
async def test_flood(name: str):
    """Ended with ENHANCE_YOUR_CALM; and what was answered until then is bounded."""
    peer = Peer(serving(Echo)).begin()
    peer.send(*FLOODS[name]())
    assert await peer.told() is Code.ENHANCE_YOUR_CALM
    assert len(peer.transport.written) < 1 << 20
    peer.lose()


BROKEN = {
    "no preface": (b"GET / HTTP/1.1\r\n", Code.PROTOCOL_ERROR),
    "frame too long": (frame(DATA, 0, 1, bytes(LARGEST_FRAME + 1)), Code.FRAME_SIZE_ERROR),
    "push": (frame(PUSH_PROMISE, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "even stream": (headers(2), Code.PROTOCOL_ERROR),
    "data before headers": (frame(DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    "data of stream 0": (frame(DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "reset before headers": (frame(RST_STREAM, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "short reset": (headers(1) + frame(RST_STREAM, 0, 1, b"x"), Code.FRAME_SIZE_ERROR),
    "window before headers": (window_update(1, 1), Code.PROTOCOL_ERROR),
    "window of 0": (window_update(0, 0), Code.PROTOCOL_ERROR),
    "window too wide": (window_update(0, LARGEST_WINDOW), Code.FLOW_CONTROL_ERROR),
    "initial window too wide": (settings_of((INITIAL_WINDOW_SIZE, LARGEST_WINDOW + 1)), Code.FLOW_CONTROL_ERROR),
    "frames too short": (settings_of((MAX_FRAME_SIZE, 9)), Code.PROTOCOL_ERROR),
    "odd settings": (frame(SETTINGS, 0, 0, b"x"), Code.FRAME_SIZE_ERROR),
    "settings of a stream": (frame(SETTINGS, 0, 1, b""), Code.PROTOCOL_ERROR),
    "odd ping": (frame(PING, 0, 0, b"x"), Code.FRAME_SIZE_ERROR),
    "odd priority": (frame(PRIORITY, 0, 1, b"x"), Code.FRAME_SIZE_ERROR),
    "padding longer than the frame": (headers(1) + frame(DATA, PADDED, 1, b"\5x"), Code.PROTOCOL_ERROR),
    "continuation of nothing": (frame(CONTINUATION, 0, 1, b""), Code.PROTOCOL_ERROR),
    "continuation of another": (headers(1, 0) + frame(CONTINUATION, 0, 3, b""), Code.PROTOCOL_ERROR),
    "headers not continued": (headers(1, 0) + frame(PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    "two headers": (headers(1) + headers(1), Code.PROTOCOL_ERROR),
    "no header block": (headers(1, block=b"\xff\xff\xff"), Code.COMPRESSION_ERROR),
    "index beyond the table": (headers(1, block=b"\xfe"), Code.COMPRESSION_ERROR),
    "endless integer": (headers(1, block=b"\x00\x7f" + b"\xff" * 2000), Code.COMPRESSION_ERROR),
    "table too large": (headers(1, block=b"\x3f\xff\xff\x7f"), Code.COMPRESSION_ERROR),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_protocol(name: str):
    data, code = BROKEN[name]
    peer = Peer(serving(Deaf))
    peer.send(*([] if name == "no preface" else [PREFACE]), data)
    assert await peer.told() is code
    peer.lose()


async def test_header_bomb():
    """An entry of the table, referred to again and again: 16 KB that mean 64 MB."""
    bomb = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12_000
    peer = Peer(serving(Deaf)).begin()
    peer.send(headers(1, block=bomb))
    assert await peer.told() is Code.COMPRESSION_ERROR
    with pytest.raises(hpack.OversizedHeaderListError):
        HeaderReader(list, lambda cost: None).read(b"\x40\x01a\x03bbb" + b"\xbe" * (READ_BLOCK // 36 + 1))


async def test_a_peer_sends_no_more_than_it_was_allowed():
    peer = Peer(serving(Deaf)).begin()
    chunk = bytes(LARGEST_FRAME)
    peer.send(headers(1), *[frame(DATA, 0, 1, chunk)] * (DEFAULT_WINDOW // LARGEST_FRAME + 1))
    assert (RST_STREAM, 0, 1, struct.pack(">I", Code.FLOW_CONTROL_ERROR)) in await peer.received()
    peer.lose()


async def test_data_behind_the_end():
    peer = Peer(serving(Deaf)).begin()
    peer.send(headers(1), frame(DATA, END_STREAM, 1, b"x"), frame(DATA, 0, 1, b"x"))
    assert (RST_STREAM, 0, 1, struct.pack(">I", Code.STREAM_CLOSED)) in await peer.received()


async def test_long_messages_at_once():
    """More than fits: each has the room for all of it or waits for that, and all of them come through."""
    peer, count, size = Peer(serving(Echo)).begin(), 12, 2_000_000
    message = struct.pack(">BI", 0, size) + bytes(size)
    left = {number: bytearray(message) for number in rising(count)}
    windows = dict.fromkeys([0, *left], DEFAULT_WINDOW)
    peer.send(settings_of((INITIAL_WINDOW_SIZE, LARGEST_WINDOW)), window_update(0, LARGEST_WINDOW - DEFAULT_WINDOW))
    peer.send(*[headers(number) for number in left])
    held = seen = 0
    async with asyncio.timeout(PATIENCE_S):
        while left:
            frames = await peer.received()
            for kind, flags, stream, payload in frames[seen:]:
                if kind == WINDOW_UPDATE and stream in windows:
                    windows[stream] += int.from_bytes(payload)
                elif kind == HEADERS and flags & END_STREAM:
                    assert not left.pop(stream), "answered when all of it had been sent"
            seen = len(frames)
            for number, rest in left.items():
                part = rest[: min(LARGEST_FRAME, windows[0], windows[number])]
                if part:
                    peer.send(frame(DATA, 0, number, bytes(part)))
                    del rest[: len(part)]
                    windows[0] -= len(part)
                    windows[number] -= len(part)
            open_calls = [stream.receiver for stream in peer.connection._streams.values()]
            held = max(held, sum(len(call._held) for call in open_calls))
    assert held <= LOAN + count * DEFAULT_WINDOW + CONNECTION_WINDOW
    peer.lose()


async def test_a_working_peer_is_never_out_of_its_allowance():
    """Pings and windows with every call, for many times as many calls as a flood has frames."""
    peer = Peer(serving(Echo)).begin()
    for start in range(0, 5 * MOST, 100):
        batch = calls(100, first=2 * start + 1)
        peer.send(*[part + frame(PING, 0, 0, bytes(8)) + window_update(0, 6) for part in batch])
    assert await peer.told() is None


async def test_calls_that_are_cancelled_now_and_then():
    """Time earns: as many again for every second."""
    now = [0.0]
    peer = Peer(serving(Silent), lambda: now[0]).begin()
    for number in rising(MOST * 3):
        now[0] += 1 / PER_SECOND
        peer.send(headers(number), frame(RST_STREAM, 0, number, bytes(4)))
    assert await peer.told() is None


def test_allowance():
    now = [0.0]
    allowance = Allowance(lambda: now[0])
    allowance.spend(MOST)
    with pytest.raises(ConnectionFailed):
        allowance.spend()
    now[0] = 1e6
    allowance = Allowance(lambda: now[0])
    allowance.earn(1 << 30)
    allowance.spend(MOST)
    with pytest.raises(ConnectionFailed):
        allowance.spend(1)


async def test_answers_wait_for_the_peer():
    """A window of nothing: the answer stays, a byte of window lets a byte go, and then all of it."""
    peer = Peer(serving(Echo))
    peer.send(PREFACE, settings_of((INITIAL_WINDOW_SIZE, 0)), headers(1), frame(DATA, 0, 1, MESSAGE))

    def answer(frames) -> bytes:
        return b"".join(payload for kind, _, stream, payload in frames if (kind, stream) == (DATA, 1))

    assert answer(await peer.received()) == b""
    peer.send(window_update(1, 1))
    assert answer(await peer.received()) == MESSAGE[:1]
    peer.send(settings_of((INITIAL_WINDOW_SIZE, 100)))
    frames = await peer.received()
    assert answer(frames) == MESSAGE
    assert (HEADERS, END_HEADERS | END_STREAM, 1) in [frame[:3] for frame in frames]


async def test_a_peer_that_does_not_read_may_not_ask():
    peer = Peer(serving(Echo)).begin()
    peer.connection.pause_writing()
    assert not peer.transport.reading
    peer.connection.resume_writing()
    assert peer.transport.reading


@pytest.mark.parametrize(
    "said",
    [b"", PREFACE[:9], PREFACE + b"\0", PREFACE + headers(1, 0)],
    ids=["nothing", "half a preface", "half a frame", "half a header block"],
)
async def test_a_silent_peer_is_gone(said: bytes):
    peer = Peer(serving(Deaf), patience_s=0.05)
    peer.send(said)
    async with asyncio.timeout(PATIENCE_S):
        while not peer.transport.aborted:
            await asyncio.sleep(0.01)


async def test_a_peer_that_answers_pings_stays():
    peer = Peer(serving(Deaf), patience_s=0.05).begin()
    answered = 0
    async with asyncio.timeout(PATIENCE_S):
        while answered < 3:
            pings = [payload for kind, flags, _, payload in await peer.received() if kind == PING and not flags & ACK]
            if len(pings) > answered:
                answered += 1
                peer.send(frame(PING, ACK, 0, pings[-1]))
            await asyncio.sleep(0.005)
    assert not peer.transport.aborted
    peer.lose()


async def test_headers_longer_than_a_frame_are_continued():
    class Long(GrpcCall):
        def look(self) -> None:
            self.begin([("long", "x" * 40_000)])

    peer = Peer(serving(Long)).begin()
    peer.send(headers(1, END_HEADERS | END_STREAM))
    frames = [(kind, flags, payload) for kind, flags, stream, payload in await peer.received() if stream == 1]
    assert [frame[:2] for frame in frames] == [(HEADERS, 0), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)]
    assert b"x" * 40_000 in b"".join(payload for *_, payload in frames)


async def test_a_peer_without_a_table_can_read_the_answers():
    """Its decoder waits for the word that the table has become as small as its setting 1 asks, once (RFC 7541, 4.2)."""
    peer, decoder = Peer(serving(Echo)), hpack.Decoder()
    peer.send(PREFACE, settings_of((1, 0)), *calls(2))
    decoder.max_allowed_table_size = 0
    blocks = [payload for kind, _, _, payload in await peer.received() if kind == HEADERS]
    assert [decoder.decode(block)[0] for block in blocks] == [(":status", "200"), ("grpc-status", "0")] * 2
    assert [block[:1] == NO_TABLE for block in blocks] == [True, False, False, False]
    peer.lose()


FRAMES = st.builds(frame, st.integers(0, 10), st.integers(0, 255), st.integers(0, 7), st.binary(max_size=40))
SENSIBLE = st.sampled_from(
    [headers(1), headers(3), headers(5, END_HEADERS | END_STREAM), frame(DATA, 1, 1, MESSAGE), frame(DATA, 0, 3, MESSAGE * 2),
     frame(DATA, 0, 1, b"\0\0\x10\0\0"), frame(RST_STREAM, 0, 3, bytes(4)), window_update(1, 9), window_update(0, 1 << 20),
     settings_of((INITIAL_WINDOW_SIZE, 0)), settings_of((INITIAL_WINDOW_SIZE, 70_000)), frame(DATA, 0, 1, bytes(16_000))]
)  # fmt: skip


@given(st.lists(st.one_of(FRAMES, SENSIBLE, SENSIBLE, st.binary(max_size=30)), max_size=20), st.sampled_from([Echo, Silent, Deaf]))
def test_any_frames(parts: list[bytes], kind: type[GrpcCall]):
    """However they come cut: no exception, whole frames back, and nothing left behind."""

    async def try_it() -> None:
        data = PREFACE + b"".join(parts)
        for size in (1, 7, 65_536):
            peer = Peer(serving(kind))
            for start in range(0, len(data), size):
                peer.send(data[start : start + size])
            await peer.received()
            assert 0 <= peer.connection.windows.loan <= LOAN
            peer.lose()

    asyncio.run(try_it())


@pytest.mark.parametrize("bad", [struct.pack(">BI", 0, LARGEST + 1), struct.pack(">BI", 1, 2) + b"no"])
async def test_messages_before_a_bad_one_are_handed_out(bad: bytes):
    taken: list[list[bytes]] = []

    class Collector(GrpcCall):
        def look(self) -> None:
            while bodies := self.next_messages(10):
                taken.append(bodies)

    peer = Peer(serving(Collector)).begin()
    peer.send(headers(1), frame(DATA, 0, 1, MESSAGE * 2 + bad + MESSAGE))
    (last,) = [frame for frame in await peer.received() if frame[0] == HEADERS]
    assert taken == [[b"x", b"x"]] and last[1] & END_STREAM
    peer.lose()


async def test_new_calls_wait_while_there_is_no_room_and_nothing_else_does():
    room = [1]
    peer = Peer(serving(Deaf), turns=Turns(lambda: room[0])).begin()
    peer.send(headers(1))
    room[0] = 0
    peer.send(frame(PING, 0, 0, bytes(8)), frame(RST_STREAM, 0, 1, bytes(4)), headers(3))
    assert not peer.connection._streams and not peer.transport.reading
    assert (PING, ACK, 0, bytes(8)) in await peer.received()
    assert list(peer.connection._streams) == [3] and peer.transport.reading
    peer.lose()


async def test_a_call_that_makes_the_door_fail_costs_its_connection_alone():
    turns = Turns()
    peer, other = Peer(lambda stream, head: 1 / 0, turns=turns).begin(), Peer(serving(Echo), turns=turns).begin()
    peer.connection._postpone()
    other.connection._postpone()
    for each in (peer, other):
        each.connection._buffer = b"".join(calls(1))
    assert any(kind == HEADERS for kind, *_ in await other.received()) and peer.transport.aborted
    peer.lose()
    other.lose()


async def test_a_long_read_takes_several_turns():
    """What one peer sends at once does not keep the event loop from everybody else; and all of it is answered."""
    peer = Peer(serving(Echo)).begin()
    peer.send(*calls(5 * SHARE))
    assert len(peer.connection._streams) + len(peer.connection.outgoing._written) < 2 * SHARE and not peer.transport.reading
    peer.connection.pause_writing()
    await asyncio.sleep(0)
    peer.connection.resume_writing()
    answered = [stream for kind, flags, stream, _ in await peer.received() if kind == HEADERS and flags & END_STREAM]
    assert answered == list(rising(5 * SHARE)) and peer.transport.reading
    peer.lose()
