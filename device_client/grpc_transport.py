"""gRPC to the edge: for devices and radio gateways that already hold the (possibly damaged) payload."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import grpc

from device_client.credentials import Credentials
from device_client.grpc_errors import from_rpc, from_status
from device_client.messages import Answer, Delivery, Request
from device_client.transports import Transport, check_patience
from device_client.window import Line, exchange
from semantic_codec.errors import DeadlineExceeded, Unavailable, WeaklinkError
from weaklink.v1 import edge_pb2, edge_pb2_grpc

MESSAGE_PREFIX_BYTES = 5
SOURCES = {
    edge_pb2.BER_SOURCE_REQUEST: "request",
    edge_pb2.BER_SOURCE_ESTIMATED: "estimated",
    edge_pb2.BER_SOURCE_PRIOR: "prior",
}


class GrpcTransport(Transport):
    """One gRPC channel to an edge or to the link emulator's gRPC proxy.

    timeout_s: the deadline of one request, repeats included; on streams, per transmission. retries: repeats after
    UNAVAILABLE with doubling backoff; a refused request is never repeated. damage: bytes -> bytes, applied to every
    bitstream on its way out. credentials: token and TLS.
    """

    sequence_bits = 32

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 5.0,
        retries: int = 2,
        backoff_s: float = 0.1,
        damage: Callable[[bytes], bytes] | None = None,
        credentials: Credentials = Credentials(),
        clock: Callable[[], float] = time.monotonic,
    ):
        check_patience(timeout_s, retries)
        self.address, self.timeout_s, self.retries, self.backoff_s = address, timeout_s, retries, backoff_s
        self.feedback_address = address
        self._damage = damage or bytes
        self._clock = clock
        self.credentials = credentials
        self._channel = credentials.open_channel(address)
        self._stub = edge_pb2_grpc.EdgeInferenceStub(self._channel)

    def infer(self, request: Request) -> Delivery:
        started = self._clock()
        attempts = sent = 0
        while True:
            message = to_message(request, self._damage)
            attempts, sent = attempts + 1, sent + on_air_bytes(message)
            left = self.timeout_s - (self._clock() - started)
            try:
                response = self._stub.Infer(message, timeout=max(left, 0.001))
            except grpc.RpcError as problem:
                error = from_rpc(problem, self.address, self.timeout_s)
            else:
                answer = to_answer(response, self._clock() - started)
                return Delivery(request, answer, None, attempts, sent)
            pause = self.backoff_s * 2 ** (attempts - 1)
            out_of_time = self._clock() - started + pause >= self.timeout_s
            if not isinstance(error, Unavailable) or attempts > self.retries or out_of_time:
                return Delivery(request, None, error, attempts, sent)
            time.sleep(pause)

    def stream(
        self, requests: Iterable[Request], *, window: int = 32, rate: float | None = None
    ) -> Iterator[Delivery]:
        line = _StreamLine(self._stub, self.address, self._damage, self.timeout_s)
        try:
            yield from exchange(
                requests,
                line,
                window=window,
                timeout_s=self.timeout_s,
                retries=self.retries,
                rate=rate,
                backoff_s=self.backoff_s,
                clock=self._clock,
            )
        finally:
            line.close()

    def close(self) -> None:
        self._channel.close()


class _StreamLine(Line):
    """InferStream as a line: reopened at the next transmission after it broke."""

    repeats_after_silence = False

    def __init__(self, stub, address: str, damage: Callable[[bytes], bytes], timeout_s: float):
        self._stub, self._address, self._damage, self._timeout_s = stub, address, damage, timeout_s
        self._inbox: queue.SimpleQueue = queue.SimpleQueue()
        self._stream: _OpenStream | None = None
        self._unanswered: set[int] = set()

    def send(self, request: Request) -> int:
        if self._stream is None:
            self._stream = _OpenStream(self._stub, self._inbox)
        message = to_message(request, self._damage)
        self._unanswered.add(request.sequence)
        self._stream.outbox.put(message)
        return on_air_bytes(message)

    def receive(self, wait_s: float) -> list[tuple[int, Answer | WeaklinkError]]:
        heard: list[tuple[int, Answer | WeaklinkError]] = []
        try:
            arrived = self._inbox.get(timeout=wait_s) if wait_s > 0 else self._inbox.get_nowait()
            while True:
                heard += self._read(*arrived)
                arrived = self._inbox.get_nowait()
        except queue.Empty:
            return heard

    def _read(self, stream: _OpenStream, item) -> list[tuple[int, Answer | WeaklinkError]]:
        if isinstance(item, edge_pb2.InferResponse):
            sequence = item.sequence
            self._unanswered.discard(sequence)
            if item.HasField("error"):
                return [(sequence, from_status(item.error.status, item.error.message, self._address, self._timeout_s))]
            return [(sequence, to_answer(item))]
        if stream is not self._stream:
            return []
        self._stream.close()
        self._stream = None
        lost, self._unanswered = self._unanswered, set()
        error = from_rpc(item, self._address, self._timeout_s)
        return [(sequence, error) for sequence in sorted(lost)]

    def silence(self, request: Request, attempts: int) -> WeaklinkError:
        self._unanswered.discard(request.sequence)
        return DeadlineExceeded(
            f"no answer from {self._address} to request {request.sequence}",
            allowed=f"an answer within {self._timeout_s:g} s",
            fix="raise the timeout, or send fewer at once",
        )

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


class _OpenStream:
    """One InferStream call and the thread that reads it; responses and the final error go to `inbox`."""

    def __init__(self, stub, inbox: queue.SimpleQueue):
        self.outbox: queue.SimpleQueue = queue.SimpleQueue()
        self._call = stub.InferStream(iter(self.outbox.get, None))
        self._reader = threading.Thread(target=self._read, args=(inbox,), name="weaklink-answers", daemon=True)
        self._reader.start()

    def _read(self, inbox: queue.SimpleQueue) -> None:
        try:
            for response in self._call:
                inbox.put((self, response))
            inbox.put((self, None))
        except grpc.RpcError as error:
            inbox.put((self, error))

    def close(self) -> None:
        self.outbox.put(None)
        self._call.cancel()
        self._reader.join(timeout=5)


def to_message(request: Request, damage: Callable[[bytes], bytes]) -> edge_pb2.InferRequest:
    return edge_pb2.InferRequest(
        bitstream=damage(request.payload),
        ber_estimate=request.ber_estimate,
        erased=[edge_pb2.BitRange(first_bit=first, bit_count=count) for first, count in request.erased],
        codec=request.codec,
        version=request.version,
        level=request.level,
        device=str(request.device),
        sequence=request.sequence,
        encoder_hash=request.encoder_hash[:8],
    )


def to_answer(response: edge_pb2.InferResponse, latency_s: float = 0.0) -> Answer:
    best = response.results[0].top[0]
    return Answer(
        class_index=best.index,
        label=best.label,
        confidence=best.confidence,
        level=response.level,
        sequence=response.sequence,
        ber_used=response.ber_used,
        source=SOURCES.get(response.ber_source),
        advice=response.advice.level if response.advice.HasField("level") else None,
        latency_s=latency_s,
    )


def on_air_bytes(message: edge_pb2.InferRequest) -> int:
    """The gRPC message with its length prefix; HTTP/2, TCP and IP headers come on top and depend on the link."""
    return message.ByteSize() + MESSAGE_PREFIX_BYTES
