"""The protocol's gRPC door: ``inference.GRPCInferenceService`` on the server's gRPC port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import grpc
import numpy as np

from edge_server.grpc_messages import abort, checked, counted_stream, parser, serialize
from edge_server.oip.in_order import in_order
from edge_server.oip.model import InferRequest, Wish, check_once, to_version
from edge_server.oip.service import Answer, OpenInference
from edge_server.oip.tensors import datatype_of, from_raw, from_values, to_raw, to_values
from edge_server.oip.unserved import METHODS, check_tensor, refusal
from edge_server.stream_limit import StreamLimit
from semantic_codec.errors import InvalidRequest, WeaklinkError
from weaklink.oip import open_inference_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
TRANSPORT = "oip-grpc"
ASKS_FOR_END, IS_END = "triton_enable_empty_final_response", "triton_final_response"  # parameters on a stream
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class OpenInferenceGrpc:
    """Handlers over :class:`OpenInference` on a ``grpc.aio`` server.

    window: unanswered requests of a stream before it is read no further; streams: how many a caller may have.
    """

    def __init__(self, service: OpenInference, max_message_bytes: int, window: int, streams: StreamLimit):
        self._service, self._limit = service, max_message_bytes
        self._window, self._streams = window, streams

    def register(self, server: grpc.aio.Server) -> None:
        methods = {
            "ServerLive": (pb.ServerLiveRequest, self._server_live),
            "ServerReady": (pb.ServerReadyRequest, self._server_ready),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": (pb.ModelConfigRequest, self._model_config),
            "ModelInfer": (pb.ModelInferRequest, self._infer),
            "ModelStatistics": (pb.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self._unload),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(_answering(handle), parser(message, self._limit), serialize)
            for name, (message, handle) in methods.items()
        }
        handlers |= {name: grpc.unary_unary_rpc_method_handler(_refusing(METHODS[name])) for name in METHODS}
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream_infer, parser(pb.ModelInferRequest, self._limit), serialize
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _server_live(self, request, context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, request, context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._service.ready())

    async def _model_ready(self, request, context) -> pb.ModelReadyResponse:
        request = checked(request)
        return pb.ModelReadyResponse(ready=self._service.model_ready(request.name, request.version))

    async def _server_metadata(self, request, context) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(**self._service.server_metadata())

    async def _model_metadata(self, request, context) -> pb.ModelMetadataResponse:
        request = checked(request)
        return pb.ModelMetadataResponse(**self._service.model_metadata(request.name, request.version))

    async def _model_config(self, request, context) -> pb.ModelConfigResponse:
        request = checked(request)
        return pb.ModelConfigResponse(config=self._service.model_config(request.name, request.version))

    async def _statistics(self, request, context) -> pb.ModelStatisticsResponse:
        request = checked(request)
        return pb.ModelStatisticsResponse(model_stats=self._service.model_statistics(request.name, request.version))

    async def _infer(self, request, context) -> pb.ModelInferResponse:
        try:
            read: InferRequest | WeaklinkError = _read(checked(request))
        except WeaklinkError as error:
            read = error
        answer = await self._service.infer(TRANSPORT, read, context.time_remaining())
        return _response(request, answer)

    async def _stream_infer(self, requests, context) -> AsyncIterator[pb.ModelStreamInferResponse]:
        async with (
            counted_stream(self._streams, requests, context, partial(self._service.refuse, TRANSPORT)),
            contextlib.aclosing(in_order(requests, partial(self._streamed, context), self._window)) as answers,
        ):
            async for answer in answers:
                yield answer

    async def _streamed(self, context, request) -> pb.ModelStreamInferResponse:
        try:
            response = await self._infer(request, context)
        except WeaklinkError as error:
            name = "" if isinstance(request, WeaklinkError) else request.id
            return pb.ModelStreamInferResponse(error_message=str(error), infer_response=pb.ModelInferResponse(id=name))
        if request.parameters[ASKS_FOR_END].bool_param:
            response.parameters[IS_END].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=response)

    async def _index(self, request, context) -> pb.RepositoryIndexResponse:
        return pb.RepositoryIndexResponse(models=await self._service.index(checked(request).ready))

    async def _load(self, request, context) -> pb.RepositoryModelLoadResponse:
        request = checked(request)
        await self._service.load(request.model_name, _parameters(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, request, context) -> pb.RepositoryModelUnloadResponse:
        request = checked(request)
        await self._service.unload(request.model_name, _parameters(request.parameters))
        return pb.RepositoryModelUnloadResponse()


def _answering(handle: Callable[[Any, Any], Coroutine[Any, Any, Any]]):
    async def answer(request, context: grpc.aio.ServicerContext):
        try:
            return await handle(request, context)
        except WeaklinkError as error:
            await abort(context, error)

    return answer


def _refusing(extension: str):
    async def refuse(request: bytes, context: grpc.aio.ServicerContext) -> None:
        await abort(context, refusal(extension))

    return refuse


def _read(request: pb.ModelInferRequest) -> InferRequest:
    wishes = []
    for one in request.outputs:
        parameters = _parameters(one.parameters)
        check_tensor("output", one.name, parameters)
        wishes.append(Wish(one.name, _classes(parameters)))
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(
            f"there are {len(raw)} raw_input_contents for {len(request.inputs)} inputs",
            allowed="one for each, or none",
            fix="send all tensors raw, or none",
        )
    inputs: dict[str, np.ndarray] = {}
    check_once("input", [tensor.name for tensor in request.inputs])
    for place, tensor in enumerate(request.inputs):
        shape = list(tensor.shape)
        check_tensor("input", tensor.name, _parameters(tensor.parameters))
        if raw:
            inputs[tensor.name] = from_raw(tensor.name, tensor.datatype, shape, raw[place])
        else:
            values = getattr(tensor.contents, _CONTENTS.get(tensor.datatype, ""), ())
            inputs[tensor.name] = from_values(tensor.name, tensor.datatype, shape, list(values))
    return InferRequest(
        request.model_name,
        to_version(request.model_version),
        request.id,
        inputs,
        wishes,
        _parameters(request.parameters),
    )


def _response(request: pb.ModelInferRequest, answer: Answer) -> pb.ModelInferResponse:
    """Raw where the request was: whoever can write that can read it."""
    response = pb.ModelInferResponse(
        model_name=answer.served.name, model_version=str(answer.served.version), id=request.id
    )
    for wish, tensor in answer.outputs:
        datatype = datatype_of(tensor)
        output = response.outputs.add(name=wish.name, datatype=datatype, shape=tensor.shape)
        if request.raw_input_contents:
            response.raw_output_contents.append(to_raw(tensor))
        else:
            getattr(output.contents, _CONTENTS[datatype]).extend(to_values(tensor))
    return response


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the protocol's parameter messages; unset ones are left out."""
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in given.items()}
    return {name: getattr(given[name], choice) for name, choice in chosen.items() if choice}


def _classes(parameters: Mapping[str, Any]) -> int:
    return parameters.get("classification", 0)
