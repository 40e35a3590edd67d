"""Between the proto's messages and the edge's own types; gRPC and HTTP share these."""

from __future__ import annotations

import json
from typing import Any

from edge_server.jobs import Call, Group, Job
from edge_server.repository import Repository, ServedCodec
from semantic_codec.errors import WeaklinkError
from weaklink.v1 import edge_pb2


def to_call(request: edge_pb2.InferRequest, transport: str, deadline: float | None) -> Call:
    return Call(
        transport,
        request.bitstream,
        request.codec,
        request.version,
        request.level if request.HasField("level") else None,
        request.ber_estimate if request.HasField("ber_estimate") else None,
        tuple((part.first_bit, part.bit_count) for part in request.erased) if request.erased else (),
        request.device,
        request.sequence,
        tuple(request.tasks) if request.tasks else (),
        request.top_k,
        request.encoder_hash,
        request.request_id,
        deadline,
    )


def to_response(job: Job) -> edge_pb2.InferResponse:
    """The response of a finished job; a refused one carries ``error`` in place of results."""
    call = job.call
    if job.error is not None:
        return edge_pb2.InferResponse(
            request_id=call.request_id,
            codec=call.codec,
            device=call.device,
            sequence=call.sequence,
            error=to_error(job.error),
        )
    response = common_response(job, job.request.ber)
    response.request_id, response.device, response.sequence = call.request_id, call.device, call.sequence
    for task, top in job.answer.tasks.items():
        result = response.results.add(task=task)
        labels = job.served.classes[task]
        for index, confidence in top:
            result.top.add(index=index, label=labels[index], confidence=confidence)
    return response


def common_response(job: Job | Group, ber: float) -> edge_pb2.InferResponse:
    """What the responses to images that were computed together and decoded with one BER have in common."""
    request, answer, served = job.request, job.answer, job.served
    response = edge_pb2.InferResponse(
        ber_used=ber,
        ber_source=job.ber_source,
        times=edge_pb2.StageTimes(
            queue_ms=(job.started - job.received) * 1e3,
            decode_ms=answer.decode_s * 1e3,
            tail_ms=answer.tail_s * 1e3,
            total_ms=(job.finished - job.received) * 1e3,
        ),
        codec=request.codec,
        version=request.version,
        level=request.level,
    )
    advised = served.advice.level(ber)
    if advised is not None:
        response.advice.level = advised
    return response


def to_json_response(job: Job) -> dict[str, Any]:
    """The JSON form of :func:`to_response`, of a job that was answered."""
    call, request, answer, served = job.call, job.request, job.answer, job.served
    advised = served.advice.level(request.ber)
    return {
        "request_id": call.request_id,
        "results": [
            {
                "task": task,
                "top": [
                    {"index": index, "label": served.classes[task][index], "confidence": confidence}
                    for index, confidence in top
                ],
            }
            for task, top in answer.tasks.items()
        ],
        "ber_used": request.ber,
        "ber_source": edge_pb2.BerSource.Name(job.ber_source),
        "times": {
            "queue_ms": (job.started - job.received) * 1e3,
            "decode_ms": answer.decode_s * 1e3,
            "tail_ms": answer.tail_s * 1e3,
            "total_ms": (job.finished - job.received) * 1e3,
        },
        **({} if advised is None else {"advice": {"level": advised}}),
        "codec": request.codec,
        "version": request.version,
        "level": request.level,
        "device": call.device,
        "sequence": call.sequence,
    }


def to_error(error: WeaklinkError) -> edge_pb2.Error:
    return edge_pb2.Error(status=error.grpc_status, message=str(error))


def to_codec(served: ServedCodec) -> edge_pb2.Codec:
    manifest = served.manifest
    return edge_pb2.Codec(
        name=manifest.name,
        version=manifest.version,
        family=manifest.family,
        codec_id=manifest.codec_id,
        encoder_hash=served.short_hash,
        levels=[
            edge_pb2.Level(number=level.number, symbols=level.symbols, payload_bytes=level.payload_bytes)
            for level in manifest.levels
        ],
        tasks=[edge_pb2.Task(name=task.name, classes=task.classes) for task in manifest.tasks],
        input_height=manifest.height,
        input_width=manifest.width,
        ber_min=manifest.ber_min,
        ber_max=manifest.ber_max,
        manifest_json=json.dumps(manifest.raw),
    )


def to_codec_list(repository: Repository) -> edge_pb2.ListCodecsResponse:
    return edge_pb2.ListCodecsResponse(
        codecs=[to_codec(served) for served in repository.codecs],
        refused=[edge_pb2.RefusedBundle(path=one.path, reason=one.reason) for one in repository.refused],
    )
