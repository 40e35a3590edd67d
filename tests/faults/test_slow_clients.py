"""Clients that take their time, or are gone without a word: the honest are served, and the others do not stay for ever."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from semantic_codec.bundle import load_bundle
from semantic_codec.reply import REPLY_BYTES, ReplyStatus, read_reply
from semantic_codec.serial_framing import SYNC, add_sync
from tests.faults.clients import blocking_stub, infer_request, open_frame, udp_socket
from tests.faults.edge import PATIENCE_S, Edge, wait_until

pytestmark = pytest.mark.timeout(600)  # on a machine that is busy with something else, too

CLIENT_TIMEOUT_S = 4
CONNECTIONS = 100
SO_ATTACH_FILTER = 26
FULL_REQUEST = b"POST /v1/infer?codec=toy HTTP/1.1\r\nhost: edge\r\ncontent-type: application/octet-stream\r\ncontent-length: 8\r\n\r\n"


@pytest.fixture(scope="module")
def edge(bundle_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = {"client_timeout_s": CLIENT_TIMEOUT_S, "deadline_s": PATIENCE_S}
    with Edge(tmp_path_factory.mktemp("edge"), bundle_root, **settings) as edge:
        edge.get("/metrics")
        yield edge
        assert edge.stop() == 0 and "Traceback" not in edge.log()


@contextmanager
def connections(edge: Edge, door: str, count: int = CONNECTIONS) -> Iterator[list[socket.socket]]:
    with ExitStack() as open_sockets:
        yield [
            open_sockets.enter_context(socket.create_connection(edge.address(door), timeout=PATIENCE_S))
            for _ in range(count)
        ]


def serve_the_honest(edge: Edge, count: int = 20) -> int:
    """Answers of new connections over every door."""
    bundle = load_bundle(Path(edge.bundles) / "toy" / "2")
    with blocking_stub(edge) as stub, udp_socket(edge) as device:
        answered = sum(bool(stub.Infer(infer_request(), timeout=PATIENCE_S).results) for _ in range(count))
        for sequence in range(count):
            device.send(open_frame(bundle, sequence))
            answered += read_reply(device.recv(1024), 7).sequence == sequence
    with socket.create_connection(edge.address("serial"), timeout=PATIENCE_S) as line:
        line.sendall(add_sync(open_frame(bundle, 0, device=8)))
        answered += read_reply(received(line, len(SYNC) + REPLY_BYTES)[len(SYNC) :], 8).status == ReplyStatus.ANSWERED
    answered += bool(edge.get("/readyz"))
    return answered


def received(sock: socket.socket, size: int) -> bytes:
    """The next ``size`` bytes, or fewer where the connection ends before."""
    data = b""
    while len(data) < size and (part := sock.recv(size - len(data))):
        data += part
    return data


def until_closed(sock: socket.socket) -> bytes:
    """What the server still says; returns when it has closed the connection."""
    data = b""
    try:
        while part := sock.recv(4096):
            data += part
    except ConnectionResetError:
        pass
    return data


def fall_silent(sock: socket.socket) -> None:
    """From now on the kernel drops whatever arrives for this socket, so that nothing is ever acknowledged: what is seen
    of a device that lost its power."""
    drop_all = struct.pack("=HBBI", 0x06, 0, 0, 0)  # one instruction of a classic packet filter: keep 0 bytes
    kept = ctypes.create_string_buffer(drop_all)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(kept)))


def test_http_clients_that_never_finish(edge: Edge, figures):
    """A third say nothing, a third stop within the head, a third within the body."""
    base, before = edge.descriptors(), edge.requests()
    with connections(edge, "http") as slow:
        for number, sock in enumerate(slow):
            sock.sendall((b"", FULL_REQUEST[:40], FULL_REQUEST + b"1234")[number % 3])
        answered = serve_the_honest(edge)
        last_words = [until_closed(sock) for sock in slow]
    told = sum(words.startswith(b"HTTP/1.1 408") for words in last_words)
    wait_until(lambda: edge.descriptors() <= base, "their connections are closed on the server's side")
    cancelled = (edge.requests() - before)["cancelled"]
    assert (answered, told) == (42, sum(number % 3 < 2 for number in range(CONNECTIONS)))
    assert cancelled == CONNECTIONS // 3, "each request that was begun has its outcome"
    figures(slow_clients=CONNECTIONS, closed=len(last_words), honest=42, answered=answered, counted_cancelled=cancelled)


def test_http_body_that_trickles(edge: Edge, figures):
    """A byte now and then is no reason to wait for ever."""
    with connections(edge, "http", 1) as (slow,):
        slow.sendall(FULL_REQUEST.replace(b"length: 8", b"length: 9999"))
        sent = 0
        with pytest.raises(OSError):
            while True:
                slow.sendall(b"x")
                sent += 1
                slow.settimeout(0.1)
                try:
                    if not slow.recv(4096):
                        raise ConnectionResetError
                except TimeoutError:
                    pass
    figures(bytes_sent=sent, closed=1)


def test_grpc_connections_that_never_speak(edge: Edge, figures):
    base = edge.descriptors()
    with connections(edge, "grpc") as silent:
        for number, sock in enumerate(silent):
            sock.sendall((b"", b"PRI * HTTP/2.0\r\n")[number % 2])
        answered = serve_the_honest(edge)
        for sock in silent:
            until_closed(sock)
    wait_until(lambda: edge.descriptors() <= base, "their connections are closed on the server's side")
    assert answered == 42
    figures(silent_connections=CONNECTIONS, closed=CONNECTIONS, honest=42, answered=answered)


@pytest.mark.parametrize("door", ["http", "serial", "grpc"])
def test_half_open_connections_of(edge: Edge, door: str, figures):
    """The other end is gone, and no FIN ever came."""
    base = edge.descriptors()
    spoken = {
        "http": FULL_REQUEST + b"12345678",
        "serial": b"half a frame",
        "grpc": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]),  # preface, empty SETTINGS
    }
    with connections(edge, door, 20) as gone:
        for sock in gone:
            sock.sendall(spoken[door])
        for sock in gone:
            fall_silent(sock)
        answered = serve_the_honest(edge)
        wait_until(lambda: edge.descriptors() <= base, "the server has found out")
    assert answered == 42
    figures(half_open=len(gone), found_out=len(gone), honest=42, answered=answered)


def test_serial_lines_that_stall(edge: Edge, figures):
    """A line may stop in the middle of a frame for as long as it likes; what it says then is heard."""
    bundle = load_bundle(Path(edge.bundles) / "toy" / "2")
    with connections(edge, "serial", 50) as lines:
        frames = [add_sync(open_frame(bundle, 1, device=100 + number)) for number in range(len(lines))]
        for line, frame in zip(lines, frames):
            line.sendall(frame[:15])
        answered = serve_the_honest(edge)
        for line, frame in zip(lines, frames):
            line.sendall(frame[15:])
        replies = [received(line, len(SYNC) + REPLY_BYTES)[len(SYNC) :] for line in lines]
    assert [read_reply(reply, 100 + number).sequence for number, reply in enumerate(replies)] == [1] * len(lines)
    assert answered == 42
    figures(stalled_lines=len(lines), answered_later=len(replies), honest=42, answered=answered)


def test_streams_whose_answers_nobody_reads(edge: Edge, figures):
    """The server stops reading such a stream: what waits for it stays below a bound."""
    before, read = edge.memory_mb(), 0
    count, length = 4, 20_000

    def requests() -> Iterator[object]:
        for number in range(length):
            yield infer_request(request_id=str(number))

    with blocking_stub(edge) as stub:
        deaf = [stub.InferStream(requests()) for _ in range(count)]
        answered = serve_the_honest(edge)
        # All of it is read in the end, by one that was slow and not gone.
        for answer in deaf[0]:
            assert answer.results and answer.request_id == str(read)
            read += 1
            if read == 2_000:
                break
        for call in deaf:
            call.cancel()
    after = edge.memory_mb()
    assert (answered, read) == (42, 2_000)
    assert after < before + 100, "a bound in place of growth: the requests alone would be more"
    figures(deaf_streams=count, honest=42, answered=answered, memory_mb_before=before, memory_mb_after=after)
