"""Where batches are computed: in this process, or in engine processes that are started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol

from edge_server.engine import Engine, EngineAnswer, EngineRequest
from edge_server.engine_process import GROUP_SIGNALS, LENGTH, as_error, pack, pack_batch, pack_bundle, receive, unpack_answers
from semantic_codec.bundle import Bundle
from semantic_codec.errors import Unavailable, WeaklinkError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
"""Between the restarts of an engine process that dies again before it answered: doubled each time."""
LOAD_S = 300.0
"""An engine process that takes longer over one bundle hangs; how long a bundle waits for one that starts again."""
log = logging.getLogger(__name__)


class Lane(Protocol):
    """Computes batches, one after the other. Belongs to the event loop's thread."""

    alive: bool
    """Whether a batch is welcome."""

    def submit(self, batch: Sequence[EngineRequest]) -> asyncio.Future[list[EngineAnswer]]:
        """May be called while others are computed. Unavailable: the engine died before the batch was answered. Any other
        exception: it failed, and lives."""

    def give_up(self) -> None:
        """A batch takes longer than any should. May be called again."""


class LocalLane:
    """In this process, on the one thread of ``executor``."""

    alive = True

    def __init__(self, infer: Callable[[Sequence[EngineRequest]], list[EngineAnswer]], executor: Executor):
        self._infer, self._executor = infer, executor

    def submit(self, batch: Sequence[EngineRequest]) -> asyncio.Future[list[EngineAnswer]]:
        return asyncio.get_running_loop().run_in_executor(self._executor, self._infer, batch)

    def give_up(self) -> None:
        """A thread cannot be ended."""


class EngineLane:
    """One engine process. :meth:`add` and :meth:`remove` may be called from any thread, also before :meth:`start`."""

    def __init__(
        self,
        runtime: str,
        threads: int,
        on_death: Callable[[], None],
        on_return: Callable[[], None],
        log_format: str = "text",
    ):
        self._runtime, self._threads, self._on_death, self._on_return = runtime, threads, on_death, on_return
        self._log_format = log_format
        self._bundles: dict[tuple, tuple] = {}  # and revision, which a new process has to be told
        self._lock = threading.Lock()  # of the control socket and what goes with it
        self.alive = False
        self._pause = FIRST_PAUSE_S
        self._closed = False
        self._replaced = threading.Event()  # the process that did not answer, by one that has loaded what it had
        self._restarting: asyncio.Task | None = None
        self._transport: asyncio.Transport | None = None
        self._answers: deque[asyncio.Future[list[EngineAnswer]]] = deque()  # of the batches under way
        self._spawn()

    @property
    def pid(self) -> int:
        return self._process.pid

    def add(self, bundle: Bundle, *revision: int) -> None:
        """As :meth:`Engine.add`. A process may die for other reasons than a bundle, so the next one is told, too. Unavailable:
        that one died as well; others have one to go on with."""
        key = (bundle.manifest.name, bundle.manifest.version, *revision)
        for _ in range(2):
            try:
                with self._lock:
                    self._tell(pack_bundle(bundle, *revision))
                    self._bundles[key] = bundle, *revision
                return
            except Unavailable:
                self._await_another()
        raise Unavailable(
            "two engine processes died before they had loaded it",
            allowed="a bundle that loads",
            fix="see the server's log for how they ended, then load again",
        )

    def remove(self, *key) -> None:
        """As :meth:`Engine.remove`."""
        with self._lock, contextlib.suppress(Unavailable):  # the next process is not told of it
            self._bundles.pop(key, None)
            self._tell(pack(("remove", *key)))

    async def start(self) -> None:
        """Take batches."""
        self._data.setblocking(False)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_unix_connection(lambda: _Answers(self), sock=self._data)
        self.alive = True

    def submit(self, batch: Sequence[EngineRequest]) -> asyncio.Future[list[EngineAnswer]]:
        answers = asyncio.get_running_loop().create_future()
        self._answers.append(answers)
        message, sent = pack_batch(batch), 0
        if not self._transport.get_write_buffer_size():  # else this would come before what is left of the last one
            # At once: a transport may leave it until the event loop has done what else it has to, while the engine waits.
            with contextlib.suppress(OSError):  # no room, or nobody there: the transport finds out
                sent = self._data.send(message)
        if sent < len(message):
            self._transport.write(message[sent:])
        return answers

    def give_up(self) -> None:
        """End the process, so that another one takes its place."""
        if self.alive:
            log.error("engine process %d hangs over a batch", self.pid)
            self.alive = False
            self._process.kill()

    async def close(self) -> None:
        self._closed = True
        if self._restarting is not None:
            self._restarting.cancel()
        if self._transport is not None:
            self._transport.close()
        self._replaced.set()  # who waits for it waits in vain
        await asyncio.get_running_loop().run_in_executor(None, self._end)

    def answered(self, body: bytes) -> None:
        """The engine's answer to the first of the batches under way."""
        self._pause = FIRST_PAUSE_S
        answers = self._answers.popleft()
        if answers.cancelled():  # nobody waits for them any more
            return
        try:
            answers.set_result(unpack_answers(body))
        except RuntimeError as error:
            answers.set_exception(error)

    def lost(self) -> None:
        """The process is gone: its batches fail, and another one is started."""
        self.alive = False
        for answers in self._answers:
            if not answers.done():
                answers.set_exception(_died())
        self._answers.clear()
        if not self._closed:
            self._restarting = asyncio.get_running_loop().create_task(self._restart())

    async def _restart(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._report_death()
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE_S)
            try:
                await loop.run_in_executor(None, self._start_again)
                break
            except (OSError, Unavailable) as error:
                log.error("the new engine process failed: %s", error)
        await self.start()
        self._on_return()

    def _report_death(self) -> None:
        log.error("engine process %d is gone (%s); starting another", self.pid, self._process.poll())
        self._on_death()

    def _await_another(self) -> None:
        """Another process that has loaded what this one had. Where nobody watches yet, it is started here."""
        if self._closed:
            return
        if self._transport is not None:
            self._replaced.wait(LOAD_S)
            return
        self._report_death()
        with contextlib.suppress(Unavailable):  # whoever tells it something finds out
            self._start_again()

    def _start_again(self) -> None:
        with self._lock:
            self._end()
            self._spawn()
            for bundle, *revision in self._bundles.values():
                try:
                    self._tell(pack_bundle(bundle, *revision))
                except Unavailable:
                    raise
                except WeaklinkError as error:
                    log.error("%s cannot be loaded again: %s", bundle.folder, error)
            self._replaced.set()

    def _spawn(self) -> None:
        self._data, data = socket.socketpair()
        self._control, control = socket.socketpair()
        self._control.settimeout(LOAD_S)
        with data, control:
            command = [sys.executable, "-m", "edge_server.engine_process", str(data.fileno()), str(control.fileno())]
            # Inherited: a signal to the whole group must not end the process before it can say that it ignores it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
            try:
                self._process = subprocess.Popen(
                    [*command, self._runtime, str(self._threads), self._log_format],
                    pass_fds=(data.fileno(), control.fileno()),
                    stdin=subprocess.DEVNULL,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _tell(self, message: bytes) -> None:
        """Unavailable: the process is gone, or hangs and is killed; another WeaklinkError: what it refused."""
        try:
            if self._closed:
                raise EOFError
            self._control.sendall(message)
            answer = receive(self._control)
        except (EOFError, OSError) as error:
            if isinstance(error, TimeoutError):
                log.error("engine process %d hangs over a bundle", self.pid)
                self._process.kill()
            self._replaced.clear()
            raise _died() from error
        if not answer[0]:
            raise as_error(answer)

    def _end(self) -> None:
        self._control.close()
        self._data.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # in the midst of a batch, or stopped
            self._process.kill()
            self._process.wait()


class _Answers(asyncio.Protocol):
    """Cuts what comes from the data socket into answers."""

    def __init__(self, lane: EngineLane):
        self._lane, self._buffer = lane, bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            self._lane.answered(body)

    def connection_lost(self, error: Exception | None) -> None:
        self._lane.lost()


class Engines:
    """Several lanes that hold the same bundles."""

    def __init__(self, lanes: Sequence[EngineLane]):
        self.lanes = lanes

    @property
    def alive(self) -> bool:
        """Whether any of them takes batches."""
        return any(lane.alive for lane in self.lanes)

    def add(self, bundle: Bundle, *revision: int) -> None:
        """As :meth:`Engine.add`, in every process; where one refuses, none keeps it."""
        for place, lane in enumerate(self.lanes):
            try:
                lane.add(bundle, *revision)
            except WeaklinkError:
                for earlier in self.lanes[:place]:
                    earlier.remove(bundle.manifest.name, bundle.manifest.version, *revision)
                raise

    def remove(self, *key) -> None:
        for lane in self.lanes:
            lane.remove(*key)

    async def start(self) -> None:
        for lane in self.lanes:
            await lane.start()

    async def close(self) -> None:
        await asyncio.gather(*(lane.close() for lane in self.lanes))


def _died() -> Unavailable:
    return Unavailable(
        "the engine process died", allowed="a living engine", fix="send the request again; see the server's log"
    )
