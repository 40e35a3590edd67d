"""The end of the HTTP port."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.edge_server.conftest import running

REQUEST = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
MANY = 1000
"""More answers than the buffers of a connection take."""


async def test_a_peer_that_takes_no_answer_does_not_hold_up_the_end(bundle_root: Path, caplog: pytest.LogCaptureFixture):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        async with asyncio.timeout(30):
            async with running(bundle_root, drain_s=0.5) as (_, at):
                loop, (host, _, port) = asyncio.get_running_loop(), at["http"].rpartition(":")
                await loop.sock_connect(sock, (host, int(port)))
                await loop.sock_sendall(sock, REQUEST * MANY)
                assert await loop.sock_recv(sock, 1)
    assert "HTTP connections still open after 0.5 s: 1" in caplog.text
