"""`weaklink emulate` as a process: it says where it listens, serves, and ends cleanly."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from channel_emulator import control_client
from channel_emulator.__main__ import main


@pytest.fixture
def start(repository):
    """start(arguments) runs the emulator: (process, its ready line). Every process is gone at the end."""
    processes = []

    def run(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "channel_emulator", "--control-port", "0", *arguments],
            cwd=repository,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process, json.loads(process.stdout.readline())

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_listens_serves_configured_links_and_ends_cleanly(start, tmp_path, number):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as edge, socket.socket(type=socket.SOCK_DGRAM) as device:
        edge.bind(("127.0.0.1", 0))
        edge.settimeout(20)
        upstream = "{}:{}".format(*edge.getsockname())
        up = [{"channel": "truncation", "probability": 1, "keep_bytes": 5}]
        radio = {"name": "radio", "kind": "udp", "upstream": upstream, "up": up}
        gateway = {"name": "gateway", "kind": "grpc", "upstream": "127.0.0.1:9"}
        config = tmp_path / "links.json"
        config.write_text(json.dumps({"links": [radio, gateway]}))
        process, ready = start("--config", str(config))
        assert ready["event"] == "listening" and set(ready["links"]) == {"radio", "gateway"}
        host, port = ready["links"]["radio"].rsplit(":", 1)
        device.sendto(b"0123456789", (host, int(port)))
        assert edge.recv(100) == b"01234"
        assert httpx.get(f"http://{ready['control']}/links", headers={"host": "evil.example"}, trust_env=False).status_code == 403
        links = control_client.call(ready["control"], "GET", "/links")
        assert [link["listen"] for link in links] == list(ready["links"].values())
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_it_may_open_as_many_files_as_this_machine_lets_it(start):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
        process, _ = start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_busy_port_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--control-port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and f"127.0.0.1:{port}" in error and "taken" in error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "no JSON"),
        ("[]", "another shape"),
        ('{"links": [{"name": "radio"}]}', "lacks 'kind'"),
        ('{"links": [{"name": "a", "kind": "udp", "upstream": "b:1", "up": [{"channel": "bsc"}]}]}', "its setting"),
    ],
)
def test_a_wrong_config_ends_the_start(tmp_path, capsys, text, words):
    path = tmp_path / "links.json"
    if text is not None:
        path.write_text(text)
    assert main(["--control-port", "0", "--config", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and words in captured.err


@pytest.mark.parametrize("flags", [["--control-port", "70000"], ["--control-port", "0", "--max-devices", "0"]])
def test_flags_out_of_range_are_refused(capsys, flags):
    assert main(flags) == 2
    assert f"{flags[-2]} is {flags[-1]}" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "--config" in capsys.readouterr().out


def test_it_needs_no_torch(repository):
    code = "import sys, channel_emulator.__main__, channel_emulator.control_client; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
