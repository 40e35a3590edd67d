"""The gRPC methods beside inference: feedback, and the list of codecs."""

from __future__ import annotations

import grpc

from edge_server.feedback import FeedbackJudge
from edge_server.grpc_messages import abort, checked, parser, serialize
from edge_server.messages import to_codec, to_codec_list
from edge_server.repository import Repository
from semantic_codec.errors import WeaklinkError
from weaklink.v1 import edge_pb2

SERVICE = edge_pb2.DESCRIPTOR.services_by_name["EdgeInference"].full_name


class EdgeService:
    """Handlers of ``weaklink.v1.EdgeInference`` on a ``grpc.aio`` server; inference is
    :class:`~edge_server.infer_calls.InferCalls`'."""

    def __init__(self, judge: FeedbackJudge, repository: Repository, max_message_bytes: int):
        self._judge, self._repository, self._limit = judge, repository, max_message_bytes

    def register(self, server: grpc.aio.Server) -> None:
        """Own (de)serializers, so that a message too large or not of its type is refused by name."""
        unary, limit = grpc.unary_unary_rpc_method_handler, self._limit
        handlers = {
            "Feedback": unary(self.feedback, parser(edge_pb2.FeedbackRequest, limit), serialize),
            "ListCodecs": unary(self.list_codecs, parser(edge_pb2.ListCodecsRequest, limit), serialize),
            "GetCodec": unary(self.get_codec, parser(edge_pb2.GetCodecRequest, limit), serialize),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def feedback(self, request: edge_pb2.FeedbackRequest | WeaklinkError, context: grpc.aio.ServicerContext):
        if isinstance(request, WeaklinkError):
            self._judge.refuse()
            await abort(context, request)
        try:
            verdict = self._judge.judge(
                request.device, request.sequence, request.codec, request.task, request.true_class
            )
        except WeaklinkError as error:
            await abort(context, error)
        return edge_pb2.FeedbackResponse(matched=verdict.matched, correct=verdict.correct)

    async def list_codecs(self, request: edge_pb2.ListCodecsRequest | WeaklinkError, context):
        try:
            checked(request)
        except WeaklinkError as error:
            await abort(context, error)
        return to_codec_list(self._repository)

    async def get_codec(self, request: edge_pb2.GetCodecRequest | WeaklinkError, context: grpc.aio.ServicerContext):
        try:
            request = checked(request)
            return to_codec(self._repository.get(request.codec, request.version))
        except WeaklinkError as error:
            await abort(context, error)
