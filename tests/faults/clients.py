"""What the faults' devices have in common: requests, frames, and one line for how each of them ended."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import grpc

from edge_server.oip.model import SCALARS
from semantic_codec.bundle import Bundle
from semantic_codec.frame import encode_frame
from semantic_codec.header import Header
from semantic_codec.keyed import DeviceKey, KeyedHeader
from semantic_codec.keyed_frame import encode_keyed_frame
from tests.faults.edge import PATIENCE_S, Edge
from weaklink.oip import open_inference_pb2
from weaklink.v1 import edge_pb2, edge_pb2_grpc

PAYLOAD = bytes(range(8))
CODEC_ID, LEVEL = 5, 2
"""Of the bundle ``toy``: its number in frames, and the level that is as long as :data:`PAYLOAD`."""


def infer_request(**fields: object) -> edge_pb2.InferRequest:
    return edge_pb2.InferRequest(**({"bitstream": PAYLOAD, "codec": "toy"} | fields))


def tensor_request(payload: bytes, **inputs: float | str) -> open_inference_pb2.ModelInferRequest:
    """One image over the Open Inference Protocol; ``inputs`` of :data:`edge_server.oip.model.SCALARS`."""
    request = open_inference_pb2.ModelInferRequest(model_name="toy")
    bitstream = request.inputs.add(name="bitstream", datatype="UINT8", shape=[1, len(payload)])
    bitstream.contents.uint_contents.extend(payload)
    for name, value in inputs.items():
        tensor = request.inputs.add(name=name, datatype=SCALARS[name], shape=[1])
        getattr(tensor.contents, f"{SCALARS[name].lower()}_contents").append(value.encode() if isinstance(value, str) else value)
    return request


def tensor_json(payload: bytes, **inputs: float | str) -> bytes:
    """The same as a body of HTTP."""
    tensors = [{"name": "bitstream", "datatype": "UINT8", "shape": [1, len(payload)], "data": list(payload)}]
    tensors += [{"name": name, "datatype": SCALARS[name], "shape": [1], "data": [value]} for name, value in inputs.items()]
    return json.dumps({"inputs": tensors}).encode()


def open_frame(bundle: Bundle, sequence: int, device: int = 7) -> bytes:
    return encode_frame(Header(CODEC_ID, LEVEL, device, sequence % 4096), PAYLOAD, bundle.encoder_hash)


def keyed_frame(bundle: Bundle, sequence: int, key: DeviceKey, device: int = 7) -> bytes:
    return encode_keyed_frame(KeyedHeader(CODEC_ID, LEVEL, device, sequence), PAYLOAD, key, bundle.encoder_hash)


@contextmanager
def udp_socket(edge: Edge) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as device:
        device.settimeout(PATIENCE_S)
        device.connect(edge.address("udp"))
        yield device


@contextmanager
def blocking_stub(edge: Edge) -> Iterator[edge_pb2_grpc.EdgeInferenceStub]:
    with grpc.insecure_channel(edge.at["grpc"]) as channel:
        yield edge_pb2_grpc.EdgeInferenceStub(channel)
