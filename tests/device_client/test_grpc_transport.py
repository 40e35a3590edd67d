"""The patience of the gRPC transport, at an edge that says UNAVAILABLE to every call."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from device_client.grpc_transport import GrpcTransport
from device_client.messages import Delivery, Request
from semantic_codec.errors import Unavailable
from weaklink.v1 import edge_pb2_grpc


class Away(edge_pb2_grpc.EdgeInferenceServicer):
    """``left``: the seconds that each call still had."""

    def __init__(self):
        self.left: list[float] = []

    def Infer(self, request, context):
        self.left.append(context.time_remaining())
        context.abort(grpc.StatusCode.UNAVAILABLE, "draining")


@pytest.fixture
def away():
    servicer, server = Away(), grpc.server(ThreadPoolExecutor(1))
    edge_pb2_grpc.add_EdgeInferenceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


def ask(address: str, **settings) -> Delivery:
    transport = GrpcTransport(address, **settings)
    try:
        return transport.infer(Request("tiny", 9, 1, 2, bytes(8), bytes(32), 1, 0))
    finally:
        transport.close()


def test_a_call_is_repeated_as_often_as_asked_within_one_deadline(away):
    edge, address = away
    delivery = ask(address, retries=2, timeout_s=5.0, backoff_s=0.2)  # a longer deadline gRPC tells in whole seconds
    assert isinstance(delivery.error, Unavailable) and delivery.attempts == len(edge.left) == 3
    assert edge.left[1] < edge.left[0] - 0.15 and edge.left[2] < edge.left[1] - 0.35


def test_no_pause_leads_past_the_deadline(away):
    _, address = away
    started = time.monotonic()
    delivery = ask(address, retries=10, timeout_s=2.0, backoff_s=0.8)
    assert delivery.attempts <= 2 and time.monotonic() - started < 2  # the second pause would be 1.6 s
