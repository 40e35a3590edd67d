"""Frames as they go out and replies as they come in, open mode; docs/wire-format.md gives both, bit by bit."""

from .errors import InvalidRequest
from .header_code import CODED_BITS, CODED_BYTES, BlockDecoder, check, encode_block, spread, with_check

HEADER_BYTES = REPLY_BYTES = CODED_BYTES
ANSWERED, REFUSED, BUSY = 0, 1, 2
_NO_ADVICE = 255


def encode_frame(codec, level, device, sequence, payload, encoder_check):
    """The frame of one payload: 18 + len(payload) bytes. encoder_check: the CRC after the encoder's hash."""
    for name, value, bits in (("codec", codec, 6), ("level", level, 4), ("device", device, 16)):
        if not 0 <= value < 1 << bits:
            raise InvalidRequest("%s is %d" % (name, value), "0 to %d" % ((1 << bits) - 1), "give %d bits" % bits)
    if not payload:
        raise InvalidRequest("the payload is empty", "1 byte or more", "send a level of the codec")
    middle = (level << 4 | device >> 12, device >> 4 & 255, (device & 15) << 4 | sequence >> 8)
    fields = bytes((codec,) + middle + (sequence & 255,))
    return spread(encode_block(with_check(fields, encoder_check)), payload)


class Reply:
    """What the edge says: sequence, status, class_index (a reason where refused), confidence 0 to 1, advice or None."""

    def __init__(self, block):
        self.status = block[0] >> 4 & 3
        self.sequence = (block[0] & 15) << 8 | block[1]
        self.class_index = block[2] << 2 | block[3] >> 6
        self.confidence = (block[3] & 63) / 63
        self.advice = block[4] if block[4] < 16 else None


class ReplyReader:
    """Reads the replies to one device; keeps 5 KB of memory to do it in."""

    def __init__(self, device):
        self._start = check(bytes((device >> 8, device & 255)))
        self._decoder = BlockDecoder()
        self._coded = bytearray(CODED_BYTES)
        self._known = bytearray(b"\x02" * 56)

    def read(self, data, sequence):
        """The reply to that sequence in 18 bytes, or None: too damaged, to another sequence, for another device."""
        if len(data) != REPLY_BYTES:
            return None
        coded, known = self._coded, self._known
        place = 0
        for index in range(CODED_BYTES):
            coded[index] = 0
        for index in range(CODED_BITS):
            if data[index >> 3] << (index & 7) & 128:
                coded[place >> 3] |= 128 >> (place & 7)
            place = (place + 89) % CODED_BITS
        known[0] = known[1] = 0
        for bit in range(12):
            known[4 + bit] = sequence >> (11 - bit) & 1
        for block in self._decoder.decode(coded, known):
            if not check(block, self._start):
                return Reply(block)
        return None
