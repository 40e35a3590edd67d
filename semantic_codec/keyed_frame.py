from __future__ import annotations
import numpy as np
from semantic_codec.interleave import spread_layout
from semantic_codec.keyed import *
from semantic_codec.keyed import xor

def encode_keyed_frame(header, payload, key, encoder_hash):
    block = pack_keyed_header(header, key, encoder_hash)
    coded = keyed_code().encode(np.unpackbits(np.frombuffer(block, dtype=np.uint8))[None])[0]
    hidden = xor(payload, key.keystream(FRAME, header.device, header.sequence, len(payload)))
    bits = np.concatenate([coded, np.unpackbits(np.frombuffer(hidden, dtype=np.uint8))])
    return np.packbits(bits[spread_layout(224, 8 * len(payload))]).tobytes()
