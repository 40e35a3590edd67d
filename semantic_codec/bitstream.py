"""Symbols, bits and bytes. Bit ``i`` of a bitstream is bit ``7 - i % 8`` of byte ``i // 8`` (most significant first)."""

from __future__ import annotations

import numpy as np

from semantic_codec.errors import InvalidRequest


def payload_bytes(symbols: int, bits: int) -> int:
    """Bytes that hold ``symbols`` symbols of ``bits`` bits."""
    return -(-symbols * bits // 8)


def pack_symbols(symbols: np.ndarray, bits: int) -> np.ndarray:
    """uint8 (B, N) of values below ``2**bits`` -> uint8 (B, ceil(N * bits / 8)); unused trailing bits are 0."""
    if symbols.size and symbols.max() >= 1 << bits:
        raise InvalidRequest(
            f"symbol {symbols.max()} does not fit into {bits} bits",
            allowed=f"0 to {(1 << bits) - 1}",
            fix="pack with the codec's own bits_per_symbol",
        )
    shifts = np.arange(bits - 1, -1, -1, dtype=np.uint8)
    spread = (symbols[:, :, None] >> shifts) & 1
    return np.packbits(spread.reshape(len(symbols), -1).astype(np.uint8), axis=1)


def unpack_symbols(payload: np.ndarray, count: int, bits: int) -> np.ndarray:
    """uint8 (B, bytes) -> the first ``count`` symbols, uint8 (B, count). Inverse of :func:`pack_symbols`."""
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint8)
    spread = unpack_bits(payload, count * bits).reshape(len(payload), count, bits)
    return (spread * weights.astype(np.uint8)).sum(axis=2, dtype=np.uint8)


def unpack_bits(payload: np.ndarray, count: int) -> np.ndarray:
    """uint8 (B, bytes) -> the first ``count`` bits, uint8 (B, count) of 0 and 1."""
    if payload.shape[1] * 8 < count:
        raise InvalidRequest(
            f"a payload of {payload.shape[1]} bytes holds fewer than {count} bits",
            allowed=f"at least {-(-count // 8)} bytes",
            fix="send the whole prefix of the level",
        )
    return np.unpackbits(payload, axis=1, count=count)


def posterior_mean(bits: np.ndarray, ber: np.ndarray, erased: np.ndarray | None = None) -> np.ndarray:
    """Posterior mean of each sent bit, as +1 for 1 and -1 for 0, given what arrived.

    ``E[s | r] = (1 - 2p) r`` for an equiprobable bit s of +-1 through a binary symmetric channel of error rate p.
    ``bits`` uint8 (B, n) of 0 and 1; ``ber`` float (B,); ``erased`` bool (B, n) or None. Returns float32 (B, n), 0
    where erased.
    """
    received = bits.astype(np.float32) * 2 - 1
    received *= (1 - 2 * np.asarray(ber, np.float32))[:, None]
    if erased is not None:
        received[erased] = 0
    return received
