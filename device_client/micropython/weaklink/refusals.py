"""Why the edge refused a frame; a board that is never refused need not load it."""

from . import errors

_REFUSALS = {
    1: ("InvalidRequest", "is of an unknown version", "the versions that the edge reads", "update the edge"),
    2: ("NotFound", "is of a codec that does not serve", "the codecs of GET /v1/codecs", "install its bundle there"),
    3: ("InvalidRequest", "is of an unknown level", "the codec's levels", "use the same bundle on both ends"),
    4: ("EncoderMismatch", "does not match the edge's decoder", "its encoder.bin", "use one bundle on both ends"),
    5: ("InvalidRequest", "has a wrong length", "the header's bytes and the level's payload", "use the same bundle on both ends"),
    6: ("DeadlineExceeded", "was not answered in time", "a less busy edge", "send at a lower rate"),
}


def refusal(reason, sequence):
    """The error for the reason in a reply to that frame."""
    other = ("WeaklinkError", "refused", "see the edge's log", "see the edge's log")
    kind, what, allowed, fix = _REFUSALS.get(reason, other)
    return getattr(errors, kind)("frame %d %s" % (sequence, what), allowed, fix)
