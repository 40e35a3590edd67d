"""A firmware image on an emulated board, and the console it speaks (device_client/stm32/firmware/main.c)."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from semantic_codec.errors import WeaklinkError

MACHINES = {"f405": "netduinoplus2", "m7": "mps2-an500"}
"""QEMU's boards: an STM32F405 with a Cortex-M4F at 168 MHz; an MPS2 with a Cortex-M7 at 25 MHz."""

TICK_HZ = {"f405": 168_000_000, "m7": 25_000_000}
"""The processor clock that QEMU gives SysTick, whatever the firmware set."""


@dataclass(frozen=True)
class Hello:
    """What a board says of itself. error: of opening its encoder, or of its start in keyed mode. mode: 0 open, 1 keyed."""

    error: int
    height: int
    width: int
    bitstream_bytes: int
    layers: int
    macs: int
    workspace_bytes: int
    tick_hz: int
    stack_bytes: int
    mode: int


@dataclass(frozen=True)
class Report:
    """One encoding. Instructions, in all and by layer; stack_bytes: the most that was ever used."""

    instructions: int
    layers: tuple[int, ...]
    stack_bytes: int


@dataclass(frozen=True)
class BoardReply:
    """What the board read. confidence: in steps of 1/63; advice: 255 for none; sequence: of the frame."""

    status: int
    class_index: int
    confidence: int
    advice: int
    sequence: int


class Board:
    """The console of a running board."""

    def __init__(self, console: socket.socket, kind: str, shift: int):
        self._console, self._kind, self._shift = console, kind, shift
        self.hello = self._greet()

    def encode(self, image: bytes) -> tuple[bytes, Report]:
        """Bitstream and measurements of one RGB image."""
        self.send(b"E" + image)
        self.check()
        return self.read(self.hello.bitstream_bytes), self.report()

    def infer(self, image: bytes, device: int, sequence: int, level: int, wait_ms: int) -> tuple[bytes, Report, BoardReply | None]:
        """Encode, send over the radio, wait for the reply: bitstream, measurements, reply or None."""
        self.send(struct.pack("<cHHBH", b"S", device, sequence, level, wait_ms) + image)
        self.check()
        bitstream, report = self.read(self.hello.bitstream_bytes), self.report()
        error, *reply = struct.unpack("<BBHBBI", self.read(10))
        return bitstream, report, None if error else BoardReply(*reply)

    def send(self, data: bytes) -> None:
        self._console.sendall(data)

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._console.recv(count - len(data))
            if not part:
                raise ConnectionError("the emulator closed the console")
            data += part
        return data

    def check(self) -> None:
        """Read a wl_error and raise where it is one."""
        error = self.read(1)[0]
        if error:
            raise WeaklinkError(f"the board answers error {error}", allowed="0", fix="see wl_error.h")

    def report(self) -> Report:
        ticks, *layers, stack = struct.unpack(f"<{2 + self.hello.layers}I", self.read(8 + 4 * self.hello.layers))
        return Report(self._instructions(ticks), tuple(map(self._instructions, layers)), stack)

    def _instructions(self, ticks: int) -> int:
        """With ``-icount`` an instruction takes 2^shift ns of the emulated clock."""
        return round(ticks * 1e9 / TICK_HZ[self._kind] / 2**self._shift)

    def _greet(self) -> Hello:
        """Boards say who they are when they start; a byte sent before that would be lost."""
        error = self.read(1)[0]
        return Hello(error, *struct.unpack("<9I", self.read(36)))


@contextmanager
def emulated_board(
    kind: str, firmware: Path, radio: str = "null", timeout: float = 60, shift: int | None = 0
) -> Iterator[Board]:
    """Run the firmware under ``qemu-system-arm``; kind: a key of MACHINES; radio: QEMU's ``-serial`` for the radio port.

    shift: an instruction takes 2^shift ns of the board's time, so that reports count them; None: its time is the clock's.
    """
    with emulated_console(kind, firmware, radio, timeout, shift) as console:
        yield Board(console, kind, shift or 0)


@contextmanager
def emulated_console(
    kind: str, firmware: Path, radio: str = "null", timeout: float = 60, shift: int | None = 0
) -> Iterator[socket.socket]:
    """The console of any image on one of the boards."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(timeout)
        command = ["qemu-system-arm", "-M", MACHINES[kind], "-nographic", "-monitor", "none"]
        command += [] if shift is None else ["-icount", f"shift={shift}"]
        command += ["-kernel", str(firmware), "-serial", f"tcp:127.0.0.1:{server.getsockname()[1]}", "-serial", radio]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            with server.accept()[0] as console:
                console.settimeout(timeout)
                yield console
        finally:
            process.kill()
            process.wait()


def firmware_sizes(firmware: Path) -> tuple[int, int]:
    """Flash and static RAM in bytes, by ``arm-none-eabi-size``: text + data, data + bss. The stack is in bss."""
    output = subprocess.run(["arm-none-eabi-size", str(firmware)], check=True, capture_output=True, text=True).stdout
    text, data, bss = map(int, output.splitlines()[1].split()[:3])
    return text + data, data + bss
