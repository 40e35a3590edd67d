"""`weaklink emulate`: the channel emulator as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import uvicorn

from channel_emulator.control_api import create_app, own_names
from channel_emulator.emulator import Emulator
from channel_emulator.udp_proxy import bind_error, resolve
from semantic_codec.address import Address
from semantic_codec.errors import ConfigError, WeaklinkError
from semantic_codec.open_files import raise_open_files


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weaklink emulate",
        description="Run the lossy link: UDP, serial and gRPC proxies that flip, lose and delay what passes through them, "
        "and the HTTP API that controls them. Prints one line of JSON on standard output once it listens.",
        epilog="Then create links with 'weaklink link create', or start with --config.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address of the control API (default: %(default)s)")
    parser.add_argument(
        "--control-port", type=int, default=8474, help="port of the control API; 0: any free one (default: %(default)s)"
    )
    parser.add_argument("--config", type=Path, help='JSON file {"links": [...]} with the links to create at the start')
    parser.add_argument(
        "--max-devices", type=int, default=256, help="devices remembered per link (default: %(default)s)"
    )
    return parser


def read_config(path: Path) -> list:
    """The links of a config file. ConfigError: no such file, not JSON, or another shape."""
    shape = 'a JSON file {"links": [...]}, each as in POST /links'
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"config {str(path)!r} cannot be read ({error.strerror})", allowed=shape, fix="check the path"
        ) from None
    except ValueError as error:
        raise ConfigError(f"config {str(path)!r} is no JSON ({error})", allowed=shape, fix="correct it") from None
    if not isinstance(config, dict) or set(config) != {"links"} or not isinstance(config["links"], list):
        raise ConfigError(
            f"config {str(path)!r} has another shape", allowed=shape, fix='put the links into a list under "links"'
        )
    return config["links"]


class ControlServer(uvicorn.Server):
    """uvicorn without its own signal handling: the process ends in one place, `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def bind_control(address: Address) -> socket.socket:
    """The control API's listening socket. AlreadyExists: the port is taken."""
    family, where = (await resolve("control address", address))[0]
    control = socket.socket(family, socket.SOCK_STREAM)
    try:
        control.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        control.bind(where)
    except OSError as error:
        control.close()
        raise bind_error(address, error) from None
    return control


async def serve(args: argparse.Namespace) -> None:
    """Bind, create the configured links, say so, run until SIGTERM or SIGINT, close links before the control API."""
    raise_open_files()  # each device of a UDP link holds a socket, and the control API would be the first to find none left
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    links = read_config(args.config) if args.config else []
    control = await bind_control(Address(args.host, args.control_port))
    emulator = Emulator(max_devices=args.max_devices)
    bound = Address(*control.getsockname()[:2])
    app = create_app(emulator, names=own_names(bound, args.host))
    server = ControlServer(uvicorn.Config(app, lifespan="off", ws="none", log_level="warning", access_log=False))
    serving = asyncio.create_task(server.serve(sockets=[control]))
    try:
        for body in links:
            await emulator.create(body)
        while not server.started:
            await asyncio.sleep(0.01)
        listening = {link.settings.name: str(link.settings.listen) for link in emulator.links()}
        print(json.dumps({"event": "listening", "control": str(bound), "links": listening}), flush=True)
        await stop.wait()
    finally:
        await emulator.close()
        server.should_exit = True
        await serving


def event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    try:
        if not 0 <= args.control_port <= 65_535:
            raise ConfigError(f"--control-port is {args.control_port}", allowed="0 to 65535", fix="0 takes a free one")
        if args.max_devices < 1:
            raise ConfigError(f"--max-devices is {args.max_devices}", allowed="1 or more", fix="256 suits most uses")
        with asyncio.Runner(loop_factory=event_loop()) as runner:
            runner.run(serve(args))
    except WeaklinkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
