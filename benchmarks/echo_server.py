"""``python -m benchmarks.echo_server``: answers what ``weaklink serve`` is asked with what it was asked, and computes nothing: what
the protocols themselves take of the cores. gRPC is grpcio's own server; datagrams are received and sent many at a time.

Prints its ports as JSON when it listens, and runs until it is ended.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from edge_server.datagrams import Datagrams
from edge_server.sockets import bind
from semantic_codec.reply import REPLY_BYTES

LONGEST = 2048
THREADS = 4  # of grpcio: more calls at a time are queued, and a stream takes one for as long as it is open


def main() -> int:
    server = grpc.server(ThreadPoolExecutor(THREADS))
    handlers = {
        "Infer": grpc.unary_unary_rpc_method_handler(lambda message, context: message),
        "InferStream": grpc.stream_stream_rpc_method_handler(lambda messages, context: messages),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("weaklink.v1.EdgeInference", handlers)])
    ports = {"grpc": server.add_insecure_port("127.0.0.1:0")}
    server.start()
    sock = bind("udp", "127.0.0.1", 0, socket.SOCK_DGRAM)
    print(json.dumps(ports | {"udp": sock.getsockname()[1]}), flush=True)
    datagrams = Datagrams(sock)
    while select.select([sock], [], []):
        datagrams.send([(data[:REPLY_BYTES], address) for data, address in datagrams.receive(LONGEST)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
