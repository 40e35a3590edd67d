"""Keyed mode: what a device and the edge share, the header that it authenticates, and the keystreams made from it.

    secret 32 B -> BLAKE2s -> cipher key -> ChaCha20(nonce = use, device, sequence) -> keystream
                          \\-> MAC key ----> BLAKE2s, 4 bytes, over encoder hash and header

BLAKE2s with a key is a MAC of its own (RFC 7693, section 2.9), is defined for 4 bytes of output, and as a pseudorandom
function keeps its strength at that length. Poly1305 does not: its bound vanishes when the tag is cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2s

from semantic_codec.chacha20 import keystream
from semantic_codec.errors import ConfigError
from semantic_codec.header import Header, pack_numbers, unpack_numbers
from semantic_codec.header_code import HeaderCode

KEYED_MODE = 1
"""The version of keyed frames and replies."""

WIDTHS = {"version": 2, "codec": 6, "level": 4, "device": 16, "sequence": 28}
SEQUENCES = 1 << WIDTHS["sequence"]
"""How many frames one key is good for; numbers never start again."""

FIELD_BYTES, MAC_BYTES = 7, 4
BLOCK_BYTES = FIELD_BYTES + MAC_BYTES
HEADER_BYTES = 28
SECRET_BYTES = 32
FRAME, REPLY = b"F", b"R"
"""What a MAC or a keystream is for, so that one is never taken for the other."""


@dataclass(frozen=True)
class KeyedHeader(Header):
    """What a keyed frame says of itself."""

    version: int = KEYED_MODE
    widths = WIDTHS


@dataclass(frozen=True)
class DeviceKey:
    """A device's secret of 32 bytes, and the two keys made from it. ConfigError: another length.

    The secret appears in no repr, so in no log.
    """

    secret: bytes = field(repr=False)
    cipher_key: bytes = field(init=False, repr=False)
    mac_key: bytes = field(init=False, repr=False)
    key_id: bytes = field(init=False)
    """4 bytes that name the key and tell nothing of it."""

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES:
            raise ConfigError(
                f"the device key has {len(self.secret)} bytes",
                allowed=f"{SECRET_BYTES} bytes, {2 * SECRET_BYTES} hexadecimal digits",
                fix="make one with: openssl rand -hex 32",
            )
        object.__setattr__(self, "cipher_key", blake2s(b"weaklink cipher", key=self.secret).digest())
        object.__setattr__(self, "mac_key", blake2s(b"weaklink mac", key=self.secret).digest())
        object.__setattr__(self, "key_id", blake2s(b"weaklink id", key=self.secret, digest_size=4).digest())

    @classmethod
    def from_hex(cls, text: str) -> DeviceKey:
        """The key written as 64 hexadecimal digits. ConfigError: anything else."""
        try:
            return cls(bytes.fromhex(text))
        except (ValueError, TypeError):
            raise ConfigError(
                "the device key is not hexadecimal",
                allowed=f"{2 * SECRET_BYTES} digits of 0-9 a-f",
                fix="make one with: openssl rand -hex 32",
            ) from None

    def mac(self, message: bytes) -> bytes:
        """4 bytes. message: at most 64 bytes, beginning with FRAME or REPLY."""
        return blake2s(message, key=self.mac_key, digest_size=MAC_BYTES).digest()

    def keystream(self, use: bytes, device: int, sequence: int, length: int) -> bytes:
        """What the payload of a frame (use FRAME) or the content of a reply (use REPLY) is XORed with."""
        nonce = use + bytes(5) + device.to_bytes(2, "big") + sequence.to_bytes(4, "big")
        return keystream(self.cipher_key, nonce, length)


def pack_keyed_header(header: KeyedHeader, key: DeviceKey, encoder_hash: bytes) -> bytes:
    """Header and MAC: 11 bytes. encoder_hash: SHA-256 of `encoder.bin`, 32 bytes."""
    packed = pack_numbers([(getattr(header, name), width) for name, width in WIDTHS.items()])
    return packed + key.mac(FRAME + encoder_hash + packed)


def unpack_keyed_header(block: bytes) -> KeyedHeader:
    """The header in 11 bytes, whatever its MAC says."""
    return KeyedHeader(**dict(zip(WIDTHS, unpack_numbers(block[:FIELD_BYTES], list(WIDTHS.values())), strict=True)))


def xor(data: bytes, stream: bytes) -> bytes:
    """Both are of one length."""
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


@cache
def keyed_code(use_compiled: bool = True) -> HeaderCode:
    """The code of keyed headers and replies: 88 bits in 224, minimum distance 13."""
    return HeaderCode(8 * BLOCK_BYTES, 8 * HEADER_BYTES, use_compiled=use_compiled)
