"""Tensors of the Open Inference Protocol as arrays, from and to their binary form and lists of values.

BYTES elements are ``bytes`` in an object array; every other datatype has one of NumPy's.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from semantic_codec.errors import InvalidRequest

DTYPES = {
    "BOOL": np.dtype(bool),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
LIMIT = 1 << 63  # of whole numbers, as in gRPC: no float holds some of JSON's, and Python writes not all products of them
_LENGTH = struct.Struct("<I")


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> np.ndarray:
    """The array of a tensor's binary form: little-endian, row-major; BYTES elements each behind their length."""
    dtype, count = _dtype(name, datatype), _count(name, shape)
    if datatype == "BYTES":
        return _objects(name, _split(name, raw), shape, count)
    if len(raw) != count * dtype.itemsize:
        raise InvalidRequest(
            f"input {name!r} has {len(raw)} bytes",
            allowed=f"{count * dtype.itemsize} for {datatype} {list(shape)}",
            fix="send as many elements as the shape says",
        )
    stored = np.frombuffer(raw, np.uint8 if datatype == "BOOL" else dtype)
    return stored.astype(dtype, copy=False).reshape(shape)


def from_values(name: str, datatype: str, shape: Sequence[int], values: Any) -> np.ndarray:
    """The array of elements in row-major order, nested as the shape is or flat; BYTES as bytes or UTF-8 text."""
    dtype, count = _dtype(name, datatype), _count(name, shape)
    flat = list(_flatten(values))
    if datatype == "BYTES":
        texts = (value.encode() if isinstance(value, str) else value for value in flat)
        return _objects(name, list(texts), shape, count)
    allowed = {"b": bool, "f": (int, float)}.get(dtype.kind, int)
    for value in flat:
        if not isinstance(value, allowed) or (isinstance(value, bool) and dtype.kind != "b"):
            raise _bad_value(name, datatype, value)
    if len(flat) != count:
        raise _wrong_count(name, len(flat), shape)
    try:
        with np.errstate(over="ignore"):  # infinity then; a value that must not be is refused where it is used
            return np.array(flat, dtype).reshape(shape)
    except OverflowError as error:
        if dtype.kind == "f":
            raise _bad_value(name, datatype, str(error)) from error
        known = np.iinfo(dtype)
        beyond = next(value for value in flat if not known.min <= value <= known.max)
        raise _bad_value(name, f"{datatype}, {known.min} to {known.max}", beyond) from error


def to_raw(tensor: np.ndarray) -> bytes:
    """Mirrors :func:`from_raw`."""
    if tensor.dtype == object:
        return b"".join(_LENGTH.pack(len(value)) + value for value in tensor.flat)
    return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()


def to_values(tensor: np.ndarray) -> list:
    """Mirrors :func:`from_values`: flat, BYTES as ``bytes``."""
    return list(tensor.flat) if tensor.dtype == object else tensor.ravel().tolist()


def datatype_of(tensor: np.ndarray) -> str:
    return next(name for name, dtype in DTYPES.items() if dtype == tensor.dtype)


def _dtype(name: str, datatype: str) -> np.dtype:
    if datatype not in DTYPES:
        raise InvalidRequest(
            f"input {name!r} has the datatype {datatype!r}", allowed=", ".join(DTYPES), fix="convert it to one of these"
        )
    return DTYPES[datatype]


def _count(name: str, shape: Sequence[int]) -> int:
    if len(shape) > 8 or not all(type(size) is int and 0 < size < LIMIT for size in shape):
        raise InvalidRequest(
            f"input {name!r} has the shape {str(list(shape))[:80]}",
            allowed="up to 8 whole numbers, 1 to 2**63 - 1",
            fix="send the tensor's own shape",
        )
    return math.prod(shape)


def _split(name: str, raw: bytes) -> list[bytes]:
    values, place = [], 0
    while place < len(raw):
        end = place + _LENGTH.size
        if end <= len(raw):
            (length,) = _LENGTH.unpack_from(raw, place)
            place, end = end, end + length
        if end > len(raw):
            raise InvalidRequest(
                f"input {name!r} ends within an element",
                allowed="elements each behind their length, 4 bytes, little-endian",
                fix="send all of it",
            )
        values.append(raw[place:end])
        place = end
    return values


def _objects(name: str, values: list, shape: Sequence[int], count: int) -> np.ndarray:
    if len(values) != count:
        raise _wrong_count(name, len(values), shape)
    tensor = np.empty(count, object)
    for place, value in enumerate(values):
        if not isinstance(value, bytes):
            raise _bad_value(name, "BYTES", value)
        tensor[place] = value
    return tensor.reshape(shape)


def _flatten(values: Any) -> Iterable[Any]:
    """Iteratively: what is nested too deep must not end the interpreter's stack."""
    waiting = [iter(values if isinstance(values, Iterable) and not isinstance(values, str | bytes | dict) else [values])]
    while waiting:
        for value in waiting[-1]:
            if isinstance(value, list):
                waiting.append(iter(value))
                break
            yield value
        else:
            waiting.pop()


def _wrong_count(name: str, count: int, shape: Sequence[int]) -> InvalidRequest:
    return InvalidRequest(
        f"input {name!r} has {count} elements",
        allowed=f"{math.prod(shape)}, as its shape {list(shape)} says",
        fix="correct the shape or the data",
    )


def _bad_value(name: str, datatype: str, value: Any) -> InvalidRequest:
    return InvalidRequest(
        f"input {name!r} has the element {str(value)[:40]!r}", allowed=f"elements of {datatype}", fix="convert them"
    )
