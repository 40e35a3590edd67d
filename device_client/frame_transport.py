"""What UDP and a serial line have in common: frames out, replies in, repeats after silence."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator

from device_client.messages import Answer, Delivery, Request
from device_client.refusals import refusal
from device_client.sequences import SequenceFile
from device_client.transports import Transport, check_patience
from device_client.window import Line, exchange
from device_client.wire import Wire, create_wire
from semantic_codec.errors import DeadlineExceeded, InvalidRequest, Unavailable, WeaklinkError
from semantic_codec.keyed import DeviceKey
from semantic_codec.reply import Reply, ReplyStatus

# The edge recognises a repeat among a device's last 64 frames: more under way, and a repeat could be taken for new.
LARGEST_WINDOW = 64


class FrameLine(Line):
    """Frames under way on one connection. A keyed request is under way under each sequence that it was sent with."""

    repeats_after_silence = True

    def __init__(self, address: str, wire: Wire, damage: Callable[[bytes], bytes], timeout_s: float):
        self.address, self.wire, self.damage, self.timeout_s = address, wire, damage, timeout_s
        self.unreadable = 0
        self.unreachable: str | None = None
        """Why nothing can be reached there, as far as is known."""
        self._device = 0
        self._waiting: dict[int, Request] = {}

    @abstractmethod
    def transmit(self, frame: bytes) -> int:
        """Put a frame on the line; returns its bytes there. What is lost shows up as silence."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back; may be called twice."""

    def send(self, request: Request) -> int:
        sequence, frame = self.wire.frame(request)
        self._device = request.device
        self._waiting[sequence] = request
        return self.transmit(frame)

    def read(self, data: bytes) -> Reply | None:
        """The reply in `data`. Knowing what it may be about, it can be read from more damage; that costs more time."""
        return self.wire.read(data, self._device) or self.wire.read(data, self._device, list(self._waiting))

    def heard(self, reply: Reply) -> list[tuple[int, Answer | WeaklinkError]]:
        """What a reply says to the request that it answers; nothing where that is answered or given up already."""
        self.unreachable = None
        request = self._waiting.get(reply.sequence)
        if request is None:
            return []
        self.forget(request)
        return [(request.sequence, _meaning(reply, request))]

    def silence(self, request: Request, attempts: int) -> WeaklinkError:
        self.forget(request)
        if self.unreachable is not None:
            return unreachable(self.address, self.unreachable)
        return DeadlineExceeded(
            f"no reply from {self.address} to frame {request.sequence} after {attempts} transmissions",
            allowed=f"a reply within {self.timeout_s:g} s each",
            fix="check that the edge runs there and, in keyed mode, has this device's key (--device-id, --key-file): it does not "
            "answer frames that it cannot authenticate; or raise timeout or retries on a bad link",
        )

    def forget(self, request: Request) -> None:
        self._waiting = {sent: each for sent, each in self._waiting.items() if each.sequence != request.sequence}


class FrameTransport(Transport):
    """A transport over a :class:`FrameLine`, which the subclass opens.

    timeout_s: wait for a reply per transmission. retries: repeats after silence, of the same frame in open mode. damage:
    bytes -> bytes, applied to everything on its way out. key and sequences: keyed mode, with the device's key (64
    hexadecimal digits or a :class:`DeviceKey`) and the file that keeps its sequences.
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
        self.address, self.timeout_s, self.retries = address, timeout_s, retries
        wire = create_wire(key, sequences)
        self.sequence_bits = wire.sequence_bits
        self._clock = clock
        try:
            self._line = self.open_line(address, wire, damage or bytes, timeout_s)
        except BaseException:
            wire.close()  # another try must find the sequences' file free
            raise

    @abstractmethod
    def open_line(self, address: str, wire: Wire, damage: Callable[[bytes], bytes], timeout_s: float) -> FrameLine:
        """The line to the address; :class:`Unavailable` where it cannot be opened."""

    @property
    def unreadable_replies(self) -> int:
        """What arrived and was no reply to this device, or too damaged to tell. Of a serial line all that looked like a sync
        word and had no reply behind it: of pure noise every 303rd byte does."""
        return self._line.unreadable

    def infer(self, request: Request) -> Delivery:
        return next(self.stream([request]))

    def stream(
        self, requests: Iterable[Request], *, window: int = 32, rate: float | None = None
    ) -> Iterator[Delivery]:
        if not 1 <= window <= LARGEST_WINDOW:
            raise InvalidRequest(
                f"the window is {window} frames", allowed=f"1 to {LARGEST_WINDOW}", fix="send fewer at once"
            )
        return exchange(
            (frameable(request) for request in requests),
            self._line,
            window=window,
            timeout_s=self.timeout_s,
            retries=self.retries,
            rate=rate,
            clock=self._clock,
        )

    def close(self) -> None:
        self._line.close()
        self._line.wire.close()


def frameable(request: Request) -> Request:
    """The request, or :class:`InvalidRequest` for what the frame has no field for."""
    if request.ber_estimate is not None or request.erased:
        raise InvalidRequest(
            "a raw frame carries neither ber_estimate nor erased ranges",
            allowed="neither: the edge measures the BER on the frame's header",
            fix="leave them out, or use the grpc transport",
        )
    return request


def unreachable(address: str, reason: str | None) -> Unavailable:
    return Unavailable(
        f"the edge at {address} cannot be reached: {reason}",
        allowed="the address of a running edge or link emulator",
        fix="start `weaklink serve`, or correct the address (its ready line shows it)",
    )


def _meaning(reply: Reply, request: Request) -> Answer | WeaklinkError:
    if reply.status == ReplyStatus.ANSWERED:
        return Answer(
            class_index=reply.class_index,
            label="",
            confidence=reply.confidence,
            level=request.level,
            sequence=reply.sequence,
            advice=reply.advice_level,
        )
    if reply.status == ReplyStatus.BUSY:
        return Unavailable("the edge is busy", allowed="fewer frames", fix="wait, then send again or at a lower rate")
    return refusal(reply.class_index, request)
