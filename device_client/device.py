"""A device: a codec, a way to the edge, and its own count of images."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from device_client.encoder import Encoder, cut_to_level, level_of
from device_client.messages import Answer, Delivery, Request
from device_client.transports import Transport, create_transport
from semantic_codec.bundle import Bundle, Level, find_bundle
from semantic_codec.errors import InvalidRequest
from semantic_codec.header import SEQUENCES

if TYPE_CHECKING:  # loads gRPC, which raw frames do without
    from device_client.credentials import Credentials

LARGEST_DEVICE = 0xFFFF
SEQUENCES_PER_S = 128
"""Of open mode's numbers by the clock: they come round after 32 s, when the edge has forgotten the earlier ones."""

AHEAD = 64
"""Numbers among which the edge looks for a repeat."""

_latest: dict[int, int] = {}
"""By device the latest number that this process took from the clock: several Device objects may be of one device."""


@dataclass(frozen=True)
class Sample:
    """Something to send: an image uint8 (H, W, 3), or the bytes of a bitstream; label is the true class if known."""

    content: np.ndarray | bytes
    label: int | None = None
    name: str = ""


class Device:
    """Encodes and sends, one image at a time (:meth:`infer`) or many under way at once (:meth:`stream`).

    codec: a bundle or the name of one. transport: a :class:`Transport` with settings of its own, or "udp", "serial" or
    "grpc" with `address` and the transport's settings; `key` and `sequences` among them are those of keyed mode. device:
    0 to 65535. feedback: the edge's gRPC address, for ground truth; feedback_credentials: token and TLS there, by default
    those of a gRPC transport. first_sequence: the first image's number; by default numbers follow the clock where they
    come round, so that a device that starts again does not repeat recent ones.

    >>> with Device("cifar10", "udp", "192.168.1.10:50052", retries=3) as camera:  # doctest: +SKIP
    ...     camera.infer(image, level=1)
    """

    def __init__(
        self,
        codec: Bundle | str,
        transport: Transport | str,
        address: str | None = None,
        *,
        device: int = 1,
        feedback: str | None = None,
        feedback_credentials: Credentials | None = None,
        first_sequence: int | None = None,
        **settings,
    ):
        self.bundle = find_bundle(codec) if isinstance(codec, str) else codec
        self.encoder = Encoder.from_bundle(self.bundle)
        self.number = _checked_number(device)
        if isinstance(transport, str):
            if address is None:
                raise InvalidRequest(
                    f"there is no address for {transport}", allowed="HOST:PORT", fix="pass address, or a transport object"
                )
            transport = create_transport(transport, address, **settings)
        elif given := settings if address is None else {"address": address, **settings}:
            fix = f"{type(transport).__name__}({', '.join(f'{name}=...' for name in given)})"
            raise InvalidRequest(
                f"{', '.join(given)} given beside a transport object",
                allowed="beside the name of a transport: the object has its own",
                fix=f"make the transport with them: {fix}",
            )
        self.transport = transport
        self._numbers = _numbers(device, first_sequence, 1 << transport.sequence_bits)
        self._feedback_address, self._feedback_credentials, self._feedback = feedback, feedback_credentials, None

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def infer(
        self,
        content: np.ndarray | bytes,
        level: int | None = None,
        ber_estimate: float | None = None,
        erased: tuple[tuple[int, int], ...] = (),
    ) -> Answer:
        """The edge's answer to one image or bitstream.

        level: None means the longest for an image, and the one of that length for a bitstream; a longer bitstream is
        cut to the level. ber_estimate and erased (first bit, count): gRPC only, a raw frame has no field for them.
        Raises the edge's refusal, :class:`Unavailable`, or :class:`DeadlineExceeded` when no answer came.
        """
        delivery = self.transport.infer(self.request(content, level, ber_estimate, erased))
        if delivery.error is not None:
            raise delivery.error
        return self._named(delivery).answer

    def stream(
        self,
        samples: Iterable[Sample],
        level: int | None = None,
        ber_estimate: float | None = None,
        *,
        window: int = 32,
        rate: float | None = None,
    ) -> Iterator[tuple[Sample, Delivery]]:
        """Send many with up to `window` under way and at most `rate` per second; yields each as it ends.

        Failures are part of the deliveries: nothing is raised for a lost frame or a refused request. A sample is taken
        when it can be sent; while `samples` waits for one, answers wait, too.
        """
        under_way: dict[int, Sample] = {}

        def requests() -> Iterator[Request]:
            for sample in samples:
                request = self.request(sample.content, level, ber_estimate)
                while request.sequence in under_way:  # it has come round while an early one is still waited for
                    request = replace(request, sequence=next(self._numbers))
                under_way[request.sequence] = sample
                yield request

        for delivery in self.transport.stream(requests(), window=window, rate=rate):
            yield under_way.pop(delivery.request.sequence), self._named(delivery)

    def feedback(self, answer: Answer, true_class: int, task: str = "") -> bool:
        """Tell the edge what was in the image; False where it no longer remembers the answer."""
        if self._feedback is None:
            address = self._feedback_address or getattr(self.transport, "feedback_address", None)
            if address is None:
                raise InvalidRequest(
                    "there is no feedback address",
                    allowed="the edge's gRPC HOST:PORT",
                    fix='pass feedback="HOST:PORT": raw frames do not carry ground truth',
                )
            from device_client.credentials import Credentials
            from device_client.feedback import Feedback

            credentials = self._feedback_credentials or getattr(self.transport, "credentials", Credentials())
            self._feedback = Feedback(address, credentials=credentials)
        return self._feedback.report(
            self.number, answer.sequence, true_class, codec=self.bundle.manifest.name, task=task
        )

    def request(
        self,
        content: np.ndarray | bytes,
        level: int | None = None,
        ber_estimate: float | None = None,
        erased: tuple[tuple[int, int], ...] = (),
    ) -> Request:
        """The request for one image or bitstream; takes the next sequence number."""
        manifest = self.bundle.manifest
        if isinstance(content, bytes | bytearray):
            chosen = self._level_of_bitstream(len(content), level)
            payload = cut_to_level(bytes(content), chosen, manifest.bits_per_symbol)
        else:
            chosen = manifest.levels[-1] if level is None else level_of(manifest.levels, level)
            payload = self.encoder.bitstream(content, chosen.number)
        if ber_estimate is not None and not 0 <= ber_estimate <= 0.5:
            raise InvalidRequest(
                f"ber_estimate is {ber_estimate}", allowed="0 to 0.5", fix="leave it out when it is not known"
            )
        return Request(
            manifest.name,
            manifest.codec_id,
            manifest.version,
            chosen.number,
            payload,
            self.encoder.hash,
            self.number,
            next(self._numbers),
            ber_estimate,
            tuple(erased),
        )

    def close(self) -> None:
        self.transport.close()
        if self._feedback is not None:
            self._feedback.close()

    def _level_of_bitstream(self, length: int, level: int | None) -> Level:
        levels = self.bundle.manifest.levels
        if level is None:
            fitting = [candidate for candidate in levels if candidate.payload_bytes == length]
        else:
            fitting = [candidate for candidate in [level_of(levels, level)] if candidate.payload_bytes <= length]
        if not fitting:
            raise InvalidRequest(
                f"the bitstream has {length} bytes",
                allowed=", ".join(f"{each.payload_bytes} (level {each.number})" for each in levels),
                fix="send the whole payload of a level",
            )
        return fitting[0]

    def _named(self, delivery: Delivery) -> Delivery:
        """With the label, which a raw frame's reply has no room for."""
        if delivery.answer is None or delivery.answer.label:
            return delivery
        classes = self.bundle.manifest.tasks[0].classes
        index = delivery.answer.class_index
        label = classes[index] if index < len(classes) else f"class {index}"
        return replace(delivery, answer=replace(delivery.answer, label=label))


def _numbers(device: int, first: int | None, count: int) -> Iterator[int]:
    """Of a device's images, modulo `count`: from the first on, or by the clock where they come round soon."""
    if first is None and count <= SEQUENCES:
        while True:
            now = int(time.time() * SEQUENCES_PER_S)
            number = max(_latest.get(device, 0) + 1, now)
            if AHEAD <= number - now < 2 * AHEAD:  # who sends faster goes elsewhere: the next process will begin by the clock
                number += AHEAD + secrets.randbelow(count - 3 * AHEAD)
            _latest[device] = number
            yield number % count
    number = secrets.randbelow(SEQUENCES) if first is None else first
    while True:
        yield number
        number = (number + 1) % count


def _checked_number(device: int) -> int:
    if not (isinstance(device, int) and 0 <= device <= LARGEST_DEVICE):
        raise InvalidRequest(
            f"the device number is {device!r}", allowed=f"0 to {LARGEST_DEVICE}", fix="number your devices in 16 bits"
        )
    return device
