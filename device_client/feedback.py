"""Ground truth for earlier answers, which feeds the edge's accuracy metrics."""

from __future__ import annotations

import threading

import grpc

from device_client.credentials import Credentials
from device_client.grpc_errors import from_rpc
from semantic_codec.errors import WeaklinkError
from weaklink.v1 import edge_pb2, edge_pb2_grpc


class Feedback:
    """Sends ground truth to the edge's gRPC address, waiting for the outcome (:meth:`report`) or not (:meth:`post`)."""

    def __init__(
        self, address: str, *, timeout_s: float = 5.0, window: int = 32, credentials: Credentials = Credentials()
    ):
        self.address, self.timeout_s = address, timeout_s
        self._channel = credentials.open_channel(address)
        self._stub = edge_pb2_grpc.EdgeInferenceStub(self._channel)
        self._slots = threading.BoundedSemaphore(window)
        self._window = window
        self.posted = self.failed = 0
        self.last_error: WeaklinkError | None = None

    def report(self, device: int, sequence: int, true_class: int, *, codec: str = "", task: str = "") -> bool:
        """Whether the edge still knew the answer. Raises what :class:`GrpcTransport` raises."""
        try:
            response = self._stub.Feedback(self._message(device, sequence, true_class, codec, task), timeout=self.timeout_s)
        except grpc.RpcError as problem:
            raise from_rpc(problem, self.address, self.timeout_s) from problem
        return response.matched

    def post(self, device: int, sequence: int, true_class: int, *, codec: str = "", task: str = "") -> None:
        """Send without waiting; failures only count in :attr:`failed`, since a device goes on without them;
        :attr:`last_error` says why."""
        self._slots.acquire()
        self.posted += 1
        call = self._stub.Feedback.future(
            self._message(device, sequence, true_class, codec, task), timeout=self.timeout_s
        )
        call.add_done_callback(self._done)

    def close(self) -> None:
        """Wait for what is under way, then hang up."""
        for _ in range(self._window):
            self._slots.acquire()
        self._channel.close()

    def _done(self, call: grpc.Future) -> None:
        problem = call.exception()
        if problem is not None:
            self.failed += 1
            self.last_error = from_rpc(problem, self.address, self.timeout_s)
        self._slots.release()

    @staticmethod
    def _message(device: int, sequence: int, true_class: int, codec: str, task: str) -> edge_pb2.FeedbackRequest:
        return edge_pb2.FeedbackRequest(
            device=str(device), sequence=sequence, true_class=true_class, codec=codec, task=task
        )
