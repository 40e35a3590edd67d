"""What feedback puts on the wire, with a socket that only writes down, and at an edge that asks for tokens."""

from __future__ import annotations

import io
import json
import socket
from types import SimpleNamespace

import pytest

from device_client import Device
from edge_server.tokens import make_token, token_hash
from tests.semantic_codec.test_key_file import secret
from weaklink.processes import Service


class Line(io.BytesIO):
    """As a board's socket: a stream that is written to and read from."""

    sent = b""

    def __init__(self, *_) -> None:
        super().__init__(b'HTTP/1.0 200 OK\r\n\r\n{"matched": true}')

    def settimeout(self, _) -> None:
        pass

    def connect(self, _) -> None:
        pass

    def write(self, data: bytes) -> None:
        type(self).sent += data


def test_a_codec_s_name_may_have_letters_of_several_bytes(board_module, monkeypatch):
    feedback = board_module("feedback")
    sockets = SimpleNamespace(getaddrinfo=lambda *_: [(2, 1, 6, "", ("192.0.2.1", 8080))], socket=Line, SOCK_STREAM=1)
    monkeypatch.setattr(feedback, "socket", sockets)
    # MicroPython's json leaves letters as they are.
    monkeypatch.setattr(feedback, "json", SimpleNamespace(dumps=lambda fields: json.dumps(fields, ensure_ascii=False), loads=json.loads))
    assert feedback.report(("192.0.2.1", 8080), 7, 1, 2, "größe", "label") is True
    head, _, body = Line.sent.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head and json.loads(body)["codec"] == "größe"


class BoardSocket(socket.socket):
    """CPython's, which is no stream of its own."""

    write = socket.socket.sendall

    def readline(self) -> bytes:
        return self.makefile("rb", buffering=0).readline()

    def read(self) -> bytes:
        return self.makefile("rb", buffering=0).read()


def test_a_token_is_shown_to_an_edge_that_asks_for_one(board_module, monkeypatch, tmp_path, tiny, images):
    token = make_token("7")
    tokens = secret(tmp_path / "tokens.toml", f'[devices]\n7 = "{token_hash(token)}"\n')
    ports = ["--grpc-port", "0", "--udp-port", "0", "--http-port", "0", "--threads", "1"]
    sockets = SimpleNamespace(getaddrinfo=socket.getaddrinfo, socket=BoardSocket, SOCK_STREAM=socket.SOCK_STREAM)
    monkeypatch.setattr(board_module("feedback"), "socket", sockets)
    with Service(["serve", *ports, "--bundles", str(tiny.folder.parents[1]), "--tokens", str(tokens)]) as edge:
        with Device(tiny, "udp", edge.ready["udp"], device=7, timeout_s=20) as device:
            answer = device.infer(images[0])
        line = board_module("transports").StreamTransport(None)

        def feedback(**settings) -> bool:
            board = board_module("device").Device(str(tiny.folder), line, device=7, feedback=edge.ready["http"], **settings)
            return board.feedback(answer, 0)

        assert feedback(token=token) is True
        with pytest.raises(board_module("errors").Unavailable, match="401.*pass the device's token"):
            feedback()
