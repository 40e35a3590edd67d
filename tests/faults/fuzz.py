"""Random and mutated input for everything that reads what strangers send; ``make fuzz-edge`` runs millions.

    python -m tests.faults.fuzz --count 1000000        # of each target; --json FILE keeps the counts
    python -m tests.faults.fuzz requests --seed 7      # one target
    python -m tests.faults.fuzz --json FILE --resume --seconds 120   # in parts
    python -m tests.faults.fuzz --write-corpus         # valid examples, for the mutations to start from

What is found is written to ``build/fuzz-edge``; move it to ``tests/faults/corpus/TARGET``, which an ordinary test runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from edge_server.devices import DeviceTable
from edge_server.engine import Engine
from edge_server.gateway import Readers, wire_codecs
from edge_server.grouping import Grouping
from edge_server.grpc_messages import checked, parser
from edge_server.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    window_update,
)
from edge_server.http2.grpc_call import CallHead
from edge_server.http2.headers import write_headers
from edge_server.http2.stream import Stream
from edge_server.http_infer import from_json
from edge_server.infer_calls import InferCalls
from edge_server.inference import Inference, outcome
from edge_server.jobs import Call, Group, Job
from edge_server.messages import to_call, to_response
from edge_server.metrics import Metrics
from edge_server.oip import grpc_api
from edge_server.oip import http_api as oip_http_api
from edge_server.oip.model import InferRequest, to_calls
from edge_server.repository import Repository, load_repository
from edge_server.scheduler import Limits
from edge_server.stream_limit import StreamLimit
from edge_server.turns import Turns
from semantic_codec.bundle import load_bundle, parse_manifest
from semantic_codec.errors import BundleError, WeaklinkError
from semantic_codec.keyed import DeviceKey
from semantic_codec.keyed_reply import KEYED_REPLY_BYTES, read_keyed_reply
from semantic_codec.reply import REPLY_BYTES, ReplyStatus, read_reply
from semantic_codec.report import print_table, write_json
from semantic_codec.serial_framing import SYNC_ERRORS, SerialReceiver, add_sync
from tests.edge_server.conftest import make_bundle
from tests.edge_server.http2.memory import Peer
from tests.faults.clients import infer_request, keyed_frame, open_frame, tensor_json, tensor_request
from weaklink.oip import open_inference_pb2
from weaklink.v1 import edge_pb2

CORPUS = Path(__file__).parent / "corpus"
FINDINGS = Path("build/fuzz-edge")
KEY = DeviceKey(bytes(range(32)))
BATCH = 256
PART = 10_000  # inputs of one random generator
LONGEST = 4096  # bytes of a mutated input
ERASED_MOST = 64  # bits of the bundle's longest level
log = logging.getLogger(__name__)

Target = Callable[[Sequence[bytes]], Counter]
"""Takes inputs, returns how many ended in which outcome; raises where one had none, or an impossible one."""


class Targets:
    """Everything that reads strangers' bytes, over one small bundle that is made in ``folder``."""

    def __init__(self, folder: Path):
        make_bundle(folder, version=2)
        self.bundle = load_bundle(folder / "toy" / "2")
        self._engine = Engine(threads=1)
        self._repository = load_repository((folder,), self._engine.add)
        codecs = wire_codecs(self._repository)
        keys = {7: KEY}
        self._open, self._keyed = Readers(codecs), Readers(codecs, keys, open_frames=False)
        both = Readers(codecs, keys, open_frames=True, cut_frames=False)
        self._line = SerialReceiver(both.sizes, both.find, SYNC_ERRORS)
        self._requests = _Requests(self._repository, self._engine)
        self.by_name: dict[str, Target] = {
            "open_frames": lambda inputs: self._frames(self._open, inputs),
            "keyed_frames": lambda inputs: self._frames(self._keyed, inputs),
            "serial": self._serial,
            "requests": lambda inputs: self._requests.run(inputs, self._read_message),
            "json": lambda inputs: self._requests.run(inputs, _read_json),
            "tensors": lambda inputs: self._requests.run(inputs, self._read_tensors),
            "tensors_json": lambda inputs: self._requests.run(inputs, self._read_tensors_json),
            "replies": self._replies,
            "manifests": self._manifests,
            "http2": self._requests.converse,
        }

    def examples(self) -> dict[str, list[bytes]]:
        """Valid input of each target."""
        full = infer_request(
            request_id="r1", ber_estimate=0.05, version=2, level=2, device="cam", sequence=9, tasks=["shape"], top_k=3,
            encoder_hash=self.bundle.encoder_hash[:8], erased=[edge_pb2.BitRange(first_bit=3, bit_count=9)],
        )  # fmt: skip
        requests = [infer_request(), full, edge_pb2.InferRequest(bitstream=b"ab")]
        tensors = [tensor_request(bytes(8)), tensor_request(bytes(4), ber_estimate=0.05, level=1, device="cam", sequence=9)]
        open_frames = [open_frame(self.bundle, sequence) for sequence in (0, 1, 4095)]
        keyed_frames = [keyed_frame(self.bundle, sequence, KEY) for sequence in (0, 2**28 - 1)]
        manifest = (self.bundle.folder / "bundle.json").read_bytes()
        return {
            "open_frames": open_frames,
            "keyed_frames": keyed_frames,
            "serial": [b"noise" + b"".join(map(add_sync, open_frames)), add_sync(keyed_frames[0]) * 2],
            "requests": [request.SerializeToString() for request in requests],
            "json": [json_format.MessageToJson(request, preserving_proto_field_name=True).encode() for request in requests],
            "tensors": [request.SerializeToString() for request in tensors],
            "tensors_json": [tensor_json(bytes(8)), tensor_json(bytes(4), ber_estimate=0.05, level=1, device="cam", sequence=9)],
            "replies": [bytes(REPLY_BYTES), bytes(KEYED_REPLY_BYTES)],
            "manifests": [manifest],
            "http2": _conversations([request.SerializeToString() for request in requests]),
        }

    @staticmethod
    def _read_message(data: bytes) -> list[Call]:
        return [to_call(checked(_PARSERS["requests"](data)), "fuzz", None)]

    def _read_tensors(self, data: bytes) -> list[Call]:
        return self._calls(grpc_api._read(checked(_PARSERS["tensors"](data))))

    def _read_tensors_json(self, data: bytes) -> list[Call]:
        return self._calls(oip_http_api._read(Request({"type": "http", "headers": []}), data, "toy", ""))

    def _calls(self, request: InferRequest) -> list[Call]:
        return to_calls(request, self._repository.get(request.model, request.version), "fuzz", None, BATCH)

    def _frames(self, readers: Readers, inputs: Sequence[bytes]) -> Counter:
        results = readers.read(inputs)
        assert len(results) == len(inputs)
        for result in results:
            if result.outcome == "ok":
                assert len(result.payload) == result.codec.payload_bytes[result.header.level]
                assert all(0 <= first and first + count <= ERASED_MOST for first, count in result.erased)
        return Counter(result.outcome for result in results)

    def _serial(self, inputs: Sequence[bytes]) -> Counter:
        counts: Counter[str] = Counter()
        for data in inputs:
            for result in self._line.feed(data):
                counts[f"found_{result.outcome}"] += 1
            counts["searched"] += 1
        return counts

    def _replies(self, inputs: Sequence[bytes]) -> Counter:
        read = (read_reply(data, 7) or read_keyed_reply(data, 7, KEY) for data in inputs)
        names = {status: status.name.lower() for status in ReplyStatus}
        return Counter("no_reply" if reply is None else names.get(reply.status, "reserved") for reply in read)

    def _manifests(self, inputs: Sequence[bytes]) -> Counter:
        counts: Counter[str] = Counter()
        for data in inputs:
            try:
                raw = json.loads(data)
            except ValueError:  # what load_bundle refuses by name
                counts["not_json"] += 1
                continue
            try:
                parse_manifest(raw if isinstance(raw, dict) else {})
                counts["ok"] += 1
            except BundleError:
                counts["refused"] += 1
        return counts


_PARSERS = {
    "requests": parser(edge_pb2.InferRequest, LONGEST),
    "tensors": parser(open_inference_pb2.ModelInferRequest, LONGEST),
}


def _read_json(data: bytes) -> list[Call]:
    return [to_call(from_json(data, edge_pb2.InferRequest()), "fuzz", None)]


class _Requests:
    """The way of a request behind its door: parsed, checked, computed in batches, counted, answered."""

    def __init__(self, repository: Repository, engine: Engine):
        self._engine = engine
        self._metrics = Metrics(CollectorRegistry())
        devices = DeviceTable(1000, 16, time.monotonic, 30.0)
        self._inference = Inference(repository, devices, self._metrics, time.monotonic, 60.0, most_in_flight=BATCH * BATCH)
        self._inference.connect(self)
        self._grouping = Grouping(repository, devices)
        self._queue: list[Job | Group] = []
        self.limits, self.depth = Limits(BATCH * BATCH, BATCH), 0

    def put(self, job: Job | Group) -> None:
        """As the scheduler does; the batch runs when all inputs are in."""
        self._queue.append(job)

    def run(self, inputs: Sequence[bytes], read: Callable[[bytes], Sequence[Call]]) -> Counter:
        ended: list[Job] = []
        counted, submitted = self._counted(), 0
        for data in inputs:
            try:
                calls, refusal = read(data), None
            except WeaklinkError as error:
                calls, refusal = [Call("fuzz", b"")], error
            for call in calls:
                self._inference.submit(call, ended.append, refusal)
            submitted += len(calls)
        if self._queue:
            self._compute()
        assert len(ended) == submitted == self._counted() - counted, "one outcome each, and counted"
        for job in ended:
            to_response(job).SerializeToString()
            assert all(0 <= share <= 1.001 for top in (job.answer.tasks.values() if job.answer else ()) for _, share in top)
        return Counter(outcome(job) for job in ended)

    def converse(self, inputs: Sequence[bytes]) -> Counter:
        """Each input is all that a peer of the gRPC port says. Counts how its connection stands in the end."""
        streams = StreamLimit(1_000_000)
        calls = InferCalls(
            self._inference, self._grouping, time.monotonic, 65_536, 4, streams, Turns()
        )

        def open_stream(stream: Stream, head: CallHead) -> None:
            kind = calls.stream if head.path == "/stream" else calls.unary
            kind(stream, head)

        async def all_of_them() -> Counter:
            counts: Counter[str] = Counter()
            for data in inputs:
                peer = Peer(open_stream)
                peer.send(data)
                while self._queue:
                    self._compute()
                ended = await peer.told()
                counts["open" if ended is None else ended.name.lower()] += 1
                peer.lose()
            assert not calls._open and not streams.total(), "no call is left behind"
            return counts

        return asyncio.run(all_of_them())

    def _compute(self) -> None:
        batch, self._queue = self._queue, []
        for job, answer in zip(batch, self._engine.infer([job.request for job in batch]), strict=True):
            job.answer, job.started, job.finished = answer, job.received, job.received
            self._inference.finish(job)

    def _counted(self) -> int:
        return sum(self._metrics.totals(self._metrics.requests).values())


def _conversations(messages: Sequence[bytes]) -> list[bytes]:
    """Of HTTP/2 peers: single calls, a stream, a call that is cancelled, headers in two parts, padding, a ping."""
    hello = PREFACE + frame(SETTINGS, 0, 0, b"") + window_update(0, 1 << 20)
    unary, stream = (
        write_headers([(":method", "POST"), (":path", path), ("content-type", "application/grpc"), ("grpc-timeout", "9S")])
        for path in ("/unary", "/stream")
    )
    bodies = [struct.pack(">BI", 0, len(message)) + message for message in messages]
    calls = [
        frame(HEADERS, END_HEADERS, 2 * number + 1, unary) + frame(DATA, END_STREAM, 2 * number + 1, body)
        for number, body in enumerate(bodies)
    ]
    streamed = frame(HEADERS, END_HEADERS, 1, stream) + frame(DATA, 0, 1, b"".join(bodies)[:40])
    padded = frame(DATA, PADDED | END_STREAM, 1, b"\3" + b"".join(bodies)[40:] + bytes(3))
    parts = frame(HEADERS, 0, 3, unary[:9]) + frame(CONTINUATION, END_HEADERS, 3, unary[9:])
    goodbye = frame(PING, 0, 0, bytes(8)) + frame(RST_STREAM, 0, 3, bytes(4))
    return [hello + b"".join(calls), hello + streamed + padded, hello + parts + goodbye]


def corpus(target: str) -> list[bytes]:
    """The committed inputs of a target, by file name."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def mutations(seeds: Sequence[bytes], rng: random.Random) -> Iterator[bytes]:
    """Without end: one in eight wholly random, the others a seed with one to four changes."""
    while True:
        if rng.random() < 1 / 8:
            yield rng.randbytes(rng.choice((0, 1, 8, 18, 26, 36, 50, rng.randrange(200))))
            continue
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            rng.choice(_CHANGES)(data, rng, seeds)
        yield bytes(data[:LONGEST])


def _flip(data: bytearray, rng: random.Random, _) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random, _) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _remove(data: bytearray, rng: random.Random, _) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.randint(1, 8)]


def _insert(data: bytearray, rng: random.Random, _) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(rng.randint(1, 8))


def _repeat(data: bytearray, rng: random.Random, _) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = data[start : start + rng.randint(1, 16)] * rng.randint(1, 4)


def _cut(data: bytearray, rng: random.Random, _) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _splice(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


_CHANGES = (_flip, _flip, _set, _remove, _insert, _repeat, _cut, _splice)


def fuzz(target: Target, seeds: Sequence[bytes], count: int, rng: random.Random, findings: Path | None) -> Counter:
    """Run ``count`` mutations in batches; the outcomes. What raises is narrowed down to one input, written to
    ``findings``, and raised."""
    outcomes: Counter[str] = Counter()
    inputs = mutations(seeds, rng)
    while count > 0:
        batch = [next(inputs) for _ in range(min(count, BATCH))]
        count -= len(batch)
        try:
            outcomes += target(batch)
        except Exception:
            if findings is not None:
                findings.mkdir(parents=True, exist_ok=True)
                (findings / f"{time.time_ns()}").write_bytes(_narrowed(target, batch))
            raise
    return outcomes


def _narrowed(target: Target, batch: Sequence[bytes]) -> bytes:
    """The first input that fails alone; all of them where none does."""
    for data in batch:
        try:
            target([data])
        except Exception:
            return data
    return b"".join(batch)


def extend(row: dict[str, Any], target: Target, count: int, seed: int, until: float) -> None:
    """Fuzz on from where a row ends, until it has ``count`` inputs or ``time.monotonic`` is ``until``. What fails is
    counted, logged and written to ``build/fuzz-edge``; the rest of its part is left out."""
    name = row["target"]
    while row["inputs"] < count and time.monotonic() < until:
        started, first = time.monotonic(), row["inputs"]
        # Of its own, so that the inputs are the same however often the run was interrupted.
        rng = random.Random(f"{name} {seed} {first // PART}")
        more = min(PART, count - first)
        try:
            outcomes = fuzz(target, corpus(name), more, rng, FINDINGS / name)
            row["outcomes"] = dict((Counter(row["outcomes"]) + outcomes).most_common())
        except Exception:
            log.exception("%s fails on an input that lies in %s", name, FINDINGS / name)
            row["failures"] += 1
        row["inputs"] += more
        row["seconds"] += time.monotonic() - started


def main(argv: Sequence[str] | None = None) -> int:
    """0 where everything had its outcome, 1 where not."""
    made = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__.partition("\n")[0])
    made.add_argument("targets", nargs="*", help="names of what reads the input, such as requests (default: all)")
    made.add_argument("--count", type=int, default=1_000_000, help="inputs of each target (default: 1000000)")
    made.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the counts there, too")
    made.add_argument("--resume", action="store_true", help="go on from the counts in FILE")
    made.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="stop after so long (default: when done)")
    made.add_argument("--write-corpus", action="store_true", help="write valid examples to the corpus, and stop")
    options = made.parse_args(argv)
    until = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as folder:
        targets = Targets(Path(folder))
        if options.write_corpus:
            for name, examples in targets.examples().items():
                (CORPUS / name).mkdir(parents=True, exist_ok=True)
                for number, data in enumerate(examples):
                    (CORPUS / name / f"valid-{number}").write_bytes(data)
            return 0
        kept = json.loads(options.json.read_text())["rows"] if options.resume and options.json.exists() else []
        by_target = {row["target"]: row for row in kept}
        for name in options.targets or targets.by_name:
            row = by_target.setdefault(name, {"target": name, "inputs": 0, "failures": 0, "seconds": 0.0, "outcomes": {}})
            extend(row, targets.by_name[name], options.count, options.seed, until)
            print(json.dumps(row), flush=True)
        rows = [by_target[name] for name in targets.by_name if name in by_target]
    print_table([{**row, "outcomes": " ".join(f"{key}:{value}" for key, value in row["outcomes"].items())} for row in rows])
    if options.json:
        write_json(options.json, rows, options.seed)
    return int(any(row["failures"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
