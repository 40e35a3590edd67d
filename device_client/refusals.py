"""What a raw frame's reply says when the edge refused the frame, as one of our errors."""

from __future__ import annotations

from device_client.messages import Request
from semantic_codec.errors import DeadlineExceeded, EncoderMismatch, InvalidRequest, NotFound, WeaklinkError
from semantic_codec.reply import Refusal

_OTHER = (WeaklinkError, "refused", "see the edge's log", "see the edge's log")
_MEANING: dict[int, tuple[type[WeaklinkError], str, str, str]] = {
    Refusal.UNKNOWN_VERSION: (InvalidRequest, "is of an unknown version", "the versions that the edge reads", "update the edge"),
    Refusal.UNKNOWN_CODEC: (NotFound, "is of a codec that does not serve", "the codecs of GET /v1/codecs", "install its bundle on the edge"),
    Refusal.UNKNOWN_LEVEL: (InvalidRequest, "is of an unknown level", "the codec's levels", "use the same bundle on both ends"),
    Refusal.ENCODER_MISMATCH: (EncoderMismatch, "does not match the edge's decoder", "the encoder.bin of the edge's bundle", "use the same bundle on both ends"),
    Refusal.BAD_LENGTH: (InvalidRequest, "has a wrong length", "18 bytes and the level's payload", "use the same bundle on both ends"),
    Refusal.TOO_LATE: (DeadlineExceeded, "was not answered in time", "a less busy edge", "send at a lower rate"),
}  # fmt: skip


def refusal(code: int, request: Request) -> WeaklinkError:
    """The error of a :class:`Refusal` code; codes from a newer edge read as OTHER."""
    kind, what, allowed, fix = _MEANING.get(code, _OTHER)
    name = f"frame {request.sequence} ({request.codec} {request.version}, level {request.level})"
    return kind(f"{name} {what}", allowed=allowed, fix=fix)
