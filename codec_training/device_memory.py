"""The memory that the C library needs for an encoder: the plan of ``device_client/stm32/src/wl_plan.c``, for constants.

A layer's output goes to the lowest address that no map in use covers; a depthwise layer may write over its input, and
an addition over what it adds.
"""

from __future__ import annotations

from dataclasses import dataclass

from semantic_codec.encoder_format import ADD_KEPT, DEPTHWISE, KEEP_INPUT, EncoderProgram, LayerShape


@dataclass(frozen=True)
class Place:
    """Where a map lies behind the scratch memory: bytes [offset, end). The image is not there: None stands for it."""

    offset: int
    end: int


def scratch_bytes(shape: LayerShape, width: int) -> int:
    """Columns of a full convolution, widened rows of a depthwise one, for an input of ``width``."""
    if shape.kind == DEPTHWISE:
        return 8 * shape.kernel * (shape.kernel + width + 2 * (shape.kernel // 2))
    taps = -(-shape.kernel**2 * shape.inputs // 8) * 8
    return 8 * taps + (taps if shape.inputs % 4 else 0)


def workspace_bytes(program: EncoderProgram) -> int:
    """What ``wl_encoder_run`` needs."""
    shapes = [layer.shape for layer in program.layers]
    height, width = program.height, program.width
    scratch = maps = 0
    source: Place | None = None
    kept: Place | None = None
    for index, shape in enumerate(shapes):
        scratch = max(scratch, scratch_bytes(shape, width))
        height, width = shape.output_size(height), shape.output_size(width)
        if shape.flags & KEEP_INPUT:
            kept = source
        if index < len(shapes) - 1:
            size = -(-height * width * shape.outputs // 4) * 4
            source = _place(shape, size, source, kept, _is_added(shapes[index + 1 :]))
            maps = max(maps, source.end)
    return scratch + maps


def _place(shape: LayerShape, size: int, source: Place | None, kept: Place | None, added_later: bool) -> Place:
    adds = bool(shape.flags & ADD_KEPT)
    same = kept is not None and source is not None and kept.offset == source.offset
    if adds and not added_later and kept and not same:
        return Place(kept.offset, kept.offset + size)
    if shape.kind == DEPTHWISE and source and not ((adds or added_later) and same):
        return Place(source.offset, source.offset + size)
    used = [place for place in (source, kept if adds or added_later else None) if place]
    starts = sorted([0, *(place.end for place in used)])
    free = (start for start in starts if all(start >= place.end or start + size <= place.offset for place in used))
    offset = next(free)
    return Place(offset, offset + size)


def _is_added(later: list[LayerShape]) -> bool:
    """Is what is kept now added by one of these layers?"""
    for shape in later:
        if shape.flags & KEEP_INPUT:
            return False
        if shape.flags & ADD_KEPT:
            return True
    return False
