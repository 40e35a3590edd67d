"""The way in for raw frames: UDP datagrams, any bit of which may be wrong, and protected replies.

    datagrams -> micro-batch -> FrameReader (own thread) -> duplicate? -> pilot errors -> inference -> reply
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from edge_server.devices import DeviceTable
from edge_server.inference import Inference
from edge_server.jobs import Call, Job
from edge_server.metrics import Metrics
from edge_server.repository import Repository, ServedCodec
from semantic_codec.errors import DeadlineExceeded, QueueFull, Unavailable
from semantic_codec.frame import FrameReader, FrameResult, WireCodec
from semantic_codec.reply import Refusal, Reply, ReplyStatus, encode_reply

TRANSPORT = "udp"
READ_BATCH = 256  # frames per pass of the reader
BACKLOG = 4096  # frames that may wait for the reader; above, they are dropped and counted
Datagram = tuple[bytes, Any]
_REFUSALS = {
    "unknown_version": Refusal.UNKNOWN_VERSION,
    "unknown_codec": Refusal.UNKNOWN_CODEC,
    "unknown_level": Refusal.UNKNOWN_LEVEL,
    "encoder_mismatch": Refusal.ENCODER_MISMATCH,
    "bad_length": Refusal.BAD_LENGTH,
}
log = logging.getLogger(__name__)


def wire_codecs(repository: Repository) -> list[WireCodec]:
    """What frames may carry: every version of every codec, the newest first where two share an encoder."""
    return [_wire_codec(served) for served in reversed(repository.codecs)]


def _wire_codec(served: ServedCodec) -> WireCodec:
    lengths = tuple(level.payload_bytes for level in served.levels)
    return WireCodec(served.manifest.codec_id, served.bundle.encoder_hash, lengths)


class Gateway(asyncio.DatagramProtocol):
    """Belongs to the event loop's thread; only ``reader.read`` runs on ``executor``."""

    def __init__(
        self,
        reader: FrameReader,
        repository: Repository,
        devices: DeviceTable,
        inference: Inference,
        metrics: Metrics,
        executor: Executor,
    ):
        self._reader, self._devices, self._inference = reader, devices, inference
        self._metrics, self._executor = metrics, executor
        self._served = {_wire_codec(served): served for served in repository.codecs}
        self._backlog: list[Datagram] = []
        self._reading: asyncio.Task | None = None
        self._in_flight = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, source: Any) -> None:
        if self._draining:
            self._count("draining")
        elif len(self._backlog) >= BACKLOG:
            self._count("overflow")
        else:
            self._backlog.append((data, source))
            if self._reading is None:
                self._idle.clear()
                self._reading = asyncio.get_running_loop().create_task(self._read_backlog())

    def error_received(self, error: OSError) -> None:
        """A device that went away answers our reply with an ICMP error: its loss, nobody else's."""
        log.debug("UDP: %s", error)

    async def drain(self, timeout: float) -> None:
        """Take no more frames; wait until every frame taken is answered."""
        self._draining = True
        await asyncio.wait_for(self._idle.wait(), timeout)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _read_backlog(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._backlog:
                chunk, self._backlog = self._backlog[:READ_BATCH], self._backlog[READ_BATCH:]
                frames = [data for data, _ in chunk]
                try:
                    results = await loop.run_in_executor(self._executor, self._reader.read, frames)
                except Exception:  # no frame, however damaged, may stop the gateway
                    log.exception("the frame reader failed on %d frames", len(frames))
                    for _ in frames:
                        self._count("internal")
                    continue
                for (_, source), result in zip(chunk, results):
                    self._handle(result, source)
        finally:
            self._reading = None
            self._check_idle()

    def _handle(self, result: FrameResult, source: Any) -> None:
        if result.outcome != "ok":
            self._refuse(result, source)
            return
        header = result.header
        device = str(header.device)
        earlier = self._devices.accept_frame(device, header.sequence, source)
        if earlier is not None:
            self._count("duplicate")
            if earlier.reply is None:
                earlier.waiting.append(source)
            else:
                self._transport.sendto(earlier.reply, source)
            return
        self._count("ok")
        self._devices.open(device).evidence().update(result.pilot_errors, result.pilot_bits)
        served = self._served[result.codec]
        call = Call(
            TRANSPORT,
            result.payload,
            codec=served.name,
            version=served.version,
            level=header.level,
            erased=result.erased,
            device=device,
            sequence=header.sequence,
        )
        self._in_flight += 1
        self._inference.submit(call, lambda job: self._reply(job, header.device, source))

    def _refuse(self, result: FrameResult, source: Any) -> None:
        """Count it; tell the device where the header was read, else count it against the device known to be there."""
        self._count(result.outcome)
        if result.header is not None:
            reply = Reply(result.header.sequence, _REFUSALS[result.outcome], status=ReplyStatus.REFUSED)
            self._transport.sendto(encode_reply(reply, result.header.device), source)
        elif result.outcome == "bad_header":
            self._devices.failed_from(source)

    def _reply(self, job: Job, device: int, source: Any) -> None:
        self._in_flight -= 1
        try:
            reply = encode_reply(_to_reply(job), device)
            waiting = [source]
            frame = self._devices.frame(job.call.device, job.call.sequence)
            if frame is not None:
                waiting += frame.waiting
                frame.waiting.clear()
                frame.reply = reply
            if job.error is not None:
                self._devices.forget_frame(job.call.device, job.call.sequence)
            for address in waiting:
                self._transport.sendto(reply, address)
        finally:
            self._check_idle()

    def _check_idle(self) -> None:
        if self._in_flight == 0 and self._reading is None:
            self._idle.set()

    def _count(self, label: str) -> None:
        self._metrics.count(self._metrics.frames, label)


def _to_reply(job: Job) -> Reply:
    """A frame names one codec; its reply has room for the first task only."""
    sequence = job.call.sequence
    if isinstance(job.error, QueueFull | Unavailable):
        return Reply(sequence, 0, status=ReplyStatus.BUSY)
    if job.error is not None:
        late = isinstance(job.error, DeadlineExceeded)
        return Reply(sequence, Refusal.TOO_LATE if late else Refusal.OTHER, status=ReplyStatus.REFUSED)
    index, confidence = next(iter(job.answer.tasks.values()))[0]
    return Reply(sequence, index, min(confidence, 1.0), job.served.advice.level(job.request.ber))
