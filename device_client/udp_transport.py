"""Raw frames over UDP: what a radio with its CRC switched off delivers. Frames may be damaged, late or lost."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator

from device_client.messages import Answer, Delivery, Request
from device_client.refusals import refusal
from device_client.transports import Transport, check_patience, split_address
from device_client.window import Line, exchange
from semantic_codec.errors import DeadlineExceeded, InvalidRequest, Unavailable, WeaklinkError
from semantic_codec.frame import encode_frame
from semantic_codec.header import WIDTHS, Header
from semantic_codec.reply import REPLY_BYTES, Reply, ReplyStatus, read_reply

LARGEST_REPLY = 2048
# The edge recognises a repeat among a device's last 64 frames: more under way, and a repeat could be taken for new.
LARGEST_WINDOW = 64


class UdpTransport(Transport):
    """One UDP socket to an edge, gateway or link emulator.

    address: "HOST:PORT". timeout_s: wait for a reply per transmission. retries: repeats of the same frame with the same
    sequence. damage: bytes -> bytes, applied to every frame on its way out.
    """

    sequence_bits = WIDTHS["sequence"]

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 1.0,
        retries: int = 2,
        damage: Callable[[bytes], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        check_patience(timeout_s, retries)
        self.address, self.timeout_s, self.retries = address, timeout_s, retries
        self._clock = clock
        self._line = _UdpLine(address, damage or bytes, timeout_s)

    @property
    def unreadable_replies(self) -> int:
        """Datagrams that arrived but were no reply to this device, or too damaged to tell."""
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
        self._line.socket.close()


class _UdpLine(Line):
    repeats_after_silence = True

    def __init__(self, address: str, damage: Callable[[bytes], bytes], timeout_s: float):
        self.address, self.damage, self.timeout_s = address, damage, timeout_s
        self.socket = _connect(address)
        self.unreadable = 0
        self._refused = False
        self._device = 0
        self._waiting: dict[int, Request] = {}
        # Loads the decoder's tables and kernels now, so that the first reply need not wait for them.
        read_reply(bytes(REPLY_BYTES), 0)

    def send(self, request: Request) -> int:
        header = Header(request.codec_id, request.level, request.device, request.sequence)
        frame = encode_frame(header, request.payload, request.encoder_hash)
        self._device = request.device
        self._waiting[request.sequence] = request
        try:
            self.socket.send(self.damage(frame))
        except ConnectionRefusedError:
            self._refused = True  # the answer to an earlier datagram: nobody listens there (yet)
        except BlockingIOError:
            pass  # the send buffer is full: lost, as on any radio
        except OSError as error:
            raise _unreachable(self.address, error.strerror) from error
        return len(frame)

    def receive(self, wait_s: float) -> list[tuple[int, Answer | WeaklinkError]]:
        if not select.select([self.socket], [], [], wait_s)[0]:
            return []
        heard: list[tuple[int, Answer | WeaklinkError]] = []
        while True:
            try:
                data = self.socket.recv(LARGEST_REPLY)
            except ConnectionRefusedError:
                self._refused = True
                continue
            except BlockingIOError:
                return heard
            # Knowing what it may be about, a reply can be read that is too damaged otherwise; it costs more time.
            reply = read_reply(data, self._device) or read_reply(data, self._device, self._waiting)
            if reply is None:
                self.unreadable += 1
                continue
            self._refused = False
            request = self._waiting.pop(reply.sequence, None)
            if request is not None:
                heard.append((reply.sequence, _meaning(reply, request)))

    def silence(self, request: Request, attempts: int) -> WeaklinkError:
        self._waiting.pop(request.sequence, None)
        if self._refused:
            return _unreachable(self.address, "nothing listens on that port")
        return DeadlineExceeded(
            f"no reply from {self.address} to frame {request.sequence} after {attempts} transmissions",
            allowed=f"a reply within {self.timeout_s:g} s each",
            fix="check that the edge runs there, or raise timeout or retries on a bad link",
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


def frameable(request: Request) -> Request:
    """The request, or :class:`InvalidRequest` for what the frame has no field for."""
    if request.ber_estimate is not None or request.erased:
        raise InvalidRequest(
            "a raw frame carries neither ber_estimate nor erased ranges",
            allowed="neither: the edge measures the BER on the frame's header",
            fix="leave them out, or use the grpc transport",
        )
    return request


def _connect(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.connect(target)
    except OSError as error:
        raise _unreachable(address, error.strerror) from error
    made.setblocking(False)
    return made


def _unreachable(address: str, reason: str | None) -> Unavailable:
    return Unavailable(
        f"the edge at {address} cannot be reached: {reason}",
        allowed="the UDP address of a running edge or link emulator",
        fix="start `weaklink serve`, or correct the address (its ready line shows it)",
    )
