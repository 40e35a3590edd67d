"""ChaCha20 (RFC 8439) and keyed BLAKE2s (RFC 7693): in C where the firmware has it, else in words of two halves.

Halves of 16 bits, because a word of 32 is no small integer on a 32-bit MicroPython.
"""

from array import array

try:
    from _weaklink import blake2s, chacha20
except ImportError:
    blake2s = chacha20 = None

_LOW, _HIGH = array("H", bytes(96)), array("H", bytes(96))  # 16 words of state, the 16 that it starts from, the message
_START, _MESSAGE = 16, 32

_CONSTANTS = b"expand 32-byte k"
_INITIAL = (
    b"\x67\xe6\x09\x6a\x85\xae\x67\xbb\x72\xf3\x6e\x3c\x3a\xf5\x4f\xa5"
    b"\x7f\x52\x0e\x51\x8c\x68\x05\x9b\xab\xd9\x83\x1f\x19\xcd\xe0\x5b"
)
_ORDER = (
    b"\x01\x23\x45\x67\x89\xab\xcd\xef" b"\xea\x48\x9f\xd6\x1c\x02\xb7\x53"
    b"\xb8\xc0\x52\xfd\xae\x36\x71\x94" b"\x79\x31\xdc\xbe\x26\x5a\x40\xf8"
    b"\x90\x57\x24\xaf\xe1\xbc\x68\x3d" b"\x2c\x6a\x0b\x83\x4d\x75\xfe\x19"
    b"\xc5\x1f\xed\x4a\x07\x63\x92\x8b" b"\xdb\x7e\xc1\x39\x50\xf4\x86\x2a"
    b"\x6f\xe9\xb3\x08\xc2\xd7\x14\xa5" b"\xa2\x84\x76\x15\xfb\x9e\x3c\xd0"
)


def _put(place, data, count):
    """The first `count` bytes of `data` as words from `place` on, little-endian; zeros behind its end."""
    for index in range(count >> 1):
        half = 0
        if 2 * index < len(data):
            half = data[2 * index]
        if 2 * index + 1 < len(data):
            half |= data[2 * index + 1] << 8
        (_HIGH if index & 1 else _LOW)[place + (index >> 1)] = half


def _add(to, other):
    low = _LOW[to] + _LOW[other]
    _HIGH[to] = _HIGH[to] + _HIGH[other] + (low >> 16) & 0xFFFF
    _LOW[to] = low & 0xFFFF


def _turn(a, b, d, left):
    """a += b; d = (d ^ a) turned left."""
    _add(a, b)
    low, high = _LOW[d] ^ _LOW[a], _HIGH[d] ^ _HIGH[a]
    if left & 16:
        low, high = high, low
    left &= 15
    _LOW[d] = (low << left | high >> (16 - left)) & 0xFFFF
    _HIGH[d] = (high << left | low >> (16 - left)) & 0xFFFF


def _save():
    for word in range(16):
        _LOW[_START + word], _HIGH[_START + word] = _LOW[word], _HIGH[word]


def _chacha20(key, counter, nonce):
    _put(0, _CONSTANTS, 16)
    _put(4, key, 32)
    _LOW[12], _HIGH[12] = counter & 0xFFFF, counter >> 16
    _put(13, nonce, 12)
    _save()
    for turn in range(20):
        for column in range(4):
            # Columns, then diagonals.
            a, b, c, d = column, 4 + column, 8 + column, 12 + column
            if turn & 1:
                b, c, d = 4 + (b + 1 & 3), 8 + (c + 2 & 3), 12 + (d + 3 & 3)
            _turn(a, b, d, 16)
            _turn(c, d, b, 12)
            _turn(a, b, d, 8)
            _turn(c, d, b, 7)
    block = bytearray(64)
    for word in range(16):
        _add(word, _START + word)
        _store(block, word)
    return bytes(block)


def _store(data, word):
    """The word into its four bytes of `data`."""
    low, high = _LOW[word], _HIGH[word]
    data[4 * word], data[4 * word + 1] = low & 255, low >> 8
    data[4 * word + 2], data[4 * word + 3] = high & 255, high >> 8


def _compress(data, total, last):
    """One block; the state lies behind _START, eight words of it."""
    _put(_MESSAGE, data, 64)
    for word in range(8):
        _LOW[word], _HIGH[word] = _LOW[_START + word], _HIGH[_START + word]
    _put(8, _INITIAL, 32)
    _LOW[12] ^= total
    if last:
        _LOW[14] ^= 0xFFFF
        _HIGH[14] ^= 0xFFFF
    for turn in range(20):
        for column in range(4):
            a, b, c, d = column, 4 + column, 8 + column, 12 + column
            if turn & 1:
                b, c, d = 4 + (b + 1 & 3), 8 + (c + 2 & 3), 12 + (d + 3 & 3)
            pair = _ORDER[4 * turn + column]
            _add(a, _MESSAGE + (pair >> 4))
            _turn(a, b, d, 16)
            _turn(c, d, b, 20)
            _add(a, _MESSAGE + (pair & 15))
            _turn(a, b, d, 24)
            _turn(c, d, b, 25)
    for word in range(8):
        _LOW[_START + word] ^= _LOW[word] ^ _LOW[8 + word]
        _HIGH[_START + word] ^= _HIGH[word] ^ _HIGH[8 + word]


def _blake2s(key, message, size):
    _put(_START, _INITIAL, 32)
    _LOW[_START] ^= 32 << 8 | size
    _HIGH[_START] ^= 0x0101
    _compress(key, 64, False)
    _compress(message, 64 + len(message), True)
    digest = bytearray(32)
    for word in range(8):
        _LOW[word], _HIGH[word] = _LOW[_START + word], _HIGH[_START + word]
        _store(digest, word)
    return bytes(digest[:size])


if chacha20 is None:
    # key 32 bytes, counter, nonce 12 bytes -> a block of 64 bytes.
    chacha20 = _chacha20
    # key 32 bytes, message of 1 to 64 bytes, size of the digest -> digest.
    blake2s = _blake2s
