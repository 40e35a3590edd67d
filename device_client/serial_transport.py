"""Raw frames over a serial line that is reached by TCP, as terminal servers, emulated boards and the edge offer it.

TCP loses nothing itself; the line behind it may flip, drop and add bytes, so frames are searched for, not counted off.
"""

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
from semantic_codec.reply import Reply
from semantic_codec.serial_framing import SerialReceiver, add_sync

READ_BYTES = 4096


class SerialTransport(FrameTransport):
    """One TCP connection to an edge's serial port, a terminal server or a link emulator.

    Arguments as those of `UdpTransport`; damage is applied to sync word and frame. The connection is made anew where the
    other end closed it.
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
        line = _SerialLine(address, create_wire(key, sequences), damage or bytes, timeout_s)
        super().__init__(line, timeout_s, retries, clock)


class _SerialLine(FrameLine):
    def __init__(self, address: str, wire: Wire, damage: Callable[[bytes], bytes], timeout_s: float):
        super().__init__(address, wire, damage, timeout_s)
        self._target = split_address(address)
        self._connect()

    def transmit(self, frame: bytes) -> int:
        data = add_sync(frame)
        try:
            if self.socket is None:
                self._connect()
            self.socket.sendall(self.damage(data))
        except WeaklinkError:
            pass  # told by `silence`, should it stay so
        except OSError as error:
            self._lost(error.strerror)
        return len(data)

    def receive(self, wait_s: float) -> list[tuple[int, Answer | WeaklinkError]]:
        if self.socket is None:
            time.sleep(min(wait_s, 0.05))
            return []
        if not select.select([self.socket], [], [], wait_s)[0]:
            return []
        try:
            data = self.socket.recv(READ_BYTES)
        except OSError as error:
            self._lost(error.strerror)
            return []
        if not data:
            self._lost("it closed the connection")
        return [answer for reply in self._receiver.feed(data) for answer in self.heard(reply)]

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _connect(self) -> None:
        self.socket = None
        try:
            self.socket = socket.create_connection(self._target, self.timeout_s)
        except OSError as error:
            self.unreachable = error.strerror or str(error)
            raise unreachable(self.address, self.unreachable) from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._receiver = SerialReceiver([self.wire.reply_bytes], self._read_all)

    def _read_all(self, candidates: list[bytes]) -> list[Reply | None]:
        return [self.read(data) for data in candidates]

    def _lost(self, reason: str | None) -> None:
        self.unreachable = reason or "the connection broke"
        self.close()
