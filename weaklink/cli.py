"""The ``weaklink`` command: one thin door per verb, imported only when called, so a device needs no torch to send."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from semantic_codec.errors import WeaklinkError

OUR_PACKAGES = frozenset(
    {"weaklink", "semantic_codec", "device_client", "channel_emulator", "edge_server", "codec_training", "benchmarks"}
)


class Verb(NamedTuple):
    """A door: the module whose ``main(argv) -> int`` runs, its line and group in ``--help``, the extra it needs."""

    module: str
    help: str
    group: str
    extra: str


VERBS: dict[str, Verb] = {
    "demo": Verb("weaklink.demo", "edge, lossy link and device on this machine, one table", "Try it", "train"),
    "codecs": Verb("weaklink.codecs", "list the codecs that are installed", "Try it", ""),
    "serve": Verb("edge_server.__main__", "run the edge node: gRPC, HTTP and raw frames over UDP", "Run it", "edge"),
    "keys": Verb("edge_server.keys_command", "make keys and tokens of an edge and its devices", "Run it", "edge"),
    "send": Verb("device_client.__main__", "encode images as a device does and send them", "Run it", "images"),
    "emulate": Verb("channel_emulator.__main__", "run the lossy link between device and edge", "Run it", "emulator"),
    "link": Verb("channel_emulator.control_client", "create, change and list the emulator's links", "Run it", ""),
    "train": Verb("codec_training.train", "train a codec through a channel that flips bits", "Build a codec", "train"),
    "export": Verb("codec_training.export", "turn a trained codec into a bundle", "Build a codec", "train"),
    "evaluate": Verb("codec_training.evaluate", "accuracy over BER and level: table, plot, JSON", "Measure", "train"),
    "bench": Verb("benchmarks.__main__", "the measurements behind the published tables", "Measure", "bench"),
}


def usage() -> str:
    """The text of ``weaklink --help``: the verbs by group."""
    lines = ["usage: weaklink VERB [options]", "", "Vision for weak devices over weak links."]
    group = ""
    for name, verb in VERBS.items():
        if verb.group != group:
            group = verb.group
            lines += ["", f"{group}:"]
        lines.append(f"  {name:<10}{verb.help}")
    lines += ["", "weaklink VERB --help shows the options of a verb; weaklink --version the version."]
    return "\n".join(lines)


def installed_version() -> str:
    """Version of the installed distribution; "unknown" in a source tree that was never installed."""
    try:
        return version("weaklink")
    except PackageNotFoundError:
        return "unknown"


def run_verb(name: str, argv: Sequence[str]) -> int:
    """Import the verb's door and run it.

    A missing third-party package becomes a line that names the extra to install; a missing module of ours is a defect
    and is raised.
    """
    verb = VERBS[name]
    try:
        return importlib.import_module(verb.module).main(list(argv))
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if not package or package in OUR_PACKAGES:
            raise
        wanted = f"weaklink[{verb.extra}]" if verb.extra else "weaklink"
        return fail(f"weaklink {name} needs the package {package}; fix: pip install '{wanted}'")


def fail(message: str) -> int:
    """Print ``error: message`` to stderr; returns exit status 2."""
    print(f"error: {message}", file=sys.stderr)
    return 2


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        print(f"weaklink {installed_version()}")
        return 0
    if name not in VERBS:
        return fail(f"unknown verb {name!r}; allowed: {', '.join(VERBS)}; fix: see weaklink --help")
    return run_verb(name, rest)


def _forget_output() -> None:
    """What could not be written is not tried again at exit."""
    with suppress(OSError):  # it may be no file: who called this in its own process has replaced it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``weaklink VERB ...``; returns the exit status: 0 done, 2 refused, 130 interrupted."""
    try:
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # at exit nobody would say that it failed
    except WeaklinkError as refusal:
        return fail(str(refusal))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away (`weaklink codecs | head`): nothing is left to say.
        _forget_output()
        return 1
    except OSError as refusal:
        if refusal.errno in (errno.ENOSPC, errno.EDQUOT) and refusal.filename is None:  # writes name no path
            _forget_output()
            return fail(f"{refusal.strerror}, so not all was written; fix: free some space, or write to another disk")
        # About a path it is most likely the user's; anything else (a socket, say) is a defect of the verb's own.
        if refusal.filename is None:
            raise
        return fail(
            f"{refusal.filename} cannot be used ({refusal.strerror}); allowed: a path that this user may read and write; "
            "fix: choose another, or correct its owner"
        )
