"""Our own services as child processes: started, waited for, and always stopped."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from semantic_codec.errors import Unavailable

SOURCE_ROOT = Path(__file__).resolve().parents[1]
LOG_TAIL_CHARACTERS = 1500


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Handlers of SIGINT and SIGTERM run when the body is through: while a process starts, what they raise would lose it."""
    if threading.current_thread() is not threading.main_thread():  # which alone runs handlers
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


class Service:
    """``python -m weaklink VERB ...`` as a context manager.

    Entering waits for the ready line, one JSON object on stdout, kept in :attr:`ready`; leaving sends SIGTERM, then
    SIGKILL after `stop_s` seconds. :class:`Unavailable` carries the end of the log where the service did not get ready.
    """

    def __init__(self, arguments: Sequence[str], *, start_s: float = 120.0, stop_s: float = 30.0):
        self.arguments, self.start_s, self.stop_s = list(arguments), start_s, stop_s
        self.ready: dict[str, str] = {}

    def __enter__(self) -> Service:
        self._log = tempfile.TemporaryFile()
        # Found from any working directory, and from a source tree that was never installed.
        path = os.pathsep.join(filter(None, [str(SOURCE_ROOT), os.environ.get("PYTHONPATH")]))
        with contextlib.ExitStack() as undo:
            with _signals_deferred():
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "weaklink", *self.arguments],
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": path},
                    # Ctrl-C in the terminal must reach us alone: we stop the children in order.
                    start_new_session=True,
                )
                undo.push(self)
            self.ready = self._wait()
            undo.pop_all()
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(self.stop_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self._log.close()

    def log(self) -> str:
        """The end of what the service wrote to stderr so far."""
        # The child shares this file's position: reading must not move it.
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), LOG_TAIL_CHARACTERS, max(0, size - LOG_TAIL_CHARACTERS)).decode(errors="replace")

    def _wait(self) -> dict[str, str]:
        lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        reader = threading.Thread(target=lambda: lines.put(self.process.stdout.readline()), daemon=True)
        reader.start()
        try:
            line = lines.get(timeout=self.start_s)
        except queue.Empty:
            raise self._not_ready(f"did not get ready within {self.start_s:g} s") from None
        try:
            return json.loads(line)
        except ValueError:
            raise self._not_ready("ended before it was ready") from None

    def _not_ready(self, what: str) -> Unavailable:
        return Unavailable(
            f"weaklink {' '.join(self.arguments)} {what}; its log ends: {self.log().strip() or 'empty'}",
            allowed="a service that starts",
            fix=f"run `weaklink {self.arguments[0]}` by hand to see why",
        )
