"""The C library, compiled for this machine with the sanitizers and driven through pipes."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import BinaryIO

import pytest

HERE = Path(__file__).parent
LIBRARY = Path(__file__).parents[3] / "device_client" / "stm32"
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
INCLUDES = [f"-I{LIBRARY / 'include'}", f"-I{LIBRARY / 'src'}", f"-I{HERE}"]


class Harness:
    """Requests to a running harness (harness.h), wherever it runs."""

    def __init__(self, to: BinaryIO, back: BinaryIO):
        self._to, self._back = to, back

    def ask(self, operation: str, data: bytes = b"") -> tuple[int, bytes]:
        """The wl_error and the results."""
        self._to.write(struct.pack("<I", 1 + len(data)) + operation.encode() + data)
        self._to.flush()
        (length,) = struct.unpack("<I", self._read(4))
        reply = self._read(length)
        return reply[0], reply[1:]

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._back.read(count - len(data))
            assert part, "the harness has stopped: see its sanitizer's report on stderr"
            data += part
        return data


def need(tool: str) -> str:
    """Where the tool is; the test is skipped where it is not."""
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"needs {tool}, which is not on PATH")
    return found


@pytest.fixture(scope="session")
def host_harness(tmp_path_factory):
    """The library under the address and undefined-behaviour sanitizers."""
    compiler, program = need("gcc"), tmp_path_factory.mktemp("stm32") / "harness"
    sources = [*sorted((LIBRARY / "src").glob("*.c")), HERE / "harness.c", HERE / "host.c"]
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([compiler, *WARNINGS, *flags, *INCLUDES, *map(str, sources), "-o", str(program)], check=True)
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        yield Harness(process.stdin, process.stdout)
        process.stdin.close()
        assert process.wait(10) == 0
