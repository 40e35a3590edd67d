"""A Docker engine where one can be had, and the compose stack on it under a project name and ports of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Sequence

from tests.conftest import ROOT

ENGINE_VARIABLE = "WEAKLINK_DOCKER_ENGINE"
PORTS = ("EDGE_GRPC_PORT", "EDGE_UDP_PORT", "EDGE_HTTP_PORT", "EMULATOR_CONTROL_PORT", "EMULATOR_GRPC_PORT",
         "EMULATOR_UDP_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")  # fmt: skip


class NoEngine(Exception):
    """Says why there is no Docker engine to test with."""


def run(command: Sequence[str], timeout: float = 60, **options) -> str:
    """Standard output of a command; AssertionError with everything it said where it fails."""
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **options
    )
    assert ended.returncode == 0, f"{' '.join(command)} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def engine_answers() -> bool:
    """Whether `docker info` reaches an engine."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, stdin=subprocess.DEVNULL, timeout=60).returncode == 0


def start_engine(images: Sequence[str]) -> bool:
    """Finds an engine, or has the script named by $WEAKLINK_DOCKER_ENGINE bring one with `images`.

    Returns whether the engine was started here. NoEngine: there is none.
    """
    script = os.environ.get(ENGINE_VARIABLE)
    had = engine_answers()
    if script:
        ended = subprocess.run([script, *images], capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
        # Not its exit status but what it was to bring decides.
        assert engine_answers(), f"{script} brought no engine\n{ended.stdout}\n{ended.stderr}"
        run(["docker", "image", "inspect", *images])
    elif not had:
        raise NoEngine(f"`docker info` finds no engine and {ENGINE_VARIABLE} names no script that starts one")
    if not compose_command():
        raise NoEngine("neither `docker compose` nor `docker-compose` is installed")
    return bool(script) and not had


def stop_engine() -> None:
    """Stops the engine that `start_engine` started."""
    run([os.environ[ENGINE_VARIABLE], "--stop"])


def compose_command() -> list[str]:
    """`docker compose` or, where the plugin is missing, `docker-compose`; empty where there is neither."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    return []


class Stack:
    """`docker compose up` under a name of its own, on ports that the engine chooses."""

    def __init__(self):
        self._compose = [*compose_command(), "--project-name", f"weaklink-test-{secrets.token_hex(4)}"]
        self._environment = os.environ | dict.fromkeys(PORTS, "0")

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        return run([*self._compose, *arguments], timeout, env=self._environment)

    def address(self, service: str, port: int) -> str:
        """Where a published port is reached from here, host:port."""
        return self.compose("port", service, str(port)).strip()

    def container(self, service: str) -> dict:
        """What `docker inspect` says of the service's container."""
        identity = self.compose("ps", "--all", "--quiet", service).split()[0]
        return json.loads(run(["docker", "inspect", identity]))[0]

    def health(self, service: str) -> str:
        return self.container(service)["State"]["Health"]["Status"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """A PromQL instant query: (labels, value) of each series."""
        url = f"http://{self.address('prometheus', 9090)}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as response:
            series = json.load(response)["data"]["result"]
        return [(each["metric"], float(each["value"][1])) for each in series]


def image_bytes(name: str) -> int:
    """Size of an image with all of its layers."""
    return int(run(["docker", "image", "inspect", "--format", "{{.Size}}", name]))
