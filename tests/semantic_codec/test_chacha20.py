"""The stream cipher against RFC 8439's vectors, and plain Python against the library."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from semantic_codec import chacha20

KEY = bytes(range(32))
# RFC 8439, section 2.3.2.
BLOCK = (
    "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
    "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
)
# RFC 8439, appendix A.1, test vectors 1 and 2: key and nonce of zeros, blocks 0 and 1.
ZERO_BLOCKS = (
    "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
)


def test_the_block_function_of_the_rfc():
    assert chacha20.block(KEY, 1, bytes.fromhex("000000090000004a00000000")).hex() == BLOCK


def test_the_keystream_of_the_rfc():
    assert chacha20.plain_keystream(bytes(32), bytes(12), 128).hex() == ZERO_BLOCKS
    assert chacha20.keystream(bytes(32), bytes(12), 128).hex() == ZERO_BLOCKS


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=12, max_size=12), st.integers(0, 200))
def test_the_library_and_plain_python_agree(key, nonce, length):
    assert chacha20.keystream(key, nonce, length) == chacha20.plain_keystream(key, nonce, length)


def test_a_device_needs_no_library(monkeypatch):
    monkeypatch.setattr(chacha20, "_Library", None)
    assert chacha20.keystream(bytes(32), bytes(12), 128).hex() == ZERO_BLOCKS
