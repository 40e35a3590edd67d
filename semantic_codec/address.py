"""Addresses as people write them: HOST:PORT, [IPv6]:PORT."""

from __future__ import annotations

from dataclasses import dataclass

from semantic_codec.errors import ConfigError


@dataclass(frozen=True)
class Address:
    """A host name or IP address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(where: str, text: object, *, lowest_port: int = 1) -> Address:
    """The address in `text`; ConfigError where it is none. `lowest_port` 0 allows "any free port"."""
    host, colon, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else -1
    if not (colon and host and lowest_port <= number <= 65_535):
        raise ConfigError(
            f"{where} is {text!r}",
            allowed=f"HOST:PORT or [IPv6]:PORT, port {lowest_port} to 65535",
            fix="write it as 127.0.0.1:50052",
        )
    return Address(host, number)
