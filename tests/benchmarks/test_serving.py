"""The benchmark of servers: its clients against the edge node, and the command's own rows."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from benchmarks import clients, h2load
from benchmarks.clients import GrpcClient, Http1Client
from benchmarks.serving import Bench, kept_rows, main
from benchmarks.serving_servers import Question, Server, questions, start_echo, start_weaklink
from semantic_codec.bundle import Bundle, find_bundle
from semantic_codec.errors import ConfigError

NEEDS_H2LOAD = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="the load generator h2load (nghttp2-client) is not installed"
)
SMALL = ["--bundles", "digits", "--concurrency", "3", "--loads-percent", "50", "--seconds", "0.3", "--warm-up-s", "0.1"]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return find_bundle("digits")


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory):
    made = start_weaklink([bundle], 1, 1, tmp_path_factory.mktemp("log") / "edge.log")
    yield made
    made.stop()


@pytest.mark.parametrize("rate", [None, 20.0])
@pytest.mark.parametrize("place", [0, 1], ids=["grpc", "http"])
def test_single_calls(server: Server, bundle: Bundle, place: int, rate: float | None):
    question = questions(server, bundle)[place]
    connected = [question.client() for _ in range(2)]
    load = clients.run(connected, 0.5, 0.1, rate, seed=1)
    for client in connected:
        client.sock.close()
    assert load.failed == 0 and len(load.latencies_s) > 0
    if rate is None:
        assert len(load.latencies_s) == round(load.requests_per_s * 0.5) and load.unanswered == 0
    assert (load.latencies_s > 0).all() and load.cpu_share > 0


def test_calls_that_fail_are_counted(server: Server, bundle: Bundle):
    grpc, http = questions(server, bundle)
    for question in (
        Question("grpc", grpc.path, b"\xff", grpc.port),
        Question("grpc", "/no.such/Method", grpc.body, grpc.port),
        Question("http", http.path, b"{}", http.port),
    ):
        client = question.client()
        load = clients.run([client], 0.3, 0.0)
        client.sock.close()
        assert load.failed >= len(load.latencies_s) > 0 == load.requests_per_s


@NEEDS_H2LOAD
@pytest.mark.parametrize("every", [2, 12])
def test_failed_calls_do_not_hide_behind_a_warm_up_or_among_many(every: int):
    """Of a server that fails every so many calls."""
    numbers, answer = itertools.count(), b"right"

    def call(request: bytes, context: grpc.ServicerContext) -> bytes:
        if next(numbers) % every == 0:
            context.abort(grpc.StatusCode.INTERNAL, "wrong")
        return answer

    server = grpc.server(ThreadPoolExecutor(1))
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    url, framed = f"http://127.0.0.1:{port}/test.Service/Call", b"\0\0\0\0\0"
    load = h2load.run(url, framed, True, 2, seconds=0.5, warm_up_s=0.5, answer_bytes=5 + len(answer))
    server.stop(None).wait(30)
    assert len(load.latencies_s) > 30 and load.failed == pytest.approx(len(load.latencies_s) / every, abs=2)
    assert load.requests_per_s * 0.5 == pytest.approx(len(load.latencies_s) - load.failed)


def test_streams_and_frames(server: Server, bundle: Bundle):
    bench = Bench([4], [], 0.3, 0.1, 0)
    rows = [*bench.streams(server, bundle), *bench.frames(server, bundle, 1)]
    assert [(row["server"], row.get("ber")) for row in rows] == [
        ("weaklink stream", None), ("weaklink udp", 0.0), ("weaklink udp", 0.01)
    ]  # fmt: skip
    assert all(row["requests_per_s"] > 0 and row["memory_mb"] > 10 for row in rows)
    assert not rows[0]["failed"] and not rows[1]["failed"]


def test_an_echo_is_asked_the_same(bundle: Bundle, tmp_path: Path):
    bench, made = Bench([4], [], 0.3, 0.1, 0), start_echo(tmp_path / "echo.log")
    try:
        (question,) = questions(made, bundle)
        client = question.client()
        load = clients.run([client], 0.3, 0.1)
        client.sock.close()
        rows = [*bench.streams(made, bundle), *bench.frames(made, bundle, 1, bers=(0.0,))]
    finally:
        made.stop()
    assert question.path.endswith("/Infer") and load.failed == 0 and len(load.latencies_s) > 0
    assert [row["server"] for row in rows] == ["echo stream", "echo udp"]
    assert all(row["requests_per_s"] > 0 and not row["failed"] for row in rows)


def test_answers_in_pieces():
    """However the bytes of an answer are cut, it ends where it ends."""
    http = Http1Client.__new__(Http1Client)
    assert not http._is_whole(b"content-length: 3", b"ab") and http._is_whole(b"content-length: 3", b"abc")
    chunked = b"transfer-encoding: chunked"
    assert not http._is_whole(chunked, b"1\r\na\r\n") and http._is_whole(chunked, b"1\r\na\r\n0\r\n\r\n")
    grpc = GrpcClient.__new__(GrpcClient)
    grpc._part = b""
    parts = (b"\0\0\0\0\3a", b"b", b"c", b"\0\0\0\0\0", b"\0\0\0\0\1d\0\0\0\0\0\0\0", b"\0\0\0")
    assert [grpc._answers(part) for part in parts] == [0, 0, 1, 1, 2, 1]


def test_the_wait_for_a_free_client_counts(server: Server, bundle: Bundle):
    """More than can be done: latencies grow with the time that requests wait to be sent."""
    question = questions(server, bundle)[1]
    client = question.client()
    load = clients.run([client], 0.5, 0.0, rate=20_000)
    client.sock.close()
    assert len(load.latencies_s) > 5_000 and np.median(load.latencies_s) > 0.05


def test_an_open_loop_counts_answers_and_not_what_was_asked_for():
    """Of a server that falls silent after three answers."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = Http1Client(listening.getsockname(), "/", b"")
        with client.sock, listening.accept()[0] as accepted:
            answering = threading.Thread(
                target=lambda: [accepted.sendall(answer) for _ in range(3) if accepted.recv(65_536)]
            )
            answering.start()
            load = clients.run([client], 1.0, 0.0, rate=100)
            answering.join(30)
    assert load.requests_per_s == 3 and load.failed == 0
    assert len(load.latencies_s) == 3 + load.unanswered > 10


@NEEDS_H2LOAD
def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture):
    file = tmp_path / "serving.json"
    earlier = {"server": "triton", "bundle": "digits", "requests_per_s": 1.0}
    file.write_text(json.dumps({"rows": [earlier, {"server": "weaklink grpc", "bundle": "digits"}]}))
    assert main([*SMALL, "--servers", "weaklink", "litserve", "engine", "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert {"commit", "machine", "versions", "date", "seed"} <= written["context"].keys()
    rows = written["rows"]
    assert rows[0] == earlier
    assert [row["server"] for row in rows[1:]] == [
        *["weaklink grpc"] * 2, *["weaklink http"] * 2, "weaklink stream", *["weaklink udp"] * 2, "litserve", "engine"
    ]  # fmt: skip
    measured = [row for row in rows[1:] if row["server"] != "litserve"]
    for row in measured:
        assert row["requests_per_s"] > 0 and 0 < row["latency_p50_ms"] <= row["latency_p99_ms"] <= row["latency_p999_ms"]
        assert row["memory_mb"] > 10
    assert next(row for row in rows if row["server"] == "litserve")["requests_per_s"] is None
    assert "not measured" in capsys.readouterr().out


def test_kept_rows(tmp_path: Path):
    file = tmp_path / "x.json"
    assert kept_rows(file, ["weaklink"], ["digits"]) == []
    rows = [{"server": server, "bundle": bundle} for server in ("weaklink udp", "engine") for bundle in ("digits", "cifar10")]
    file.write_text(json.dumps({"rows": rows}))
    assert kept_rows(file, ["weaklink"], ["digits"]) == rows[1:]


@pytest.mark.parametrize("wrong", [["--concurrency", "0"], ["--seconds", "0"], ["--loads-percent", "100"]])
def test_options_that_cannot_be(wrong: list[str], tmp_path: Path):
    with pytest.raises(ConfigError, match="concurrency"):
        main([*SMALL, *wrong, "--json", str(tmp_path / "x.json")])
