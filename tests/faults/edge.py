"""A real ``weaklink serve`` as a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
FREE_PORTS = {"grpc_port": 0, "udp_port": 0, "http_port": 0, "serial_port": 0}
PATIENCE_S = 60.0
"""How long anything may take before a test gives up: the machine may be busy with something else."""


class Edge:
    """``with Edge(folder, bundles) as edge``: a server on free ports, its log in ``folder``; killed at the end if need be.

    Args:
        limits: soft and hard resource limit of the process, by `resource.RLIMIT_...`.
        wrapper: a command that runs the server, say `unshare`.
        stderr: where the log goes instead.
        settings: as ``weaklink serve`` has them; without an engine process where they name none, to start sooner.
    """

    def __init__(
        self,
        folder: Path,
        bundles: Path | None,
        *,
        environment: Mapping[str, str] | None = None,
        limits: Mapping[int, int] | None = None,
        wrapper: Sequence[str] = (),
        stderr: Path | None = None,
        **settings: object,
    ):
        self.bundles = bundles
        self._limits, self._log = dict(limits or {}), stderr or folder / "edge.log"
        chosen = FREE_PORTS | {"threads": 1, "engines": 0} | ({} if bundles is None else {"bundles": bundles}) | settings
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
        self._command = [*wrapper, sys.executable, "-m", "weaklink", "serve", *flags]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._environment = {**os.environ, "PYTHONPATH": path, **(environment or {})}
        self.at: dict[str, str] = {}

    def __enter__(self) -> Edge:
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                preexec_fn=self._limit,
                start_new_session=True,
            )
        ready = self.process.stdout.readline()
        if not ready:
            self.__exit__()
            raise AssertionError(f"the server ended with {self.process.returncode}: {self.log()}")
        self.at = json.loads(ready)
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def address(self, door: str) -> tuple[str, int]:
        """Host and port of grpc, http, udp or serial."""
        host, _, port = self.at[door].rpartition(":")
        return host, int(port)

    def get(self, path: str) -> bytes:
        """An admin page's body."""
        with urllib.request.urlopen(f"http://{self.at['http']}{path}", timeout=PATIENCE_S) as answer:
            return answer.read()

    def samples(self) -> Counter[tuple[str, tuple[str, ...]]]:
        """Every metric's value by name and label values, in the order of the labels' names."""
        families = text_string_to_metric_families(self.get("/metrics").decode())
        return Counter(
            {
                (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
                for family in families
                for sample in family.samples
            }
        )

    def requests(self, transport: str = "") -> Counter[str]:
        """Requests so far by outcome, all codecs together; of one transport where it is named."""
        outcomes: Counter[str] = Counter()
        for (name, labels), value in self.samples().items():
            if name == "weaklink_requests_total" and transport in ("", labels[2]):  # labels: codec, outcome, transport
                outcomes[labels[1]] += int(value)
        return +outcomes  # those that happened

    def frames(self) -> Counter[str]:
        """Frames so far by outcome."""
        samples = self.samples().items()
        return Counter({labels[0]: int(value) for (name, labels), value in samples if name == "weaklink_frames_total"})

    def memory_mb(self) -> float:
        """Resident memory of the server and its children, shared pages counted in part, MB."""
        kilobytes = 0
        for process in self._family():
            with suppress(OSError):  # a child may have ended by now
                text = Path(f"/proc/{process}/smaps_rollup").read_text()
                kilobytes += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        return kilobytes / 1e3

    def cpu_s(self) -> float:
        """CPU time of the server and its children so far, seconds."""
        ticks = 0
        for process in self._family():
            with suppress(OSError):
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """Files and sockets that the server has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _family(self) -> list[int]:
        family = [self.process.pid]
        for process in family:  # grows while it is walked
            with suppress(OSError):
                for task in Path(f"/proc/{process}/task").iterdir():
                    family += map(int, (task / "children").read_text().split())
        return family

    def _limit(self) -> None:
        for name, value in self._limits.items():
            resource.setrlimit(name, (value, value))


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Poll until true; AssertionError names ``what`` after :data:`PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)
