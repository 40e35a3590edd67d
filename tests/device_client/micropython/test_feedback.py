"""What feedback puts on the wire, with a socket that only writes down."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace


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
