"""The kernels of `semantic_codec.information_sets`, compiled. Importing this module needs numba."""

from __future__ import annotations

import numpy as np

from semantic_codec.viterbi_numba import compile_kernel

_PAIRS, _NIBBLES, _BYTES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_SUM = np.uint64(0x0101010101010101)
_ONE, _TWO, _FOUR, _TOP = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


@compile_kernel
def _ones(word):
    """Bits set in a uint64."""
    word = word - ((word >> _ONE) & _PAIRS)
    word = (word & _NIBBLES) + ((word >> _TWO) & _NIBBLES)
    word = (word + (word >> _FOUR)) & _BYTES
    return np.int64((word * _SUM) >> _TOP)


@compile_kernel
def unmix(frames, places, header_bytes):
    count, size = frames.shape
    headers = np.empty((count, header_bytes), np.uint8)
    payloads = np.empty((count, size - header_bytes), np.uint8)
    for row in range(count):
        frame = frames[row]
        for byte in range(size):
            value = 0
            for bit in range(8 * byte, 8 * byte + 8):
                place = places[bit]
                value = value << 1 | (frame[place >> 3] >> (7 - (place & 7))) & 1
            if byte < header_bytes:
                headers[row, byte] = value
            else:
                payloads[row, byte - header_bytes] = value
    return headers, payloads


@compile_kernel
def decode(headers, inverses, generator, info_bytes, most_errors):
    count, header_bytes = headers.shape
    info_words, coded_words = inverses.shape[3], generator.shape[2]
    blocks, errors = np.zeros((count, info_bytes), np.uint8), np.empty(count, np.int64)
    received, coded = np.empty(coded_words, np.uint64), np.empty(coded_words, np.uint64)
    info = np.empty(info_words, np.uint64)
    for row in range(count):
        header = headers[row]
        received[:] = 0
        for byte in range(header_bytes):
            received[byte >> 3] |= np.uint64(header[byte]) << np.uint64(56 - 8 * (byte & 7))
        for inverse in inverses:
            info[:] = 0
            for byte in range(header_bytes):
                for word in range(info_words):
                    info[word] ^= inverse[2 * byte, header[byte] >> 4, word]
                    info[word] ^= inverse[2 * byte + 1, header[byte] & 15, word]
            coded[:] = received
            for byte in range(info_bytes):
                value = (info[byte >> 3] >> np.uint64(56 - 8 * (byte & 7))) & np.uint64(255)
                for word in range(coded_words):
                    coded[word] ^= generator[2 * byte, value >> _FOUR, word]
                    coded[word] ^= generator[2 * byte + 1, value & np.uint64(15), word]
                blocks[row, byte] = value
            distance = 0
            for word in range(coded_words):
                distance += _ones(coded[word])
            errors[row] = distance
            if distance <= most_errors:
                break
    return blocks, errors


@compile_kernel
def read_open(frames, places, header_bytes, inverses, generator, info_bytes, most_errors, check_sums):
    headers, payloads = unmix(frames, places, header_bytes)
    blocks, errors = decode(headers, inverses, generator, info_bytes, most_errors)
    fields = np.empty((len(blocks), 4), np.int64)
    for row in range(len(blocks)):
        packed = rest = 0
        for byte in range(info_bytes):
            value = np.int64(blocks[row, byte])
            packed = packed << 8 | value
            rest ^= check_sums[byte, value]
        fields[row, 0] = packed >> 44 << 16 | rest if errors[row] <= most_errors else -1
        fields[row, 1] = packed >> 28 & 0xFFFF
        fields[row, 2] = packed >> 16 & 0xFFF
        fields[row, 3] = errors[row]
    return fields, payloads
