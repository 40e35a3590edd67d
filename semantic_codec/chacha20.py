"""The stream cipher of keyed frames: ChaCha20 of RFC 8439, from `cryptography` where installed, else in plain Python.

The device's client must run on NumPy alone; the edge, which opens thousands of frames a second, installs the library.
"""

from __future__ import annotations

import struct

try:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20 as _Library
except ImportError:
    _Library = None

BLOCK_BYTES = 64
_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
_ROUNDS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)
"""A column round and a diagonal round (RFC 8439, section 2.3): which words each quarter round takes."""


def keystream(key: bytes, nonce: bytes, length: int) -> bytes:
    """The first `length` bytes of the keystream, block counter from 0. key: 32 bytes; nonce: 12 bytes."""
    if _Library is None:
        return plain_keystream(key, nonce, length)
    # The library takes counter and nonce as one, as in the original cipher.
    encryptor = Cipher(_Library(key, bytes(4) + nonce), mode=None).encryptor()
    return encryptor.update(bytes(length))


def plain_keystream(key: bytes, nonce: bytes, length: int) -> bytes:
    """As `keystream`, without the library."""
    blocks = range((length + BLOCK_BYTES - 1) // BLOCK_BYTES)
    return b"".join(block(key, counter, nonce) for counter in blocks)[:length]


def block(key: bytes, counter: int, nonce: bytes) -> bytes:
    """One block of keystream, 64 bytes (RFC 8439, section 2.3)."""
    start = [*_CONSTANTS, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    words = list(start)
    for _ in range(10):
        for a, b, c, d in _ROUNDS:
            words[a] = words[a] + words[b] & _MASK
            words[d] = _rotate(words[d] ^ words[a], 16)
            words[c] = words[c] + words[d] & _MASK
            words[b] = _rotate(words[b] ^ words[c], 12)
            words[a] = words[a] + words[b] & _MASK
            words[d] = _rotate(words[d] ^ words[a], 8)
            words[c] = words[c] + words[d] & _MASK
            words[b] = _rotate(words[b] ^ words[c], 7)
    return struct.pack("<16I", *(word + first & _MASK for word, first in zip(words, start, strict=True)))


def _rotate(word: int, count: int) -> int:
    return (word << count | word >> (32 - count)) & _MASK
