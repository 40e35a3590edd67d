"""A codec as a model of the Open Inference Protocol: its description, and the calls and answers behind its tensors.

    inputs:  bitstream, and optionally ber_estimate, level, erased, device, sequence
    outputs: probabilities and class of the first task, <task>_probabilities and <task>_class of the others, ber_used,
             advised_level
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_server.inference import MAX_NAME
from edge_server.jobs import Call, Job
from edge_server.oip.tensors import LIMIT
from edge_server.repository import ServedCodec
from semantic_codec.errors import InvalidRequest, NotFound

PLATFORM = "weaklink"
TIMEOUT = "timeout"  # parameter, microseconds
ENCODER_HASH = "encoder_hash"  # parameter, hexadecimal
BITSTREAM, ERASED, BER_USED, ADVISED = "bitstream", "erased", "ber_used", "advised_level"
SCALARS = {"ber_estimate": "FP32", "level": "INT64", "device": "BYTES", "sequence": "INT64"}
"""Inputs of one element for each image, or one for all; as request parameters, too."""


@dataclass(frozen=True)
class Tensor:
    """Described without its first dimension, that of the images; -1: any size."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class Wish:
    """An output asked for. ``classes`` above 0: as that many "value:index:label" texts, best first."""

    name: str
    classes: int = 0
    binary: bool = False


@dataclass
class InferRequest:
    """What a transport read. ``version`` 0: the default; no ``wishes``: every output, ``binary`` or not."""

    model: str
    version: int = 0
    id: str = ""
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    wishes: Sequence[Wish] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    binary: bool = False


def to_version(text: str) -> int:
    """An empty version is the default one: 0. NotFound: no number."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(f"version {text[:40]!r}", allowed="whole numbers", fix="see the model's metadata for its versions")
    return int(text)


def inputs_of(served: ServedCodec) -> list[Tensor]:
    lengths = [level.payload_bytes for level in served.levels]
    sizes = (lengths[0],) if len(lengths) == 1 else (-1,)
    bits = (lengths[0] * 8,) if len(lengths) == 1 else (-1,)
    scalars = [Tensor(name, datatype, (1,), optional=True) for name, datatype in SCALARS.items()]
    return [Tensor(BITSTREAM, "UINT8", sizes), *scalars, Tensor(ERASED, "BOOL", bits, optional=True)]


def outputs_of(served: ServedCodec) -> list[Tensor]:
    tensors = []
    for task, classes in served.classes.items():
        tensors.append(Tensor(_name(served, task, "probabilities"), "FP32", (len(classes),)))
        tensors.append(Tensor(_name(served, task, "class"), "INT64", (1,)))
    return [*tensors, Tensor(BER_USED, "FP32", (1,)), Tensor(ADVISED, "INT64", (1,))]


def metadata(served: ServedCodec, versions: Sequence[int]) -> dict[str, Any]:
    """Fields of ModelMetadataResponse."""

    def described(tensors: list[Tensor]) -> list[dict[str, Any]]:
        return [{"name": one.name, "datatype": one.datatype, "shape": [-1, *one.dims]} for one in tensors]

    return {
        "name": served.name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORM,
        "inputs": described(inputs_of(served)),
        "outputs": described(outputs_of(served)),
    }


def config(served: ServedCodec, max_batch: int) -> dict[str, Any]:
    """Fields of ModelConfig."""

    def described(tensors: list[Tensor]) -> list[dict[str, Any]]:
        kinds = {"BYTES": "STRING"}
        return [
            {"name": one.name, "data_type": f"TYPE_{kinds.get(one.datatype, one.datatype)}", "dims": list(one.dims)}
            | ({"optional": True} if one.optional else {})
            for one in tensors
        ]

    return {
        "name": served.name,
        "platform": PLATFORM,
        "max_batch_size": max_batch,
        "input": described(inputs_of(served)),
        "output": described(outputs_of(served)),
        "backend": PLATFORM,
    }


def to_calls(request: InferRequest, served: ServedCodec, transport: str, deadline: float | None, most: int) -> list[Call]:
    """A call for each image. InvalidRequest: inputs or outputs that the model does not have, shapes that do not fit
    each other, more than ``most`` images."""
    for name in request.inputs:
        if name not in (BITSTREAM, ERASED, *SCALARS):
            raise _unknown("input", name, [tensor.name for tensor in inputs_of(served)])
    bitstreams = _bitstreams(request.inputs.get(BITSTREAM), most)
    count = len(bitstreams)
    columns = {name: _column(request, name, datatype, count) for name, datatype in SCALARS.items()}
    erased = _erased(request.inputs.get(ERASED), count)
    tasks, top_k = _wanted(request, served)
    encoder_hash = _encoder_hash(request.parameters.get(ENCODER_HASH, ""))
    return [
        Call(
            transport,
            bitstream,
            served.name,
            served.version,
            columns["level"][place],
            columns["ber_estimate"][place],
            erased[place],
            columns["device"][place] or "",
            columns["sequence"][place] or 0,
            tasks,
            top_k,
            encoder_hash,
            request.id[:MAX_NAME],
            deadline,
        )
        for place, bitstream in enumerate(bitstreams)
    ]


def to_outputs(request: InferRequest, served: ServedCodec, jobs: Sequence[Job]) -> list[tuple[Wish, np.ndarray]]:
    """The outputs asked for, of jobs that were answered, in the order asked."""
    wishes = request.wishes or [Wish(tensor.name, binary=request.binary) for tensor in outputs_of(served)]
    return [(wish, _output(wish, served, jobs)) for wish in wishes]


def _name(served: ServedCodec, task: str, what: str) -> str:
    return what if task == served.task_names[0] else f"{task}_{what}"


def _output(wish: Wish, served: ServedCodec, jobs: Sequence[Job]) -> np.ndarray:
    if wish.name == BER_USED:
        return np.array([[job.request.ber] for job in jobs], np.float32)
    if wish.name == ADVISED:
        levels = [served.advice.level(job.request.ber) for job in jobs]
        return np.array([[-1 if level is None else level] for level in levels], np.int64)
    task, what = _tasks_by_output(served)[wish.name]
    answers = [job.answer.tasks[task] for job in jobs]
    labels = served.classes[task]
    if what == "class":
        return np.array([[top[0][0]] for top in answers], np.int64)
    if wish.classes:
        texts = [[f"{value:f}:{index}:{labels[index]}" for index, value in top[: wish.classes]] for top in answers]
        return np.array([[text.encode() for text in row] for row in texts], object)
    probabilities = np.zeros((len(jobs), len(labels)), np.float32)
    for row, top in enumerate(answers):
        indices, values = zip(*top)
        probabilities[row, indices] = values
    return probabilities


def _tasks_by_output(served: ServedCodec) -> dict[str, tuple[str, str]]:
    return {
        _name(served, task, what): (task, what) for task in served.task_names for what in ("probabilities", "class")
    }


def _wanted(request: InferRequest, served: ServedCodec) -> tuple[tuple[str, ...], int]:
    """The tasks to run, () for all, and how many of their best classes the outputs need."""
    by_output = _tasks_by_output(served)
    names = [tensor.name for tensor in outputs_of(served)]
    tasks, top_k = [], 1
    check_once("output", [wish.name for wish in request.wishes])
    for wish in request.wishes or [Wish(name) for name in names]:
        if wish.name not in names:
            raise _unknown("output", wish.name, names)
        task, what = by_output.get(wish.name, (None, ""))
        if wish.classes and what != "probabilities":
            raise InvalidRequest(
                f"classification of {wish.name!r}", allowed="of probabilities", fix="leave it out for other outputs"
            )
        if task is not None and task not in tasks:
            tasks.append(task)
        if what == "probabilities":
            most = len(served.classes[task])
            if not isinstance(wish.classes, int) or not 0 <= wish.classes <= most:
                raise InvalidRequest(
                    f"classification is {str(wish.classes)[:40]!r}", allowed=f"1 to {most}, the number of classes", fix="ask for fewer"
                )
            top_k = max(top_k, wish.classes or most)
    return tuple(tasks), top_k


def _bitstreams(tensor: np.ndarray | None, most: int) -> list[bytes]:
    if tensor is None:
        raise InvalidRequest(
            "there is no input 'bitstream'", allowed="bitstream, and optional inputs", fix="send it as UINT8 or BYTES"
        )
    texts = tensor.dtype == object and (tensor.ndim == 1 or tensor.shape[1:] == (1,))
    if not texts and (tensor.dtype != np.uint8 or tensor.ndim != 2):
        raise InvalidRequest(
            f"input 'bitstream' is {tensor.dtype} of shape {list(tensor.shape)}",
            allowed="UINT8 [images, bytes], or BYTES [images] or [images, 1]",
            fix="give each image a row of bytes",
        )
    if len(tensor) > most:
        raise InvalidRequest(
            f"the request has {len(tensor)} images", allowed=f"up to {most}", fix="send several requests, or raise --max-batch"
        )
    return [row if isinstance(row, bytes) else row.tobytes() for row in (tensor.reshape(-1) if texts else tensor)]


def _column(request: InferRequest, name: str, datatype: str, count: int) -> list[Any]:
    """The elements of a scalar input, one for each image; None for each where it was not given."""
    tensor = request.inputs.get(name)
    if tensor is None:
        value = request.parameters.get(name)
        return [None if value is None else _scalar(name, datatype, value)] * count
    if tensor.size not in (1, count) or tensor.shape not in ((tensor.size,), (tensor.size, 1)):
        raise InvalidRequest(
            f"input {name!r} has the shape {list(tensor.shape)}",
            allowed=f"[{count}], [{count}, 1] or [1]",
            fix="give one element for each image, or one for all",
        )
    values = [_scalar(name, datatype, value) for value in tensor.ravel().tolist()]
    return values if len(values) == count else values * count


def _scalar(name: str, datatype: str, value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if datatype == "FP32" and (isinstance(value, float) or (whole and abs(value) < LIMIT)):
        return float(value)
    if datatype == "INT64" and whole and 0 <= value < 1 << 32:
        return value
    if datatype == "BYTES" and isinstance(value, str):
        return value
    if datatype == "BYTES" and isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    allowed = {"FP32": "a number", "INT64": f"a whole number from 0 to {(1 << 32) - 1}", "BYTES": "UTF-8 text"}[datatype]
    raise InvalidRequest(f"{name} is {str(value)[:40]!r}", allowed=allowed, fix=f"send it as {datatype}")


def _erased(mask: np.ndarray | None, count: int) -> list[tuple[tuple[int, int], ...]]:
    """The mask's runs of erased bits in each row, as pairs of first bit and bit count."""
    if mask is None:
        return [()] * count
    if mask.ndim != 2 or len(mask) != count or mask.dtype not in (np.bool_, np.uint8):
        raise InvalidRequest(
            f"input 'erased' is {mask.dtype} of shape {list(mask.shape)}",
            allowed=f"BOOL [{count}, bits], true where a bit was lost",
            fix="give each image a row with an element for each bit of its bitstream",
        )
    edges = np.diff(np.pad((mask != 0).astype(np.int8), ((0, 0), (1, 1))), axis=1)
    runs = []
    for row in edges:
        first, last = np.flatnonzero(row > 0).tolist(), np.flatnonzero(row < 0).tolist()
        runs.append(tuple((start, end - start) for start, end in zip(first, last, strict=True)))
    return runs


def _encoder_hash(text: Any) -> bytes:
    try:
        return bytes.fromhex(text)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"encoder_hash is {str(text)[:40]!r}", allowed="hexadecimal digits", fix="send the first 8 bytes in hex"
        ) from error


def check_once(kind: str, names: Iterable[str]) -> None:
    """InvalidRequest: a name is given twice. A short request could ask for the same output thousands of times."""
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidRequest(f"{kind} {name[:40]!r} is given {count} times", allowed="once", fix="give each name once")


def _unknown(kind: str, name: str, known: list[str]) -> InvalidRequest:
    return InvalidRequest(f"{kind} {name[:40]!r}", allowed=", ".join(known), fix="see the model's metadata")
