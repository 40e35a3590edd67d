"""Keyed mode: authenticated headers, payloads XORed with a keystream, replies to this device alone."""

from .ciphers import blake2s, chacha20
from .errors import InvalidRequest
from .frame import Reply, pack_fields
from .header_code import BlockDecoder, ReplyBits, encode_block, spread
from .sequences import SEQUENCES, SequenceFile

HEADER_BYTES = REPLY_BYTES = 28
_FIELD_BYTES, _CLEAR_BYTES, _MODE = 7, 4, 1


class DeviceKey:
    """A device's secret: 32 bytes, or 64 hexadecimal digits as in a key file."""

    def __init__(self, secret):
        try:
            secret = bytes.fromhex(secret) if isinstance(secret, str) else bytes(secret)
        except ValueError:
            secret = b""
        if len(secret) != 32:
            raise InvalidRequest("the device key is none", "64 hexadecimal digits", "make one with: openssl rand -hex 32")
        self._cipher, self._mac = blake2s(secret, b"weaklink cipher", 32), blake2s(secret, b"weaklink mac", 32)

    def mac(self, message):
        """4 bytes. message: at most 64 bytes, beginning with b"F" for a frame or b"R" for a reply."""
        return blake2s(self._mac, message, 4)

    def xor(self, use, device, sequence, data):
        """`data` hidden, or opened again: XORed with the keystream of a frame (b"F") or a reply (b"R")."""
        nonce = use + bytes(5) + bytes((device >> 8, device & 255)) + _four(sequence)
        result = bytearray(data)
        for place in range(len(result)):
            if place & 63 == 0:
                block = chacha20(self._cipher, place >> 6, nonce)
            result[place] ^= block[place & 63]
        return result


def keyed_wire(key, sequences, device):
    """Keyed mode of a device; both key and sequences must be given."""
    if key is None or sequences is None:
        raise InvalidRequest(
            "there are sequences without a key" if key is None else "there is a key, but nowhere to keep sequences",
            "both, for keyed mode, or neither, for open mode",
            'pass key="64 hexadecimal digits" and sequences="a file of this device"',
        )
    return KeyedWire(key, sequences, device)


class KeyedWire:
    """Every transmission, repeats included, takes a sequence of its own."""

    reply_bytes = REPLY_BYTES

    def __init__(self, key, sequences, device):
        self._key = key if isinstance(key, DeviceKey) else DeviceKey(key)
        self._sequences = sequences if isinstance(sequences, SequenceFile) else SequenceFile(sequences)
        self._device = device
        self._reader = ReplyBits(BlockDecoder(11, 8))

    def numbered(self, sequence):
        """The sequence of the next transmission."""
        return self._sequences.take()

    def frame(self, codec, level, sequence, payload, encoder_hash):
        """The keyed frame of one payload: 28 + len(payload) bytes."""
        head = pack_fields(_MODE, codec, level, self._device, payload)
        # The sequence has 28 bits, the first of them beside the last four of the device.
        fields = head[:3] + bytes((head[3] | sequence >> 24,)) + _four(sequence)[1:]
        block = fields + self._key.mac(b"F" + encoder_hash + fields)
        return spread(encode_block(block), self._key.xor(b"F", self._device, sequence, payload))

    def read(self, data, sequence):
        """The reply to that sequence in 28 bytes, or None."""
        number = bytes((self._device >> 8, self._device & 255))
        for block in self._reader.candidates(data, _MODE, sequence, 28):
            fields = bytes(block[:_FIELD_BYTES])
            if self._key.mac(b"R" + number + fields) == block[_FIELD_BYTES:]:
                return Reply(block[0] >> 4 & 3, sequence, self._key.xor(b"R", self._device, sequence, fields[_CLEAR_BYTES:]))
        return None


def _four(sequence):
    if not 0 <= sequence < SEQUENCES:
        raise InvalidRequest("the sequence is %d" % sequence, "0 to %d" % (SEQUENCES - 1), "take it of a SequenceFile")
    return bytes((sequence >> 24, sequence >> 16 & 255, sequence >> 8 & 255, sequence & 255))
