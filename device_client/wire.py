"""Open and keyed mode as a device sees them: a request becomes a frame, bytes become a reply."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable

from device_client.messages import Request
from device_client.sequences import SequenceFile
from semantic_codec.errors import ConfigError
from semantic_codec.frame import encode_frame
from semantic_codec.header import WIDTHS, Header
from semantic_codec.keyed import WIDTHS as KEYED_WIDTHS
from semantic_codec.keyed import DeviceKey, KeyedHeader
from semantic_codec.keyed_frame import encode_keyed_frame
from semantic_codec.keyed_reply import KEYED_REPLY_BYTES, encode_keyed_reply, read_keyed_reply
from semantic_codec.reply import REPLY_BYTES, Reply, encode_reply, read_reply


class Wire(ABC):
    """One mode. sequence_bits: of a request's number; reply_bytes: the length of every reply."""

    sequence_bits: int
    reply_bytes: int

    @abstractmethod
    def frame(self, request: Request) -> tuple[int, bytes]:
        """The sequence under which this transmission of the request goes out, and its frame."""

    @abstractmethod
    def read(self, data: bytes, device: int, sequences: Iterable[int] = ()) -> Reply | None:
        """See :func:`semantic_codec.reply.read_reply`."""

    def close(self) -> None:
        """Give back what the mode holds; may be called twice."""


class OpenWire(Wire):
    sequence_bits, reply_bytes = WIDTHS["sequence"], REPLY_BYTES

    def __init__(self) -> None:
        # Loads the decoder's tables and kernels now, so that the first reply need not wait for them.
        self.read(_damaged(encode_reply(Reply(0, 0), 0)), 0, [1])

    def frame(self, request: Request) -> tuple[int, bytes]:
        header = Header(request.codec_id, request.level, request.device, request.sequence)
        return request.sequence, encode_frame(header, request.payload, request.encoder_hash)

    def read(self, data: bytes, device: int, sequences: Iterable[int] = ()) -> Reply | None:
        return read_reply(data, device, sequences)


class KeyedWire(Wire):
    """Every transmission, repeats included, takes a sequence of its own. A file given by its path is closed with the wire."""

    sequence_bits, reply_bytes = KEYED_WIDTHS["sequence"], KEYED_REPLY_BYTES

    def __init__(self, key: DeviceKey, sequences: SequenceFile | str | os.PathLike[str]):
        self._key, self._opened = key, not isinstance(sequences, SequenceFile)
        self._sequences = SequenceFile(sequences) if self._opened else sequences
        self.read(_damaged(encode_keyed_reply(Reply(0, 0), 0, key)), 0, [1])

    def frame(self, request: Request) -> tuple[int, bytes]:
        sequence = self._sequences.take()
        header = KeyedHeader(request.codec_id, request.level, request.device, sequence)
        return sequence, encode_keyed_frame(header, request.payload, self._key, request.encoder_hash)

    def read(self, data: bytes, device: int, sequences: Iterable[int] = ()) -> Reply | None:
        return read_keyed_reply(data, device, self._key, sequences)

    def close(self) -> None:
        if self._opened:
            self._sequences.close()


def create_wire(key: DeviceKey | str | None, sequences: SequenceFile | str | os.PathLike[str] | None) -> Wire:
    """Keyed mode where there is a key (64 hexadecimal digits or a :class:`DeviceKey`), else open mode."""
    if key is None and sequences is None:
        return OpenWire()
    if key is None or sequences is None:
        raise ConfigError(
            "there are sequences without a key" if key is None else "there is a key, but nowhere to keep sequences",
            allowed="both, for keyed mode, or neither, for open mode",
            fix='pass key="64 hexadecimal digits" and sequences="a file of this device"',
        )
    key = DeviceKey.from_hex(key) if isinstance(key, str) else key
    return KeyedWire(key, sequences)


def _damaged(reply: bytes) -> bytes:
    return bytes(byte ^ 0x11 for byte in reply)
