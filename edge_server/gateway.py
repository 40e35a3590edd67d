"""What becomes of raw frames, whichever door they came through: read, accepted once, inferred, replied to.

    UDP datagrams -> micro-batch -> reader (own thread) -.
                                                          +-> duplicate or replay? -> pilot errors -> inference -> reply
    serial lines -> search for frames (same thread) ------'
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from edge_server.devices import DeviceTable
from edge_server.inference import Inference
from edge_server.jobs import Call, Job
from edge_server.metrics import Metrics
from edge_server.replay import ReplayWindows
from edge_server.repository import Repository, ServedCodec
from semantic_codec.errors import DeadlineExceeded, QueueFull, Unavailable
from semantic_codec.frame import OPEN, FrameReader, FrameResult, WireCodec
from semantic_codec.keyed import DeviceKey, KeyedHeader
from semantic_codec.keyed_frame import KeyedFrameReader
from semantic_codec.keyed_reply import encode_keyed_reply
from semantic_codec.reply import REPLY_BYTES, Refusal, Reply, ReplyStatus, encode_reply

_REFUSALS = {
    "unknown_version": Refusal.UNKNOWN_VERSION,
    "unknown_codec": Refusal.UNKNOWN_CODEC,
    "unknown_level": Refusal.UNKNOWN_LEVEL,
    "encoder_mismatch": Refusal.ENCODER_MISMATCH,
    "bad_length": Refusal.BAD_LENGTH,
}


def wire_codecs(repository: Repository) -> dict[WireCodec, ServedCodec]:
    """What frames may carry: every version of every codec; where two share an encoder the default version comes first,
    then the newest."""
    defaults = set(repository.default.values())
    codecs: dict[WireCodec, ServedCodec] = {}
    for served in sorted(reversed(repository.codecs), key=lambda served: served not in defaults):
        lengths = tuple(level.payload_bytes for level in served.levels)
        codecs.setdefault(WireCodec(served.manifest.codec_id, served.bundle.encoder_hash, lengths), served)
    return codecs


class Source(Protocol):
    """Where a frame came from: hashable, and the same for all frames from there."""

    transport: str
    """The label of its requests: "udp" or "serial"."""

    def send(self, reply: bytes) -> None:
        """Send a reply back; losing it is no error."""


class Readers:
    """Open and keyed mode, whichever are allowed, read as one. Any thread may read, one at a time, while another calls
    :meth:`serve`.

    What is shorter than an open reply is not read in open mode: whoever gave a false address would have more sent there
    than they sent themselves.

    codecs: as for :meth:`serve`. keys: of keyed mode, None for none. open_frames: whether open mode is read.
    cut_frames: as for `FrameReader`.
    """

    def __init__(
        self,
        codecs: Iterable[WireCodec],
        keys: Mapping[int, DeviceKey] | None = None,
        open_frames: bool = True,
        cut_frames: bool = True,
    ):
        self._keys, self._open_frames, self._cut_frames = keys, open_frames, cut_frames
        self.sizes: list[int] = []
        self.serve(codecs)

    def serve(self, codecs: Iterable[WireCodec]) -> None:
        """Read frames of these codecs from now on; where two share an encoder the first one counts."""
        codecs, readers = tuple(codecs), []
        if self._keys is not None:
            readers.append(KeyedFrameReader(codecs, self._keys, cut_frames=self._cut_frames))
        if self._open_frames:
            readers.append(FrameReader(codecs, cut_frames=self._cut_frames))
        # A line needs some length to look for, even where no codec is left.
        self.sizes = sorted({size for reader in readers for size in reader.sizes}) or self.sizes
        self._readers = readers

    def read(self, frames: Sequence[bytes]) -> list[FrameResult]:
        """As `FrameReader.read`: the mode in which a header was read counts, keyed mode first."""
        results = [FrameResult("bad_length")] * len(frames)
        for reader in self._readers:
            least = REPLY_BYTES if reader.mode is OPEN else 0
            unread = [place for place, result in enumerate(results) if result.header is None and len(frames[place]) >= least]
            for place, result in zip(unread, reader.read([frames[place] for place in unread]), strict=True):
                if result.outcome != "bad_length" or result.header is not None:
                    results[place] = result
        return results

    def find(self, candidates: Sequence[bytes]) -> list[FrameResult | None]:
        """For a serial line: None for what is no frame."""
        return [result if result.header is not None else None for result in self.read(candidates)]


class Gateway:
    """Belongs to the event loop's thread, and serves no codec before :meth:`serve`. The doors hand in what they read, and
    may wait for :meth:`drain`.

    keys and replay: of keyed mode.
    """

    def __init__(
        self,
        devices: DeviceTable,
        inference: Inference,
        metrics: Metrics,
        keys: Mapping[int, DeviceKey],
        replay: ReplayWindows,
    ):
        self._devices, self._inference, self._metrics = devices, inference, metrics
        self._keys, self._replay = keys, replay
        self._served: dict[WireCodec, ServedCodec] = {}
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False

    def serve(self, codecs: dict[WireCodec, ServedCodec]) -> None:
        """Take frames of these codecs from now on."""
        self._served = codecs

    async def drain(self, timeout: float) -> None:
        """Take no more frames; wait until every frame taken is answered."""
        self.draining = True
        await asyncio.wait_for(self._idle.wait(), timeout)

    def begin(self) -> None:
        """Something is under way that draining must wait for, until :meth:`end`."""
        self._busy += 1
        self._idle.clear()

    def end(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._idle.set()

    def count(self, outcome: str, frames: int = 1) -> None:
        """Frames that ended in an outcome."""
        self._metrics.count(self._metrics.frames, outcome, by=frames)

    def handle(self, result: FrameResult, source: Source) -> bool:
        """One frame that was read, or could not be. Whether it was welcome: taken, or the repetition of one that was."""
        if result.codec is not None and result.codec not in self._served:
            result = replace(result, outcome="unknown_codec")  # unloaded since it was read
        if isinstance(result.header, KeyedHeader):
            return self._handle_keyed(result, source)
        if result.header is not None and result.header.device in self._keys:
            # Else whoever knows a device's number could speak for it.
            self.count("not_keyed")
            return False
        if result.outcome == "ok":
            self._handle_open(result, source)
            return True
        self.count(result.outcome)
        if result.header is not None:
            source.send(encode_reply(_refusal(result), result.header.device))
        elif result.outcome == "bad_header":
            # Worse news of the device that is known to speak from there.
            self._devices.failed_from(source)
        return False

    def _handle_open(self, result: FrameResult, source: Source) -> None:
        header = result.header
        device = str(header.device)
        earlier = self._devices.accept_frame(device, header.sequence, source)
        if earlier is None:
            self._submit(result, source, lambda job: self._reply_open(job, header.device, source))
            return
        self.count("duplicate")
        if earlier.reply is None:
            earlier.waiting.append(source)
        else:
            source.send(earlier.reply)

    def _handle_keyed(self, result: FrameResult, source: Source) -> bool:
        """What is not authentic gets no reply, nor does a replay: whoever sent it may be anybody."""
        header, key = result.header, self._keys.get(result.header.device)
        if result.codec is None or key is None:
            self.count(result.outcome if result.codec is None else "unknown_device")
            return False
        if not self._replay.accept(header.device, key.key_id, header.sequence):
            self.count("replayed")
            return False
        if result.outcome != "ok":
            self.count(result.outcome)
            source.send(encode_keyed_reply(_refusal(result), header.device, key))
            return False
        self._devices.heard(str(header.device), source)

        def answer(job: Job) -> None:
            source.send(encode_keyed_reply(_to_reply(job), header.device, key))

        self._submit(result, source, answer)
        return True

    def _submit(self, result: FrameResult, source: Source, answer: Callable[[Job], None]) -> None:
        """Have an accepted frame's payload inferred; ``answer(job)`` is called once it ended."""
        self.count("ok")
        header, served = result.header, self._served[result.codec]
        device = str(header.device)
        self._devices.open(device).evidence().update(result.pilot_errors, result.pilot_bits)
        call = Call(
            source.transport,
            result.payload,
            codec=served.name,
            version=served.version,
            level=header.level,
            erased=result.erased,
            device=device,
            sequence=header.sequence,
        )

        def done(job: Job) -> None:
            try:
                answer(job)
            finally:
                self.end()

        self.begin()
        self._inference.submit(call, done)

    def _reply_open(self, job: Job, device: int, source: Source) -> None:
        reply = encode_reply(_to_reply(job), device)
        waiting: list[Any] = [source]
        frame = self._devices.frame(job.call.device, job.call.sequence)
        if frame is not None:
            waiting += frame.waiting
            frame.waiting.clear()
            frame.reply = reply
        if job.error is not None:
            self._devices.forget_frame(job.call.device, job.call.sequence)
        for each in waiting:
            each.send(reply)


def _refusal(result: FrameResult) -> Reply:
    return Reply(result.header.sequence, _REFUSALS[result.outcome], status=ReplyStatus.REFUSED)


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
