"""The code blocks of the README and the operator's guide work as they stand.

Python blocks run in one interpreter each; of console blocks, the lines that start with `$ ` run in one shell, in order,
from the root of the repository. An HTML comment right before a block changes that:
`<!-- not run: REASON -->` leaves it out, `<!-- beside: COMMAND -->` runs it beside a server that prints one line when ready.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "operating.md"
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|beside): *(?P<what>.*?) *-->\n+)?^```(?P<language>python|console)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TIME_LIMIT_S = 900


@dataclass(frozen=True)
class Block:
    """One fenced block: line in the file, language, text, and what its comment says."""

    line: int
    language: str
    text: str
    mark: str | None
    what: str | None

    def command(self) -> list[str]:
        """What runs it. A console block stops at the first command that fails."""
        if self.language == "python":
            return [sys.executable, "-c", self.text]
        lines = [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]
        return ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]


def blocks(text: str) -> list[Block]:
    """All Python and console blocks of a Markdown text, in order."""
    return [
        Block(text.count("\n", 0, found.start("language")) + 1, found["language"], found["text"], found["mark"], found["what"])
        for found in BLOCK.finditer(text)
    ]


def environment() -> dict[str, str]:
    """`weaklink` and `python` are this environment's."""
    return os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


@contextmanager
def beside(command: str | None) -> Iterator[None]:
    """Runs a server until the block ends; it is ready when it has printed a line."""
    if command is None:
        yield
        return
    with subprocess.Popen(shlex.split(command), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline(), f"{command} ended before it was ready"
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


README_BLOCKS = blocks(README.read_text()) if README.exists() else []
GUIDE_BLOCKS = blocks(GUIDE.read_text())
CASES = [
    pytest.param(block, id=f"{path.stem}-line{block.line}")
    for path, found in ((README, README_BLOCKS), (GUIDE, GUIDE_BLOCKS))
    for block in found
    if block.mark != "not run"
]


@pytest.mark.slow
@pytest.mark.timeout(TIME_LIMIT_S + 30)
@pytest.mark.parametrize("block", CASES)
def test_block_runs(block, tmp_path):
    # A file, not a pipe: what a block leaves in the background would hold a pipe open.
    output = tmp_path / "output"
    with beside(block.what if block.mark == "beside" else None), output.open("w") as stream:
        process = subprocess.Popen(
            block.command(), cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, start_new_session=True,
            stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            status = process.wait(TIME_LIMIT_S)
        finally:
            end_group(process.pid)
            process.wait(10)
    assert status == 0, output.read_text()


def end_group(group: int) -> None:
    """Ends whatever is left of a block, in the background too."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def test_the_readme_has_blocks_that_run():
    assert any(block.mark != "not run" for block in README_BLOCKS)


def test_every_block_that_is_left_out_says_why():
    assert all(block.what for block in README_BLOCKS + GUIDE_BLOCKS if block.mark == "not run")


def test_marks_and_commands_are_read():
    text = """\
Text.

```console
$ weaklink codecs
codec  version
$ echo two
```

<!-- not run: it needs a camera -->
```console
$ weaklink send camera
```

<!-- beside: weaklink serve -->

```python
print(1)
```
"""
    first, second, third = blocks(text)
    assert (first.line, first.mark, first.command()[-1]) == (3, None, "weaklink codecs\necho two")
    assert (second.mark, second.what) == ("not run", "it needs a camera")
    assert (third.mark, third.what, third.text) == ("beside", "weaklink serve", "print(1)\n")
