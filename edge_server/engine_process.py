"""The networks in a process of their own: what runs there, and the two sockets it is driven by.

    server process                             engine process
    EngineLane  --- data socket: batches --->  main thread: Engine.infer
                <-- answers, or what failed --
                --- control socket: bundles -> second thread: Engine.add, Engine.remove
                <-- done, or what was refused

Messages are :mod:`marshal`, which takes a fifth of pickle's time, behind their length as four bytes; both ends are one
interpreter on one machine, and nobody else holds the sockets. The process ends when either socket does.
"""

from __future__ import annotations

import logging
import marshal
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

from edge_server.engine import Engine, EngineAnswer, EngineRequest
from edge_server.heap import settle_heap
from edge_server.log_format import set_up_logs
from semantic_codec.bundle import Bundle, parse_manifest
from semantic_codec.errors import BundleError, ConfigError, WeaklinkError

LENGTH = struct.Struct("<I")
GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What comes to the server's whole group and is for the server alone."""
_fields = attrgetter(*EngineRequest.__slots__)
log = logging.getLogger(__name__)


def pack(message: Any) -> bytes:
    body = marshal.dumps(message)
    return LENGTH.pack(len(body)) + body


def pack_batch(requests: Sequence[EngineRequest]) -> bytes:
    return pack([_fields(one) for one in requests])


def pack_bundle(bundle: Bundle, *revision: int) -> bytes:
    """What it holds: the files may be others by the time that a process which replaces this one is told."""
    return pack(("add", str(bundle.folder), bundle.manifest.raw, bundle.encoder_data, bundle.edge_data, *revision))


def unpack_answers(body: bytes) -> list[EngineAnswer]:
    """The answers of one batch. RuntimeError: what the engine failed with."""
    done, content = marshal.loads(body)
    if not done:
        raise RuntimeError(content)
    return [EngineAnswer(*fields) for fields in content]


def receive(stream: socket.socket) -> Any:
    """The next message. EOFError: the other end is gone."""
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    return marshal.loads(_exactly(stream, length))


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data), socket.MSG_WAITALL)  # less than all where the socket has a timeout
        if not part:
            raise EOFError
        data += part
    return data


def refused(error: WeaklinkError) -> tuple:
    """A refusal as it travels; :func:`as_error` makes it one again."""
    return False, type(error) is ConfigError, error.problem, error.allowed, error.fix


def as_error(answer: tuple) -> WeaklinkError:
    _, is_config, problem, allowed, fix = answer
    return (ConfigError if is_config else BundleError)(problem, allowed=allowed, fix=fix)


def serve_batches(engine: Engine, data: socket.socket) -> None:
    """Answer batches until the server is gone."""
    while True:
        requests = [EngineRequest(*fields) for fields in receive(data)]
        try:
            answers = [(one.tasks, one.decode_s, one.tail_s) for one in engine.infer(requests)]
            reply = pack((True, answers))
        except Exception as error:  # whatever a network may raise: this batch fails, the next one may not
            log.exception("the engine failed on a batch of %d", len(requests))
            reply = pack((False, repr(error)))
        data.sendall(reply)


def serve_bundles(engine: Engine, control: socket.socket) -> None:
    """Load and forget bundles, while the other thread infers, until the server is gone."""
    settled = False
    while True:
        verb, *arguments = receive(control)
        try:
            if verb == "add":
                folder, manifest, encoder, edge, *revision = arguments
                engine.add(Bundle(Path(folder), parse_manifest(manifest), encoder, edge), *revision)
                if not settled:  # by now the runtime is loaded, the largest part of what there is
                    settle_heap()
                    settled = True
            else:
                engine.remove(*arguments)
            answer = (True,)
        except WeaklinkError as error:
            answer = refused(error)
        except Exception as error:  # weights that no check foresaw
            log.exception("%s %s failed", verb, arguments[0])
            answer = refused(BundleError(repr(error), allowed="a bundle that loads", fix="see the server's log"))
        control.sendall(pack(answer))


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m edge_server.engine_process DATA_FD CONTROL_FD RUNTIME THREADS LOG_FORMAT``; started by the server only."""
    data_fd, control_fd, runtime, threads, log_format = sys.argv[1:] if argv is None else argv
    # Whoever stops the server, or has it reload, may tell its whole group; the answers under way are still wanted then.
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)  # blocked by the server until here
    set_up_logs(log_format)
    data, control = socket.socket(fileno=int(data_fd)), socket.socket(fileno=int(control_fd))
    engine = Engine((), runtime, int(threads))

    def load() -> None:
        with suppress(EOFError, OSError):
            serve_bundles(engine, control)
        _hang_up(data)

    loading = threading.Thread(target=load, name="bundles")
    loading.start()
    with suppress(EOFError, OSError):
        serve_batches(engine, data)
    # A thread that wakes while the interpreter is taken down is unwound by force, which aborts the process: none may be left.
    _hang_up(control)
    loading.join()
    return 0


def _hang_up(stream: socket.socket) -> None:
    """Let whoever waits for a message see the end. Closing would not wake it."""
    with suppress(OSError):  # the other end did
        stream.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    sys.exit(main())
