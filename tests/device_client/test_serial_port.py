"""A serial port of this machine: a pseudo-terminal, joined to the edge's serial door as socat or ser2net would."""

from __future__ import annotations

import os
import pty
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from device_client import Device
from semantic_codec.errors import ConfigError, Unavailable

pytest.importorskip("serial", reason="no pyserial: pip install 'weaklink[serial]'")
PATIENCE_S = 20.0


@pytest.fixture
def port(edge) -> Iterator[str]:
    """The name of a port whose other end is the edge."""
    master, slave = pty.openpty()
    ended, end = os.pipe()
    host, number = edge["serial"].rsplit(":", 1)
    with socket.create_connection((host, int(number)), PATIENCE_S) as line:

        def pump() -> None:
            while True:
                ready = select.select([master, line, ended], [], [])[0]
                if ended in ready:
                    return
                if master in ready:
                    line.sendall(os.read(master, 4096))
                if line in ready:
                    os.write(master, line.recv(4096))

        thread = threading.Thread(target=pump)
        thread.start()
        yield os.ttyname(slave)
        os.write(end, b"x")
        thread.join(PATIENCE_S)
    for each in (master, slave, ended, end):
        os.close(each)


def test_answers_come_over_a_port_as_over_tcp(port, edge, tiny, images):
    with Device(tiny, "serial", edge["serial"], device=901, timeout_s=PATIENCE_S) as device:
        expected = [device.infer(image).class_index for image in images[:5]]
    with Device(tiny, "serial", port, device=902, timeout_s=PATIENCE_S, baud=57_600) as device:
        assert [device.infer(image).class_index for image in images[:5]] == expected


def test_a_port_that_is_not_there_and_a_rate_that_no_port_has_are_named(port, tiny):
    with pytest.raises(Unavailable, match="/dev/tty-of-nobody cannot be reached"):
        Device(tiny, "serial", "/dev/tty-of-nobody")
    with pytest.raises(ConfigError, match="-5 baud"):
        Device(tiny, "serial", port, baud=-5)
