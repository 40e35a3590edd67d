"""A gRPC call on an HTTP/2 stream (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

import grpc

from edge_server.http2.headers import LARGEST_BLOCK, write_headers
from edge_server.http2.stream import Stream
from semantic_codec.errors import InvalidRequest, TooLarge, WeaklinkError

Metadata = list[tuple[str, str | bytes]]
LONGEST_MESSAGE = 1000  # characters of a status; clients refuse headers that are much longer
MOST_SHOWN = 80  # characters of what was wrong
_NAME = re.compile(r":?[a-z0-9_.-]+")
_VALUE = re.compile(r"[ -~]*")
_PREFIX = struct.Struct(">BI")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_OWN = ("te", "content-type", "user-agent", "host", "accept-encoding")
_BEGIN = write_headers([(":status", "200"), ("content-type", "application/grpc")])
_OK = write_headers([("grpc-status", "0")])
_BITS_OF_ANY_ZLIB = 47  # gzip and zlib, told by their header


@dataclass(slots=True)
class CallHead:
    """What the headers of a call say. ``timeout_s`` None: no deadline. ``problem``: what is wrong with them, or empty.
    ``size``: their bytes, as HTTP/2 counts them; each of several values that were joined is a header of its own."""

    path: str = ""
    method: str = ""
    content_type: str = ""
    timeout_s: float | None = None
    encoding: str = "identity"
    metadata: Metadata = field(default_factory=list)
    problem: str = ""
    size: int = 0

    @classmethod
    def of(cls, headers: list[tuple[str, str]]) -> CallHead:
        head = cls(size=sum(len(name) + len(value) + 32 for name, value in headers))
        for name, value in headers:
            try:
                head._add(name, value)
            except ValueError:
                head.problem = f"the header {name[:MOST_SHOWN]!r} is {value[:MOST_SHOWN]!r}"
        if not head.problem and (head.method != "POST" or not head.path):
            head.problem = f"this is {head.method!r} of {head.path[:MOST_SHOWN]!r}; allowed: POST of a method"
        if head.size > LARGEST_BLOCK:
            head.metadata.clear()  # a short block may mean as much, and heads of these are remembered
        return head

    def refusal(self) -> WeaklinkError | None:
        """Why the call is not served, if it is not; a new error each time, since heads are remembered."""
        if self.size > LARGEST_BLOCK:
            return TooLarge(
                f"the headers have {self.size} bytes", allowed=f"up to {LARGEST_BLOCK}", fix="send less metadata"
            )
        if self.problem:
            return InvalidRequest(self.problem, allowed="the headers of gRPC", fix="use a gRPC client")
        return None

    def _add(self, name: str, value: str) -> None:
        # What is passed on to grpcio, or said in an answer, is what gRPC allows and nothing else.
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(name)
        if name == ":path":
            if self.path:
                raise ValueError(name)
            self.path = value
        elif name == ":method":
            self.method = value
        elif name == "content-type":
            self.content_type = value
        elif name == "grpc-timeout":
            self.timeout_s = _seconds(value)
        elif name == "grpc-encoding":
            self.encoding = value
        elif name[:1] != ":" and name[:5] != "grpc-" and name not in _OWN:
            if name == "-bin":  # a binary header without a name, which grpcio would take amiss
                raise ValueError(name)
            if name.endswith("-bin"):  # proxies may join several of one name
                values = value.split(",")
                self.metadata += [(name, _decoded(one.strip(" "))) for one in values]
                self.size += (len(values) - 1) * (len(name) + 32)
            else:
                self.metadata.append((name, value))


class GrpcCall:
    """Cuts what is received into messages and frames what it answers. A subclass takes the messages with
    :meth:`next_message` when it is told to :meth:`look`.

    ``largest``: bytes of a message; longer ones are not waited for but end in :meth:`refuse`. ``largest_plain``: of
    a compressed one, decompressed.
    """

    answers_each = False
    """Whether each message has an answer of its own, and so a compressed one that cannot be read, too."""

    def __init__(self, stream: Stream, head: CallHead, largest: int, largest_plain: int | None = None):
        self.stream, self.head, self._largest = stream, head, largest
        self._largest_plain = largest if largest_plain is None else largest_plain
        self._held = bytearray()
        self._begun = False
        self.read_all = False
        """The peer sends no more."""
        stream.receiver = self

    def look(self) -> None:
        """Messages may be there, or room for answers, or the last message was sent."""

    def cancelled(self) -> None:
        """The peer takes no more."""

    def refuse(self, error: WeaklinkError) -> None:
        """End the call with the error's status; also called for messages that cannot be taken."""
        self.end(grpc.StatusCode[error.grpc_status], str(error))

    def data_received(self, data: bytes) -> None:
        self._held += data
        self.look()

    def ended(self) -> None:
        self.read_all = True
        self.look()

    def drained(self) -> None:
        self.look()

    def next_message(self) -> bytes | None:
        """The peer may send as much again as was taken. None: no whole message is there, or the call has ended."""
        return next(iter(self.next_messages(1)), None)

    def next_messages(self, most: int) -> list[bytes | WeaklinkError]:
        """As :meth:`next_message`, up to ``most`` of them. One that cannot be taken ends the call only when it is the
        first: those before it are handed out. Where a call ``answers_each``, what is wrong with a compressed one is handed
        out in its place."""
        held, place, missing, packed = self._held, 0, 0, False
        bodies: list[bytes] = []
        if self.stream.closed:
            return bodies
        while len(bodies) < most and not packed and len(held) - place >= _PREFIX.size:
            packed, length = _PREFIX.unpack_from(held, place)
            begin = place + _PREFIX.size
            if bodies and (packed or length > self._largest):
                packed = False
                break
            if length > self._largest:
                self.refuse(_too_large(length, self._largest))
                return bodies
            missing = begin + length - len(held)
            if missing > 0:
                break
            place = begin + length
            bodies.append(bytes(held[begin:place]))
        if bodies:
            del held[:place]
            self.stream.consumed(place)
        if missing > 0:
            self.stream.expect(missing)
        elif packed:
            plain = self._decompressed(bodies[0])
            if isinstance(plain, WeaklinkError) and not self.answers_each:
                self.refuse(plain)
                return []
            return [] if plain is None else [plain]
        return bodies

    def begin(self, metadata: Metadata = ()) -> None:
        """Send the response's headers now."""
        self._begun = True
        self.stream.send(_BEGIN + _metadata_block(metadata), b"", None)

    def send(self, *bodies: bytes) -> None:
        framed = b"".join([part for body in bodies for part in (_PREFIX.pack(0, len(body)), body)])
        self.stream.send(self._head(), framed, None, len(bodies))

    def answer(self, body: bytes) -> None:
        """The one message of a response, and OK."""
        self.stream.send(self._head(), _PREFIX.pack(0, len(body)) + body, _OK)

    def end(self, status: grpc.StatusCode, message: str = "", metadata: Metadata = ()) -> None:
        block = _status_block(status.value[0], message[:LONGEST_MESSAGE])
        if metadata:
            block += _metadata_block(metadata)
        if self._begun:
            self.stream.send(None, b"", block)
        else:
            self.stream.send_only_trailers(_BEGIN + block)

    def _head(self) -> bytes | None:
        if self._begun:
            return None
        self._begun = True
        return _BEGIN

    def _decompressed(self, body: bytes) -> bytes | WeaklinkError | None:
        """What is wrong with it where that cannot be done; None, and the call has ended, where no message of it could be."""
        encoding = self.head.encoding
        if encoding not in ("gzip", "deflate"):
            problem = f"grpc-encoding is {encoding[:MOST_SHOWN]}"
            self.refuse(InvalidRequest(problem, allowed="identity, gzip, deflate", fix="use one of these"))
            return None
        inflater = zlib.decompressobj(_BITS_OF_ANY_ZLIB)
        try:
            plain = inflater.decompress(body, self._largest_plain + 1)
        except zlib.error:
            plain = b""
        if len(plain) > self._largest_plain:
            return _too_large(f"more than {self._largest_plain}", self._largest_plain)
        if not inflater.eof:
            problem = f"a message is marked as compressed and is no {encoding}"
            return InvalidRequest(problem, allowed="what grpc-encoding says", fix="send all of it")
        return plain


def _too_large(size: int | str, limit: int) -> TooLarge:
    return TooLarge(
        f"the message has {size} bytes",
        allowed=f"up to {limit}",
        fix="send one image per message",
    )


def refuse_protocol(stream: Stream) -> None:
    """For what is HTTP/2 and no gRPC."""
    stream.send_only_trailers(write_headers([(":status", "415"), ("content-length", "0")]), stop=True)


@lru_cache(256)
def _status_block(number: int, message: str) -> bytes:
    headers = [("grpc-status", str(number))]
    if message:
        headers.append(("grpc-message", quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")))
    return write_headers(headers)


def _metadata_block(metadata: Metadata) -> bytes:
    return write_headers(
        (name, base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value)
        for name, value in metadata
    )


def _decoded(value: str) -> bytes:
    return base64.b64decode(value + "=" * (-len(value) % 4))


def _seconds(value: str) -> float:
    number, unit = value[:-1], value[-1:]
    if not (number.isascii() and number.isdigit() and len(number) <= 8 and unit in _UNITS):
        raise ValueError(value)
    return int(number) * _UNITS[unit]
