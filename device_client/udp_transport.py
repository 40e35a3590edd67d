"""Raw frames over UDP: what a radio with its CRC switched off delivers. Frames may be damaged, late or lost."""

from __future__ import annotations

import socket
from collections.abc import Callable

from device_client.frame_transport import FrameLine, FrameTransport, unreachable
from device_client.messages import Answer
from device_client.wire import Wire
from semantic_codec.address import parse_address
from semantic_codec.errors import WeaklinkError

LARGEST_REPLY = 2048


class UdpTransport(FrameTransport):
    """One UDP socket to an edge, gateway or link emulator. address: "HOST:PORT"; settings as of `FrameTransport`."""

    def open_line(self, address: str, wire: Wire, damage: Callable[[bytes], bytes], timeout_s: float) -> FrameLine:
        return _UdpLine(address, wire, damage, timeout_s)


class _UdpLine(FrameLine):
    def __init__(self, address: str, wire: Wire, damage: Callable[[bytes], bytes], timeout_s: float):
        super().__init__(address, wire, damage, timeout_s)
        self.socket = _connect(address)

    def transmit(self, frame: bytes) -> int:
        try:
            self.socket.send(self.damage(frame))
        except BlockingIOError:
            pass  # the send buffer is full: lost, as on any radio
        except OSError as error:
            self._failed(error)
        return len(frame)

    def receive(self, wait_s: float) -> list[tuple[int, Answer | WeaklinkError]]:
        heard: list[tuple[int, Answer | WeaklinkError]] = []
        self.socket.settimeout(wait_s)
        while True:
            try:
                data = self.socket.recv(LARGEST_REPLY)
            except (BlockingIOError, TimeoutError):
                break
            except OSError as error:
                self._failed(error)
                break
            self.socket.setblocking(False)
            reply = self.read(data)
            if reply is None:
                self.unreadable += 1
            else:
                heard += self.heard(reply)
        self.socket.setblocking(False)
        return heard

    def close(self) -> None:
        self.socket.close()

    def _failed(self, error: OSError) -> None:
        """Keep the reason for `silence`: networks go and come back, and the error may be about an earlier datagram."""
        refused = isinstance(error, ConnectionError)
        self.unreachable = "nothing listens on that port" if refused else error.strerror or str(error)


def _connect(address: str) -> socket.socket:
    place = parse_address("the address", address)
    try:
        family, _, _, _, target = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_DGRAM)[0]
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.connect(target)
    except (OSError, UnicodeError) as error:  # UnicodeError: what no host name looks like, as a..b
        raise unreachable(address, getattr(error, "strerror", None) or str(error)) from error
    made.setblocking(False)
    return made
