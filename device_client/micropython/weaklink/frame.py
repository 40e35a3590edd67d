"""Frames as they go out and replies as they come in, open mode; docs/wire-format.md gives both, bit by bit."""

from .errors import InvalidRequest
from .header_code import BlockDecoder, ReplyBits, check, encode_block, spread, with_check

HEADER_BYTES = REPLY_BYTES = 18
ANSWERED, REFUSED, BUSY = 0, 1, 2
SEQUENCES = 4096
_MODE = 0
_CREDIBLE_ERRORS = 27  # of 144 bits: one block of noise in 30 is as near to a reply


def encode_frame(codec, level, device, sequence, payload, encoder_check):
    """The frame of one payload: 18 + len(payload) bytes. encoder_check: the CRC after the encoder's hash."""
    head = pack_fields(_MODE, codec, level, device, payload)
    fields = head[:3] + bytes((head[3] | sequence >> 8, sequence & 255))
    return spread(encode_block(with_check(fields, encoder_check)), payload)


def pack_fields(mode, codec, level, device, payload):
    """What open and keyed headers begin with: 28 bits in 4 bytes."""
    for name, value, bits in (("codec", codec, 6), ("level", level, 4), ("device", device, 16)):
        if not 0 <= value < 1 << bits:
            raise InvalidRequest("%s is %d" % (name, value), "0 to %d" % ((1 << bits) - 1), "give %d bits" % bits)
    if not payload:
        raise InvalidRequest("the payload is empty", "1 byte or more", "send a level of the codec")
    return bytes((mode << 6 | codec, level << 4 | device >> 12, device >> 4 & 255, (device & 15) << 4))


class Reply:
    """What the edge says: sequence, status, class_index (a reason where refused), confidence 0 to 1, advice or None."""

    def __init__(self, status, sequence, content):
        self.status, self.sequence = status, sequence
        self.class_index = content[0] << 2 | content[1] >> 6
        self.confidence = (content[1] & 63) / 63
        self.advice = content[2] if content[2] < 16 else None


class ReplyReader:
    """Reads the replies to one device; keeps 5 KB of memory to do it in."""

    def __init__(self, device):
        self._start = check(bytes((device >> 8, device & 255)))
        self._reader = ReplyBits(BlockDecoder())

    def read(self, data, sequence):
        """The reply to that sequence in 18 bytes, or None: too damaged, to another sequence, for another device."""
        for block in self._reader.candidates(data, _MODE, sequence, 12):
            if not check(block, self._start) and self._reader.errors(block) <= _CREDIBLE_ERRORS:
                return Reply(block[0] >> 4 & 3, sequence, block[2:5])
        return None


class OpenWire:
    """Open mode as a device uses it; `KeyedWire` is the other one."""

    reply_bytes = REPLY_BYTES

    def __init__(self, device):
        self._device = device
        self._replies = ReplyReader(device)

    def numbered(self, sequence):
        """The sequence of the next transmission of the image with this number."""
        return sequence

    def frame(self, codec, level, sequence, payload, encoder_hash):
        return encode_frame(codec, level, self._device, sequence, payload, check(encoder_hash))

    def read(self, data, sequence):
        return self._replies.read(data, sequence)
