"""The ways to an edge, by name. A transport is built from an address and turns requests into deliveries."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from device_client.messages import Delivery, Request
from semantic_codec.errors import ConfigError

TRANSPORTS = {
    "udp": ("device_client.udp_transport", "UdpTransport"),
    "serial": ("device_client.serial_transport", "SerialTransport"),
    "grpc": ("device_client.grpc_transport", "GrpcTransport"),
}
# More than anyone waits, and less than the operating system's waits can take.
MOST_PATIENCE_S = 86_400


class Transport(ABC):
    """Sends requests and reads answers; not for several threads at once."""

    sequence_bits: int
    address: str

    @abstractmethod
    def infer(self, request: Request) -> Delivery:
        """One request to its end: an answer or an error, never an exception of the network's."""

    @abstractmethod
    def stream(
        self, requests: Iterable[Request], *, window: int = 32, rate: float | None = None
    ) -> Iterator[Delivery]:
        """Many requests, up to `window` under way at once and at most `rate` per second; in order of completion."""

    @abstractmethod
    def close(self) -> None:
        """Give the sockets back; may be called twice."""


def transport_names() -> list[str]:
    return sorted(TRANSPORTS)


def create_transport(name: str, address: str, **settings) -> Transport:
    """``create_transport("udp", "127.0.0.1:50052", timeout_s=1.0)``; :class:`ConfigError` for an unknown name."""
    if name not in TRANSPORTS:
        raise ConfigError(f"unknown transport {name!r}", allowed=", ".join(TRANSPORTS), fix="name one of these")
    # Imported on demand: a device that speaks UDP does not load gRPC.
    module, kind = TRANSPORTS[name]
    return getattr(importlib.import_module(module), kind)(address, **settings)


def check_patience(timeout_s: float, retries: int) -> None:
    """:class:`ConfigError` where a transport could wait forever or not at all."""
    if not 0 < timeout_s <= MOST_PATIENCE_S:
        raise ConfigError(
            f"the timeout is {timeout_s} s", allowed=f"more than 0 s, up to {MOST_PATIENCE_S} s", fix="give 1 or more"
        )
    if not 0 <= retries <= 100:
        raise ConfigError(f"there are {retries} retries", allowed="0 to 100", fix="give 2, or 0 for none")
