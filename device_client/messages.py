"""What goes out, what comes back, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from semantic_codec.errors import WeaklinkError


@dataclass(frozen=True)
class Request:
    """One image's bits, ready for a transport.

    payload: the level's bytes, most important bit first. encoder_hash: SHA-256 of encoder.bin, 32 bytes.
    ber_estimate: probability in [0, 0.5] that a payload bit is wrong, None where not known. erased: (first bit, count).
    """

    codec: str
    codec_id: int
    version: int
    level: int
    payload: bytes
    encoder_hash: bytes
    device: int
    sequence: int
    ber_estimate: float | None = None
    erased: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Answer:
    """What the edge saw in one image.

    confidence: calibrated probability in [0, 1]. ber_used and source ("request", "estimated" or "prior"): what the
    decoder assumed about the link; None over UDP, whose reply has no room for them. advice: the level that the edge
    would take next, None where it has none. latency_s: from the first transmission to the reply, repeats included.
    """

    class_index: int
    label: str
    confidence: float
    level: int
    sequence: int
    ber_used: float | None = None
    source: str | None = None
    advice: int | None = None
    latency_s: float = 0.0


@dataclass(frozen=True)
class Delivery:
    """The end of one request: an answer, or the error that stands in its place.

    on_air_bytes: all bytes sent for it, headers and repeats included.
    """

    request: Request
    answer: Answer | None
    error: WeaklinkError | None
    attempts: int
    on_air_bytes: int
