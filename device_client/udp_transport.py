"""Raw frames over UDP: what a radio with its CRC switched off delivers. Frames may be damaged, late or lost."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable

from device_client.frame_transport import FrameLine, FrameTransport, unreachable
from device_client.messages import Answer
from device_client.sequences import SequenceFile
from device_client.transports import check_patience, split_address
from device_client.wire import Wire, create_wire
from semantic_codec.errors import WeaklinkError
from semantic_codec.keyed import DeviceKey

LARGEST_REPLY = 2048


class UdpTransport(FrameTransport):
    """One UDP socket to an edge, gateway or link emulator.

    address: "HOST:PORT". timeout_s: wait for a reply per transmission. retries: repeats after silence, of the same frame
    in open mode. damage: bytes -> bytes, applied to every frame on its way out. key and sequences: keyed mode, with the
    device's key (64 hexadecimal digits or a :class:`DeviceKey`) and the file that keeps its sequences.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 1.0,
        retries: int = 2,
        damage: Callable[[bytes], bytes] | None = None,
        key: DeviceKey | str | None = None,
        sequences: SequenceFile | str | os.PathLike[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        check_patience(timeout_s, retries)
        line = _UdpLine(address, create_wire(key, sequences), damage or bytes, timeout_s)
        super().__init__(line, timeout_s, retries, clock)


class _UdpLine(FrameLine):
    def __init__(self, address: str, wire: Wire, damage: Callable[[bytes], bytes], timeout_s: float):
        super().__init__(address, wire, damage, timeout_s)
        self.socket = _connect(address)

    def transmit(self, frame: bytes) -> int:
        try:
            self.socket.send(self.damage(frame))
        except ConnectionRefusedError:
            self._refused()  # the answer to an earlier datagram
        except BlockingIOError:
            pass  # the send buffer is full: lost, as on any radio
        except OSError as error:
            raise unreachable(self.address, error.strerror) from error
        return len(frame)

    def receive(self, wait_s: float) -> list[tuple[int, Answer | WeaklinkError]]:
        if not select.select([self.socket], [], [], wait_s)[0]:
            return []
        heard: list[tuple[int, Answer | WeaklinkError]] = []
        while True:
            try:
                data = self.socket.recv(LARGEST_REPLY)
            except ConnectionRefusedError:
                self._refused()
                continue
            except BlockingIOError:
                return heard
            reply = self.read(data)
            if reply is None:
                self.unreadable += 1
            else:
                heard += self.heard(reply)

    def close(self) -> None:
        self.socket.close()

    def _refused(self) -> None:
        self.unreachable = "nothing listens on that port"


def _connect(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.connect(target)
    except OSError as error:
        raise unreachable(address, error.strerror) from error
    made.setblocking(False)
    return made
