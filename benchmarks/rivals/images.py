"""JPEG and WebP as rivals: pictures as the receiver sees them, and what they take on the air.

Bytes are counted two ways. *file*: what Pillow writes, the smaller of the standard and the optimised Huffman tables.
*stripped*: without everything that a receiver who expects this size and quality could know. Of a JPEG that leaves the
entropy-coded scan (standard tables; ITU-T T.81, B.1.1), of a lossy WebP the VP8 frame behind its 10 bytes of frame tag,
start code and size (RFC 6386, 9.1; RFC 9649, 2.5).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.transfers import cheapest_packets

WEBP_HEADER = 12 + 8 + 10  # RIFF, chunk header, frame tag with start code and size


@dataclass(frozen=True)
class ImageFormat:
    """``kind`` "jpeg" or "webp"; ``quality`` as Pillow takes it; ``subsampling`` of JPEG's colours, 0: 4:4:4, 2: 4:2:0."""

    kind: str
    quality: int
    subsampling: int = 2

    @property
    def variant(self) -> str:
        colours = {0: ", 4:4:4", 2: ", 4:2:0"}[self.subsampling] if self.kind == "jpeg" else ""
        return f"quality {self.quality}{colours}"

    def write(self, image: np.ndarray, optimize: bool = False) -> bytes:
        """The file of one image uint8 (H, W, 3)."""
        stream = io.BytesIO()
        if self.kind == "jpeg":
            options = {"quality": self.quality, "subsampling": self.subsampling, "optimize": optimize}
        else:
            options = {"quality": self.quality, "method": 6}
        Image.fromarray(image).save(stream, self.kind.upper(), **options)
        return stream.getvalue()


@dataclass(frozen=True)
class Coded:
    """A split as the receiver sees it: ``images`` uint8 (N, H, W, 3); ``file_bytes`` and ``stripped_bytes`` int (N,)."""

    images: np.ndarray
    file_bytes: np.ndarray
    stripped_bytes: np.ndarray


def encode(images: np.ndarray, form: ImageFormat) -> Coded:
    """Each image uint8 (N, H, W, 3) through ``form`` and back."""
    seen, files, stripped = np.empty_like(images), [], []
    for index, image in enumerate(images):
        data = form.write(image)
        seen[index] = read(data)
        files.append(min(len(data), len(form.write(image, optimize=True))) if form.kind == "jpeg" else len(data))
        stripped.append(scan_bytes(data) if form.kind == "jpeg" else len(data) - WEBP_HEADER)
    return Coded(seen, np.array(files), np.array(stripped))


def read(data: bytes) -> np.ndarray:
    """The picture in a file, uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def scan_bytes(jpeg: bytes) -> int:
    """Length of a baseline JPEG's entropy-coded scan: what stands between its header and the end marker."""
    at = 2
    while True:
        marker, length = jpeg[at + 1], 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        at += length
        if marker == 0xDA:  # start of scan
            return len(jpeg) - at - 2


def whole_bytes(sizes: np.ndarray, ber: float, header: int, check: int = 2) -> np.ndarray:
    """Expected on-air bytes until each message of ``sizes`` bytes (N,) has arrived whole, float (N,).

    Packets of ``header`` + part + ``check`` bytes (a CRC of 16 bits), each repeated until its part and its check are unhurt;
    the part has the length that needs the fewest bytes. In the sender's favour: headers and acknowledgements always arrive,
    and cost nothing beyond the header.
    """
    checked = np.arange(1, sizes.max() + 1) + check
    return np.exp(cheapest_packets(sizes, np.log(header + checked) - 8 * checked * np.log1p(-ber))[1])
