"""The keyed frame: 28 bytes of coded header, authenticated, and a payload XORed with a keystream, mixed bit by bit.

    header 7 B, MAC 4 B -> tail-biting code, 224 bits --.
                                                        +-> spread_layout -> 28 + n bytes on the air
    payload n B -> XOR keystream -----------------------'

The payload is confidential, not authenticated: a bit flipped on the air is that bit flipped in the payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hmac import compare_digest

import numpy as np

from semantic_codec.errors import InvalidRequest
from semantic_codec.frame import FrameReader, WireCodec, check_hash
from semantic_codec.frame_format import Layout, Mode
from semantic_codec.header_code import HeaderCode
from semantic_codec.interleave import spread_layout
from semantic_codec.keyed import (
    FIELD_BYTES,
    FRAME,
    HEADER_BYTES,
    KEYED_MODE,
    DeviceKey,
    KeyedHeader,
    keyed_code,
    pack_keyed_header,
    unpack_keyed_header,
    xor,
)

HEADER_BITS = 8 * HEADER_BYTES

KEYED = Mode(
    version=KEYED_MODE,
    header_bytes=HEADER_BYTES,
    info_bits=88,
    list_size=4,
    whole_checks=8,
    cut_checks=8,
    bounded=False,
    certain_errors=6,
    telling_errors=22,
    least_header_bits=112,
    code=keyed_code,
)
"""With 32 bits of MAC, 16 candidates let noise through with 16 / 2^32 at most, so none is left out. Codewords near
noise: 2^88 * V(224, 22) / 2^224 = 2e-11."""


def encode_keyed_frame(
    header: KeyedHeader, payload: bytes, key: DeviceKey, encoder_hash: bytes, layout: Layout = spread_layout
) -> bytes:
    """The frame of one payload: 28 + len(payload) bytes. InvalidRequest: an empty payload, a hash not of 32 bytes.

    A device and sequence must never be used twice under one key: the caller sees to that.
    """
    check_hash(encoder_hash)
    if not len(payload):
        raise InvalidRequest("the payload is empty", allowed="1 byte or more", fix="send a level of the codec")
    block = np.frombuffer(pack_keyed_header(header, key, encoder_hash), dtype=np.uint8)
    coded = keyed_code().encode(np.unpackbits(block)[None])[0]
    hidden = xor(payload, key.keystream(FRAME, header.device, header.sequence, len(payload)))
    bits = np.concatenate([coded, np.unpackbits(np.frombuffer(hidden, dtype=np.uint8))])
    return np.packbits(bits[layout(HEADER_BITS, 8 * len(payload))]).tobytes()


class KeyedFrameReader(FrameReader):
    """Reads keyed frames; as `FrameReader`, with "bad_mac" and "unknown_device" in place of "encoder_mismatch".

    It knows nothing of sequences: whether a frame is a replay is for the caller to find out.

    Args:
        keys: by device number; looked up once for every header, so it may change meanwhile: a result names its key.
    """

    mode = KEYED

    def __init__(
        self,
        codecs: Iterable[WireCodec],
        keys: Mapping[int, DeviceKey],
        layout: Layout = spread_layout,
        code: HeaderCode | None = None,
        cut_frames: bool = True,
    ):
        super().__init__(codecs, layout, code, cut_frames)
        self._keys = keys

    def _unpack(self, block: bytes) -> KeyedHeader:
        return unpack_keyed_header(block)

    def _matching(self, block: bytes) -> tuple[WireCodec | None, DeviceKey | None]:
        codecs = self._codecs.get(block[0] & 63, ())
        key = self._keys.get(unpack_keyed_header(block).device) if codecs else None
        if key is not None:
            fields, mac = block[:FIELD_BYTES], block[FIELD_BYTES:]
            for codec, _ in codecs:
                if compare_digest(mac, key.mac(FRAME + codec.encoder_hash + fields)):
                    return codec, key
        return None, None

    def _mismatch(self, header: KeyedHeader) -> str:
        return "bad_mac" if header.device in self._keys else "unknown_device"

    def _open(
        self, payload: bytes, header: KeyedHeader, key: DeviceKey, erased: tuple[tuple[int, int], ...]
    ) -> bytes:
        opened = xor(payload, key.keystream(FRAME, header.device, header.sequence, len(payload)))
        return _without(opened, erased) if erased else opened


def _without(payload: bytes, erased: tuple[tuple[int, int], ...]) -> bytes:
    """The payload with 0 where nothing arrived, instead of the keystream."""
    bits = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
    for first, count in erased:
        bits[first : first + count] = 0
    return np.packbits(bits).tobytes()
