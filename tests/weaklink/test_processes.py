from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest

from semantic_codec.errors import Unavailable
from weaklink.processes import Service


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_service_is_ready_inside_and_gone_outside():
    with Service(["emulate", "--control-port", "0"]) as emulator:
        host, _, port = emulator.ready["control"].rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        assert alive(emulator.process.pid)
    assert emulator.process.returncode == 0
    assert not alive(emulator.process.pid)


def test_it_is_gone_after_an_error_too():
    with pytest.raises(ZeroDivisionError), Service(["emulate", "--control-port", "0"]) as emulator:
        1 / 0
    assert not alive(emulator.process.pid)


def test_a_busy_port_is_told_with_the_services_own_words():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        service = Service(["emulate", "--control-port", port])
        with pytest.raises(Unavailable, match=f"{port}.*ended before it was ready.*{port}.*taken"):
            service.__enter__()
    assert not alive(service.process.pid)


def test_a_service_that_never_gets_ready_is_stopped():
    service = Service(["emulate", "--control-port", "0"], start_s=0.0)
    with pytest.raises(Unavailable, match="within 0 s"):
        service.__enter__()
    assert not alive(service.process.pid)


@pytest.mark.timeout(30)
def test_a_service_that_does_not_end_is_killed():
    with Service(["emulate", "--control-port", "0"], stop_s=0.2) as emulator:
        emulator.process.send_signal(signal.SIGSTOP)
    assert emulator.process.returncode == -signal.SIGKILL


def test_a_service_that_a_signal_meets_while_it_starts_is_stopped(monkeypatch):
    def interrupted(*arguments, **options) -> subprocess.Popen:
        made.append(popen(*arguments, **options))
        signal.raise_signal(signal.SIGTERM)
        return made[0]

    def leave(*_) -> None:
        raise SystemExit(143)

    popen, made = subprocess.Popen, []
    monkeypatch.setattr(subprocess, "Popen", interrupted)
    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(SystemExit):
            Service(["emulate", "--control-port", "0"]).__enter__()
        assert signal.getsignal(signal.SIGTERM) is leave
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not alive(made[0].pid)
