"""Raw frames over a serial line: one of this machine, or one reached by TCP as terminal servers and the edge offer it.

TCP loses nothing itself; the line behind it may flip, drop and add bytes, so frames are searched for, not counted off.
"""

from __future__ import annotations

import socket
import time
from abc import abstractmethod
from collections.abc import Callable

from device_client.frame_transport import FrameLine, FrameTransport, unreachable
from device_client.messages import Answer
from device_client.wire import Wire
from semantic_codec.address import parse_address
from semantic_codec.errors import ConfigError, WeaklinkError
from semantic_codec.reply import Reply
from semantic_codec.serial_framing import SerialReceiver, add_sync

READ_BYTES = 4096
DEFAULT_BAUD = 115_200


class SerialTransport(FrameTransport):
    """A line by its address: "HOST:PORT" of an edge's serial port, a terminal server or a link emulator, or the name of a
    port of this machine, as "/dev/ttyUSB0" or "COM3" (needs pyserial, the extra "serial").

    baud: of a port of this machine; 8 data bits, no parity, 1 stop bit. Other settings as of `FrameTransport`; damage is
    applied to sync word and frame. A connection is made anew where the other end closed it.
    """

    def __init__(self, address: str, *, baud: int = DEFAULT_BAUD, **settings):
        self._baud = baud
        super().__init__(address, **settings)

    def open_line(self, address: str, wire: Wire, damage: Callable[[bytes], bytes], timeout_s: float) -> FrameLine:
        if is_port_name(address):
            return _PortLine(address, wire, damage, timeout_s, self._baud)
        return _SocketLine(address, wire, damage, timeout_s)


def is_port_name(address: str) -> bool:
    """Whether this names a serial port of this machine, and no HOST:PORT."""
    return address.startswith(("/", "COM", "\\\\.\\"))


class _SerialLine(FrameLine):
    """Frames behind sync words, on whatever carries bytes."""

    def __init__(self, address: str, wire: Wire, damage: Callable[[bytes], bytes], timeout_s: float):
        super().__init__(address, wire, damage, timeout_s)
        self._connect()

    @abstractmethod
    def _open(self) -> None:
        """Open the line; OSError where that fails."""

    @abstractmethod
    def _is_open(self) -> bool: ...

    @abstractmethod
    def _write(self, data: bytes) -> None: ...

    @abstractmethod
    def _read(self, wait_s: float) -> bytes | None:
        """What is there within so long, None for nothing. OSError: the line is gone."""

    def transmit(self, frame: bytes) -> int:
        data = add_sync(frame)
        try:
            if not self._is_open():
                self._connect()
            self._write(self.damage(data))
        except WeaklinkError:
            pass  # told by `silence`, should it stay so
        except OSError as error:
            self._lost(error)
        return len(data)

    def receive(self, wait_s: float) -> list[tuple[int, Answer | WeaklinkError]]:
        if not self._is_open():
            time.sleep(min(wait_s, 0.05))
            return []
        try:
            data = self._read(wait_s)
        except OSError as error:
            self._lost(error)
            return []
        if data is None:
            return []
        return [answer for reply in self._receiver.feed(data) for answer in self.heard(reply)]

    def _connect(self) -> None:
        try:
            self._open()
        except (OSError, UnicodeError) as error:  # UnicodeError: what no host name looks like, as a..b
            self.unreachable = getattr(error, "strerror", None) or str(error)
            raise unreachable(self.address, self.unreachable) from error
        self._receiver = SerialReceiver([self.wire.reply_bytes], self._read_all)

    def _read_all(self, candidates: list[bytes]) -> list[Reply | None]:
        read = [self.read(data) for data in candidates]
        self.unreadable += read.count(None)
        return read

    def _lost(self, error: OSError) -> None:
        self.unreachable = error.strerror or str(error) or "the connection broke"
        self.close()


class _SocketLine(_SerialLine):
    """A TCP connection."""

    socket: socket.socket | None = None

    def _open(self) -> None:
        self.socket = None
        place = parse_address("the address", self.address)
        self.socket = socket.create_connection((place.host, place.port), self.timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _is_open(self) -> bool:
        return self.socket is not None

    def _write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _read(self, wait_s: float) -> bytes | None:
        self.socket.settimeout(wait_s)
        try:
            data = self.socket.recv(READ_BYTES)
        except (BlockingIOError, TimeoutError):
            return None
        finally:
            self.socket.settimeout(self.timeout_s)
        if not data:
            raise ConnectionError("it closed the connection")
        return data

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class _PortLine(_SerialLine):
    """A serial port of this machine."""

    def __init__(self, address: str, wire: Wire, damage: Callable[[bytes], bytes], timeout_s: float, baud: int):
        self._baud, self._port = baud, None
        super().__init__(address, wire, damage, timeout_s)

    def _open(self) -> None:
        try:
            import serial
        except ImportError as error:
            raise ConfigError(
                f"{self.address} is a serial port, and pyserial is not installed",
                allowed="HOST:PORT without it",
                fix="pip install 'weaklink[serial]'",
            ) from error
        self._port = None
        try:
            # pyserial's own errors are OSErrors.
            self._port = serial.Serial(self.address, self._baud, timeout=0, write_timeout=self.timeout_s)
        except ValueError as error:
            raise ConfigError(
                f"the rate of {self.address} is {self._baud} baud", allowed="what the port offers", fix="give 115200"
            ) from error

    def _is_open(self) -> bool:
        return self._port is not None

    def _write(self, data: bytes) -> None:
        self._port.write(data)

    def _read(self, wait_s: float) -> bytes | None:
        self._port.timeout = wait_s
        first = self._port.read(1)
        return first + self._port.read(self._port.in_waiting) if first else None

    def close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None
