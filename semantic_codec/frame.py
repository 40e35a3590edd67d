"""The raw frame: 18 bytes of coded header and a payload, mixed bit by bit so that a burst wipes out neither.

    header 7 B -> tail-biting code, 144 bits --.
                                               +-> spread_layout (by length alone) -> 18 + n bytes on the air
    payload n B, most important bit first -----'

Reading is a search over what the receiver already knows: a frame's length leaves few codecs and levels, so the first
12 of the header's 56 bits are known up to a handful of hypotheses. Each is one pass of a Viterbi decoder that starts
in a known state. `docs/wire-format.md` gives the format for other implementations, and what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from semantic_codec.errors import InvalidRequest
from semantic_codec.frame_format import Format, Layout, Mode, Received
from semantic_codec.header import (
    OPEN_MODE,
    WIDTHS,
    Header,
    check_holds,
    check_range,
    check_start,
    header_kind,
    pack_header,
    unpack_header,
)
from semantic_codec.header_code import HeaderCode, open_code
from semantic_codec.information_sets import NearDecoder
from semantic_codec.interleave import spread_layout
from semantic_codec.keyed import DeviceKey, KeyedHeader

HEADER_BYTES = 18
HEADER_BITS = 8 * HEADER_BYTES

LIST_SIZE = 4
"""Paths tried per hypothesis: the check picks the right one where damage made another path cheaper."""

OPEN = Mode(OPEN_MODE, HEADER_BYTES, 56, LIST_SIZE, 4, 2, True, 6, 12, 72, open_code)
"""A random block passes the check with 2^-16, so even a frame of noise is taken for a good one with a probability of at
most 6 / 65,536 = 9.2e-5. Noise: 2^56 * V(144, 12) / 2^144 = 4e-10. A cut frame with fewer than 72 header bits leaves
too little to tell 2^44 headers from noise."""


@dataclass(frozen=True)
class WireCodec:
    """What the frame needs to know of a codec: its number, the SHA-256 of its encoder.bin, bytes of each level.

    InvalidRequest: a number over 6 bits, a hash that is not 32 bytes, no level, over 16 levels, or an empty one.
    """

    codec_id: int
    encoder_hash: bytes
    payload_bytes: tuple[int, ...]

    def __post_init__(self) -> None:
        check_range("codec_id", self.codec_id, WIDTHS["codec"])
        check_hash(self.encoder_hash)
        if not 1 <= len(self.payload_bytes) <= 16 or min(self.payload_bytes) < 1:
            raise InvalidRequest(
                f"codec {self.codec_id} has levels of {self.payload_bytes} bytes",
                allowed="1 to 16 levels of at least 1 byte",
                fix="list the payload bytes of each level",
            )


class FrameResult(NamedTuple):
    """What became of a frame.

    outcome: "ok"; "bad_length", no known level has it, nor could it be a cut frame whose header can be read;
    "bad_header", too damaged; or, where a header was read with few enough errors to be sure of it: "unknown_version",
    "unknown_codec", "unknown_level", "encoder_mismatch"; in keyed mode also "unknown_device", "bad_mac".
    header: None where none was read. codec: None unless the check held. payload: None unless ok; it is that of the
    whole level in order of importance. erased: (first bit, count) ranges of the payload that did not arrive and read 0.
    pilot_bits, pilot_errors: header bits that arrived, and those among them that the decoder turned over; 0 of 0 where
    no header was read. key: in keyed mode the one that the check held with.
    """

    outcome: str
    header: Header | KeyedHeader | None = None
    codec: WireCodec | None = None
    payload: bytes | None = None
    erased: tuple[tuple[int, int], ...] = ()
    pilot_bits: int = 0
    pilot_errors: int = 0
    key: DeviceKey | None = None


class Kind(NamedTuple):
    """What `WholeFrame`s of one codec and level have in common; the same object for all of them that one reader reads."""

    codec: WireCodec
    level: int


class WholeFrame(NamedTuple):
    """A frame of open mode that arrived whole and is "ok"; its pilot has HEADER_BITS."""

    kind: Kind
    device: int
    sequence: int
    payload: bytes
    pilot_errors: int

    @property
    def result(self) -> FrameResult:
        header = Header(self.kind.codec.codec_id, self.kind.level, self.device, self.sequence)
        return FrameResult("ok", header, self.kind.codec, self.payload, (), HEADER_BITS, self.pilot_errors)


_whole_frame = partial(tuple.__new__, WholeFrame)


def encode_frame(header: Header, payload: bytes, encoder_hash: bytes, layout: Layout = spread_layout) -> bytes:
    """The frame of one payload: 18 + len(payload) bytes. InvalidRequest: an empty payload, a hash not of 32 bytes."""
    check_hash(encoder_hash)
    if not len(payload):
        raise InvalidRequest("the payload is empty", allowed="1 byte or more", fix="send a level of the codec")
    block = np.frombuffer(pack_header(header, encoder_hash), dtype=np.uint8)
    coded = open_code().encode(np.unpackbits(block)[None])[0]
    bits = np.concatenate([coded, np.unpackbits(np.frombuffer(payload, dtype=np.uint8))])
    return np.packbits(bits[layout(HEADER_BITS, 8 * len(payload))]).tobytes()


class FrameReader:
    """Reads frames of the given codecs; any bytes at all get a `FrameResult`, never an exception.

    Two codecs may share a number, as two versions of one do: the check tells them apart by their encoders, the first
    that fits is taken, and each that shares a number adds its own 2^-16 to the chance of taking noise for a frame.

    Args:
        codecs: what the edge serves. layout: the order of bits on the air.
        code: the header's code; one with use_compiled=False reads without numba, to the same result.
        cut_frames: whether a frame may be a longer one that was cut; else it is read at its own length only.
    """

    mode = OPEN

    def __init__(
        self,
        codecs: Iterable[WireCodec],
        layout: Layout = spread_layout,
        code: HeaderCode | None = None,
        cut_frames: bool = True,
    ):
        self._code = code or self.mode.code()
        self._near = _near_decoder(self._code, self.mode.certain_errors)
        self._cut_frames = cut_frames
        self._codecs: dict[int, list[tuple[WireCodec, int]]] = {}
        prefixes: dict[int, set[tuple[int, int]]] = {}
        for codec in codecs:
            self._codecs.setdefault(codec.codec_id, []).append((codec, check_start(codec.encoder_hash)))
            for level, size in enumerate(codec.payload_bytes):
                prefixes.setdefault(self.mode.header_bytes + size, set()).add((codec.codec_id, level))
        self._formats = {size: Format(size, sorted(prefixes[size]), layout, self.mode) for size in sorted(prefixes)}
        self._kinds = self._kinds_by_size()
        # Compiles or loads the kernels now, so that the first frame need not wait for it.
        self._code.decode(np.zeros((1, self.mode.header_bits)))
        self._near.warm_up()

    @property
    def sizes(self) -> tuple[int, ...]:
        """The lengths that whole frames have, in bytes, ascending."""
        return tuple(self._formats)

    def read(self, frames: Sequence[bytes]) -> list[FrameResult]:
        """The results of a batch, in its order."""
        results = self.read_near(frames)
        damaged = [index for index, result in enumerate(results) if result is None]
        for index, result in zip(damaged, self.search([frames[index] for index in damaged]), strict=True):
            results[index] = result
        return results

    def read_whole(self, frames: Sequence[bytes]) -> list[WholeFrame | None]:
        """What :meth:`read_near` finds to be "ok" in open mode, in a fraction of the time; None for any other frame."""
        results: list[WholeFrame | None] = [None] * len(frames)
        for size, indices in _by_size(frames).items():
            kinds = self._kinds.get(size)
            if kinds is None:
                continue
            joined = np.frombuffer(b"".join([frames[index] for index in indices]), dtype=np.uint8).reshape(-1, size)
            fields, payloads = self._near.read_open(joined, self._formats[size].places)
            numbers, devices, sequences, errors = fields.T.tolist()
            data, width = payloads.tobytes(), payloads.shape[1]
            parts = [data[start : start + width] for start in range(0, len(data), width)]
            columns = zip(map(kinds.get, numbers), devices, sequences, parts, errors)
            for index, found in zip(indices, map(_whole_frame, columns)):
                if found.kind is not None:
                    results[index] = found
        return results

    def read_near(self, frames: Sequence[bytes]) -> list[FrameResult | None]:
        """Results that need no search, in microseconds: None where a header is damaged more, or the frame was cut."""
        results: list[FrameResult | None] = [None] * len(frames)
        for size, indices in _by_size(frames).items():
            format = self._formats.get(size)
            if format is None:
                continue
            joined = np.frombuffer(b"".join([frames[index] for index in indices]), dtype=np.uint8)
            headers, payloads = self._near.unmix(joined.reshape(-1, size), format.places)
            blocks, distances = self._near.decode(headers)
            width, most = blocks.shape[1], self.mode.certain_errors
            blocks, payloads = blocks.tobytes(), payloads.tobytes()
            for row, (index, errors) in enumerate(zip(indices, distances.tolist())):
                if errors <= most:
                    block = blocks[row * width : row * width + width]
                    payload = payloads[row * format.payload_bytes : (row + 1) * format.payload_bytes]
                    results[index] = self._judge(format, block, payload, errors)
        return results

    def search(self, frames: Sequence[bytes]) -> list[FrameResult]:
        """The results of frames of which :meth:`read_near` said nothing."""
        results = [FrameResult("bad_length")] * len(frames)
        for size, indices in _by_size(frames).items():
            found = self._search_size(size, [frames[index] for index in indices])
            for index, result in zip(indices, found, strict=True):
                results[index] = result
        return results

    def _search_size(self, size: int, frames: list[bytes]) -> list[FrameResult]:
        """Frames of one size: read whole where a level has that size, then as longer ones that were cut."""
        exact = self._formats.get(size)
        results: list[FrameResult | None] = [None] * len(frames)
        damaged = np.arange(len(frames))
        if exact is not None:
            self._search([exact], frames, damaged, self.mode.whole_checks, results)
            damaged = _unread(results, damaged)
        longer = [longer for total, longer in self._formats.items() if total > size and self._cut_frames]
        longer = [format for format in longer if format.header_bits_within(size) >= self.mode.least_header_bits]
        self._search(longer, frames, damaged, self.mode.cut_checks, results)
        if exact is not None:
            self._diagnose(exact, frames, _unread(results, damaged), results)
        return [result or FrameResult("bad_length") for result in results]

    def _search(
        self,
        formats: list[Format],
        frames: list[bytes],
        rows: np.ndarray,
        checks: int,
        results: list[FrameResult | None],
    ) -> None:
        """Look for headers that pass their check; fills `results` where one does.

        The candidates of all formats and hypotheses are tried by their share of contradicted bits, `checks` at most.
        """
        if not formats or not len(rows):
            return
        received = [Received(format, [frames[row] for row in rows]) for format in formats]
        infos, shares, sources = [], [], []
        for source, format in enumerate(formats):
            soft = received[source].soft_header()
            for known in format.prefixes:
                repeated = np.broadcast_to(known, (len(rows), len(known)))
                info, costs = self._code.decode_known(soft, repeated, self.mode.list_size)
                costs[costs > self.mode.credible_errors(received[source].pilot_bits)] = np.inf
                infos.append(info)
                shares.append(costs / received[source].pilot_bits)
                sources += [source] * self.mode.list_size
        info, share = np.concatenate(infos, axis=1), np.concatenate(shares, axis=1)
        order = np.argsort(share, axis=1, kind="stable")[:, :checks]
        info = np.take_along_axis(info, order[:, :, None], axis=1)
        blocks = np.packbits(info, axis=2)
        for row, index in enumerate(rows):
            for rank, candidate in enumerate(order[row]):
                if np.isinf(share[row, candidate]):
                    break
                block = blocks[row, rank].tobytes()
                codec, key = self._matching(block)
                if codec is not None:
                    source = received[sources[candidate]]
                    errors = source.errors(row, self._code, block)
                    results[index] = self._result(source, row, self._unpack(block), codec, key, errors)
                    break

    def _diagnose(
        self, format: Format, frames: list[bytes], rows: np.ndarray, results: list[FrameResult | None]
    ) -> None:
        """Say why no header passed: the nearest codeword of all, where it is too near to be chance."""
        if not len(rows):
            return
        received = Received(format, [frames[row] for row in rows])
        info, costs = self._code.decode(received.soft_header())
        for row, index in enumerate(rows):
            if costs[row, 0] <= self.mode.telling_errors:
                block, payload = np.packbits(info[row, 0]).tobytes(), received.payload[row].tobytes()
                results[index] = self._judge(format, block, payload, int(costs[row, 0]))
            else:
                results[index] = FrameResult("bad_header")

    def _kinds_by_size(self) -> dict[int, dict[int, Kind]]:
        """Kinds of open frames by their size and their number; empty in other modes."""
        found: dict[int, dict[int, Kind]] = {}
        if self.mode is not OPEN:
            return found
        for number, codecs in self._codecs.items():
            for codec, start in codecs:
                for level, size in enumerate(codec.payload_bytes):
                    kinds = found.setdefault(self.mode.header_bytes + size, {})
                    kinds.setdefault(header_kind(number, level, start), Kind(codec, level))
        return found

    def _judge(self, format: Format, block: bytes, payload: bytes, errors: int) -> FrameResult:
        """The result of a whole frame whose header is known for certain, good or not."""
        header, (codec, key) = self._unpack(block), self._matching(block)
        codec = codec and self._with_level(codec, header.level, format.payload_bytes)
        if header.version != self.mode.version:
            outcome = "unknown_version"
        elif header.codec not in self._codecs:
            outcome = "unknown_codec"
        elif codec is None:
            outcome = self._mismatch(header)
        elif (outcome := _misfit(codec, header.level, format.payload_bytes)) is None:
            payload = self._open(payload, header, key, ())
            return FrameResult("ok", header, codec, payload, (), format.header_bits, errors, key)
        return FrameResult(outcome, header, codec, None, (), format.header_bits, errors, key)

    def _result(
        self, received: Received, row: int, header: Any, codec: WireCodec, key: DeviceKey | None, errors: int
    ) -> FrameResult:
        codec = self._with_level(codec, header.level, received.format.payload_bytes)
        # The header was searched for among those of all versions: its check may hold for one that has no such level.
        if (outcome := _misfit(codec, header.level, received.format.payload_bytes)) is not None:
            return FrameResult(outcome, header, codec, None, (), received.pilot_bits, errors, key)
        payload = self._open(received.payload[row].tobytes(), header, key, received.erased)
        return FrameResult("ok", header, codec, payload, received.erased, received.pilot_bits, errors, key)

    def _unpack(self, block: bytes) -> Any:
        """The header in a decoded block."""
        return unpack_header(block)

    def _matching(self, block: bytes) -> tuple[WireCodec | None, DeviceKey | None]:
        """The codec that a header's check fits, and in keyed mode the key that it fits, too."""
        for codec, start in self._codecs.get(block[0] & 63, ()):
            if check_holds(block, start):
                return codec, None
        return None, None

    def _with_level(self, codec: WireCodec, level: int, size: int) -> WireCodec:
        """Of the codecs with this one's encoder the first whose ``level`` has ``size`` bytes; where none has, the codec itself."""
        alike = (other for other, _ in self._codecs[codec.codec_id] if other.encoder_hash == codec.encoder_hash)
        return next((other for other in alike if other.payload_bytes[level : level + 1] == (size,)), codec)

    def _mismatch(self, header: Any) -> str:
        """The outcome of a header of a known codec whose check fails."""
        return "encoder_mismatch"

    def _open(
        self, payload: bytes, header: Any, key: DeviceKey | None, erased: tuple[tuple[int, int], ...]
    ) -> bytes:
        """The payload as the device meant it."""
        return payload


@cache
def _misfit(codec: WireCodec, level: int, payload_bytes: int) -> str | None:
    """The outcome of a frame whose level the codec does not have, or not in this length; None: it has."""
    if level >= len(codec.payload_bytes):
        return "unknown_level"
    return None if codec.payload_bytes[level] == payload_bytes else "bad_length"


def _near_decoder(code: HeaderCode, most_errors: int) -> NearDecoder:
    return NearDecoder(code, most_errors)


def _by_size(frames: Sequence[bytes]) -> dict[int, list[int]]:
    """Their places by their length."""
    by_size: dict[int, list[int]] = {}
    for index, frame in enumerate(frames):
        by_size.setdefault(len(frame), []).append(index)
    return by_size


def _unread(results: list[FrameResult | None], rows: np.ndarray) -> np.ndarray:
    """Those of `rows` that have no result yet."""
    return np.array([row for row in rows if results[row] is None], dtype=np.int64)


def check_hash(encoder_hash: bytes) -> None:
    """InvalidRequest: not 32 bytes."""
    if len(encoder_hash) != 32:
        raise InvalidRequest(
            f"the encoder hash has {len(encoder_hash)} bytes", allowed="32", fix="give the SHA-256 digest, not its hex"
        )
