"""The sockets that the edge node listens on."""

from __future__ import annotations

import resource
import socket
from dataclasses import asdict, dataclass

import grpc

from semantic_codec.errors import AlreadyExists, ConfigError

OTHER_FILES = 384
"""That are not connections of gRPC or HTTP: 256 serial lines, engines, bundles."""


@dataclass(frozen=True)
class Addresses:
    """Where the server listens, as ``host:port``."""

    grpc: str
    http: str
    udp: str | None = None
    serial: str | None = None

    def ready_line(self) -> dict[str, str]:
        """Without what does not listen."""
        listening = {name: address for name, address in asdict(self).items() if address is not None}
        return {"event": "listening", **listening}


def bind(name: str, host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A bound socket that does not block. AlreadyExists: the address is not of this machine, or the port is taken."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=kind)[0]
        sock = socket.socket(family, kind)
    except (OSError, UnicodeError) as error:  # UnicodeError: what no host name looks like, as a..b
        raise _busy(name, host, port, error) from error
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise _busy(name, host, port, error) from error
    sock.setblocking(False)
    return sock


def listen_in(server: grpc.aio.Server, folder: str) -> str:
    """Let gRPC listen in a folder, and nowhere else: its address. ConfigError: its path makes none."""
    address = f"unix:{folder}/grpc"
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(
            f"gRPC cannot listen on {address}",
            allowed="a folder for temporary files whose path has at most 80 bytes and no %",
            fix="set TMPDIR to such a folder, say /tmp",
        ) from error
    return address


def most_connections() -> int:
    """What the limit of open files leaves for them: where it is reached, nobody is accepted any more."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(soft - OTHER_FILES, soft // 2)


def join(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _busy(name: str, host: str, port: int, error: Exception) -> AlreadyExists:
    return AlreadyExists(
        f"{name} cannot listen on {join(host, port)} ({error})",
        allowed="an address of this machine and a free port",
        fix=f"stop what listens there, choose another --{name}-port (0: any free one) or --host",
    )
