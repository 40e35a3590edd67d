"""What becomes of raw frames, whichever door they came through: read, accepted once, inferred, replied to.

    UDP datagrams -> reader -> search, where damaged (own thread) -.
                                                                    +-> duplicate or replay? -> pilot errors -.
    serial lines -> search for frames (same thread) ---------------'                                         |
                                                     replies <- inference <- groups of one codec and level <-'
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Protocol

from edge_server.devices import DeviceState, DeviceTable, RecentFrame
from edge_server.inference import Inference
from edge_server.jobs import Group
from edge_server.metrics import Metrics
from edge_server.replay import ReplayWindows
from edge_server.repository import Repository, ServedCodec
from semantic_codec.errors import DeadlineExceeded, QueueFull, Unavailable
from semantic_codec.frame import HEADER_BITS, OPEN, FrameReader, FrameResult, WholeFrame, WireCodec
from semantic_codec.keyed import DeviceKey, KeyedHeader
from semantic_codec.keyed_frame import KeyedFrameReader
from semantic_codec.keyed_reply import encode_keyed_reply
from semantic_codec.reply import CLASSES, REPLY_BYTES, Refusal, Reply, ReplyStatus, encode_reply, pack_reply
from weaklink.v1 import edge_pb2

_REFUSALS = {
    "unknown_version": Refusal.UNKNOWN_VERSION,
    "unknown_codec": Refusal.UNKNOWN_CODEC,
    "unknown_level": Refusal.UNKNOWN_LEVEL,
    "encoder_mismatch": Refusal.ENCODER_MISMATCH,
    "bad_length": Refusal.BAD_LENGTH,
}
MOST_WAITING = 8  # sources that the reply to a frame under way is sent to besides its own: repetitions cost no more
_DEVICE, _SEQUENCE = attrgetter("device"), attrgetter("sequence")


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
    """Open and keyed mode, whichever are allowed, read as one. Any threads may read while another calls :meth:`serve`.

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

    @property
    def longest(self) -> int:
        """Bytes of the longest frame."""
        return self.sizes[-1] if self.sizes else 0

    def read(self, frames: Sequence[bytes]) -> list[FrameResult]:
        """As `FrameReader.read`: the mode in which a header was read counts, keyed mode first."""
        results = self.read_near(frames)
        damaged = [place for place, result in enumerate(results) if result is None]
        for place, result in zip(damaged, self.search([frames[place] for place in damaged]), strict=True):
            results[place] = result
        return results

    def read_whole(self, frames: Sequence[bytes]) -> list[WholeFrame | None]:
        """As `FrameReader.read_whole`; where keyed mode is read, too, None of each: it comes first."""
        return self._readers[-1].read_whole(frames) if self._keys is None else [None] * len(frames)

    def read_near(self, frames: Sequence[bytes]) -> list[FrameResult | None]:
        """As `FrameReader.read_near`, and also where a search is under way."""
        readers = iter(self._readers)
        results = next(readers).read_near(frames)
        for reader in readers:
            unread = [place for place, result in enumerate(results) if result is None]
            for place, result in zip(unread, reader.read_near([frames[place] for place in unread]), strict=True):
                results[place] = result
        return results

    def search(self, frames: Sequence[bytes]) -> list[FrameResult]:
        """As `FrameReader.search`."""
        results = [FrameResult("bad_length")] * len(frames)
        for reader in self._readers:
            least = REPLY_BYTES if reader.mode is OPEN else 0
            unread = [place for place, result in enumerate(results) if result.header is None and len(frames[place]) >= least]
            for place, result in zip(unread, reader.search([frames[place] for place in unread]), strict=True):
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
        self.serve({})
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False

    def serve(self, codecs: dict[WireCodec, ServedCodec]) -> None:
        """Take frames of these codecs from now on."""
        self._served, self._identities = codecs, {id(codec) for codec in codecs}

    async def drain(self, timeout: float) -> None:
        """Take no more frames; wait until every frame taken is answered."""
        self.draining = True
        await asyncio.wait_for(self._idle.wait(), timeout)

    def begin(self, count: int = 1) -> None:
        """Something is under way that draining must wait for, until :meth:`end`."""
        self._busy += count
        self._idle.clear()

    def end(self, count: int = 1) -> None:
        self._busy -= count
        if not self._busy:
            self._idle.set()

    def count(self, outcome: str, frames: int = 1) -> None:
        """Frames that ended in an outcome."""
        self._metrics.count(self._metrics.frames, outcome, by=frames)

    def handle(self, results: Sequence[FrameResult], sources: Sequence[Source]) -> list[bool]:
        """Frames that were read, or could not be, from one door. Of each, whether it was welcome: taken, or the
        repetition of one that was."""
        taken: _Taken = {}
        welcome = [self._sort(result, source, taken) for result, source in zip(results, sources, strict=True)]
        for (_, level, erased), (codec, frames) in taken.items():
            self._submit(codec, level, erased, frames, sources[0].transport)
        return welcome

    def handle_whole(self, frames: Sequence[WholeFrame], sources: Sequence[Source]) -> list[bool]:
        """As :meth:`handle` of their results, in a fraction of the time."""
        kinds = {id(frame.kind): frame.kind for frame in frames}
        if self._keys or not all(id(kind.codec) in self._identities for kind in kinds.values()):
            return self.handle([frame.result for frame in frames], sources)
        taken: dict[int, list[tuple]] = {each: [] for each in kinds}
        duplicates = 0
        accepted = self._devices.accept_frames(map(_DEVICE, frames), map(_SEQUENCE, frames), sources)
        for (kind, device, sequence, payload, errors), source, (name, state, recent, is_new) in zip(
            frames, sources, accepted
        ):
            if is_new:
                ber = state.evidence().update(errors, HEADER_BITS)
                taken[id(kind)].append((payload, ber, name, sequence, (source, device, None, recent)))
            else:
                duplicates += 1
                _repeat(recent, source)
        if duplicates:
            self.count("duplicate", duplicates)
        for each, asked in taken.items():
            if asked:
                codec, level = kinds[each]
                self._submit(codec, level, (), asked, sources[0].transport)
        return [True] * len(frames)

    def _sort(self, result: FrameResult, source: Source, taken: _Taken) -> bool:
        """Add a frame to be inferred to ``taken``, end any other. Whether it was welcome."""
        _, header, codec, *_ = result
        # Codecs are slow to compare; those that serve are these very objects, but for frames read before a reload.
        if codec is not None and id(codec) not in self._identities and codec not in self._served:
            result = result._replace(outcome="unknown_codec")  # unloaded since it was read
        if isinstance(header, KeyedHeader):
            return self._sort_keyed(result, source, taken)
        if header is not None and header.device in self._keys:
            # Else whoever knows a device's number could speak for it.
            self.count("not_keyed")
            return False
        if result.outcome == "ok":
            self._sort_open(result, source, taken)
            return True
        self.count(result.outcome)
        if result.header is not None:
            source.send(encode_reply(_refusal(result), result.header.device))
        elif result.outcome == "bad_header":
            # Worse news of the device that is known to speak from there.
            self._devices.failed_from(source)
        return False

    def _sort_open(self, result: FrameResult, source: Source, taken: _Taken) -> None:
        device = str(result.header.device)
        state, recent, is_new = self._devices.accept_frame(device, result.header.sequence, source)
        if is_new:
            _take(result, device, state, (source, result.header.device, None, recent), taken)
            return
        self.count("duplicate")
        _repeat(recent, source)

    def _sort_keyed(self, result: FrameResult, source: Source, taken: _Taken) -> bool:
        """What is not authentic gets no reply, nor does a replay: whoever sent it may be anybody."""
        header, key = result.header, self._keys.get(result.header.device)
        if result.codec is None or key is None:
            self.count(result.outcome if result.codec is None else "unknown_device")
            return False
        if result.key != key:  # replaced since the frame was read: the new key's window is for its own sequences
            self.count("bad_mac")
            return False
        if not self._replay.accept(header.device, key.key_id, header.sequence):
            self.count("replayed")
            return False
        if result.outcome != "ok":
            self.count(result.outcome)
            source.send(encode_keyed_reply(_refusal(result), header.device, key))
            return False
        device = str(header.device)
        self._devices.heard(device, source)
        _take(result, device, self._devices.open(device), (source, header.device, key, None), taken)
        return True

    def _submit(
        self, codec: WireCodec, level: int, erased: tuple[tuple[int, int], ...], frames: list[tuple], transport: str
    ) -> None:
        """Have accepted frames' payloads inferred."""
        self.count("ok", len(frames))
        self.begin(len(frames))
        payloads, bers, devices, sequences, asked = zip(*frames)
        group = Group(
            transport, self._answer, self._served[codec], level, edge_pb2.BER_SOURCE_ESTIMATED, payloads, bers, devices,
            sequences, asked, erased,
        )  # fmt: skip
        self._inference.submit_group(group)

    def _answer(self, group: Group) -> None:
        """Reply to frames whose inference ended."""
        try:
            if group.error is None:
                self._answer_each(group)
            else:
                self._refuse_each(group)
        finally:
            self.end(group.images)

    def _answer_each(self, group: Group) -> None:
        """A frame names one codec; its reply has room for the first task only, and not for every class that one may have."""
        advised = group.served.advice.level
        best = next(iter(group.answer.tasks.values()))
        columns = zip(group.items, group.sequences, best, map(advised, group.bers))
        for asked, sequence, (index, confidence), level in columns:
            confidence = confidence if confidence < 1.0 else 1.0
            _, device, key, _ = asked
            if index >= CLASSES:
                _reply(asked, Reply(sequence, Refusal.OTHER, status=ReplyStatus.REFUSED))
            elif key is None:
                _reply_open(asked, pack_reply(device, sequence, index, confidence, level))
            else:
                _reply(asked, Reply(sequence, index, confidence, level))

    def _refuse_each(self, group: Group) -> None:
        error, status, why = group.error, ReplyStatus.REFUSED, Refusal.OTHER
        if isinstance(error, QueueFull | Unavailable):
            status, why = ReplyStatus.BUSY, 0
        elif isinstance(error, DeadlineExceeded):
            why = Refusal.TOO_LATE
        for asked, device, sequence in zip(group.items, group.devices, group.sequences):
            _reply(asked, Reply(sequence, why, status=status))
            if asked[2] is None:
                self._devices.forget_frame(device, sequence)


_Asked = tuple[Source, int, DeviceKey | None, RecentFrame | None]
"""Who asked: source and device; in keyed mode the key, in open mode what is remembered of the frame."""
_Taken = dict[tuple, tuple[WireCodec, list[tuple]]]
"""Accepted frames by the identity of their codec, level and erasures: payload, BER, device, sequence and who asked."""


def _take(result: FrameResult, device: str, state: DeviceState, asked: _Asked, taken: _Taken) -> None:
    """Add an accepted frame to those of its kind, once its pilot has told of the link."""
    _, header, codec, payload, erased, pilot_bits, pilot_errors, _ = result
    ber = state.evidence().update(pilot_errors, pilot_bits)
    kind = id(codec), header.level, erased
    frames = taken.get(kind)
    if frames is None:
        frames = taken[kind] = codec, []
    frames[1].append((payload, ber, device, header.sequence, asked))


def _repeat(recent: RecentFrame, source: Source) -> None:
    """The earlier reply, also to whoever sent the frame again, soon where it is still under way."""
    if recent.reply is not None:
        source.send(recent.reply)
    elif len(recent.waiting) < MOST_WAITING and source not in recent.waiting:
        recent.waiting += (source,)


def _reply(asked: _Asked, reply: Reply) -> None:
    source, device, key, _ = asked
    if key is None:
        _reply_open(asked, encode_reply(reply, device))
    else:
        source.send(encode_keyed_reply(reply, device, key))


def _reply_open(asked: _Asked, data: bytes) -> None:
    """Also to whoever repeated the frame meanwhile, or will."""
    source, _, _, recent = asked
    recent.reply = data
    source.send(data)
    if recent.waiting:
        for other in recent.waiting:
            other.send(data)
        recent.waiting = ()


def _refusal(result: FrameResult) -> Reply:
    return Reply(result.header.sequence, _REFUSALS[result.outcome], status=ReplyStatus.REFUSED)
