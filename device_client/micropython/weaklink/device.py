"""A device: a codec, a way to the edge, and its own count of images."""

import time

from . import errors
from .bundle import Bundle, cut_to_level, level_of
from .encoder import Encoder
from .frame import ANSWERED, BUSY, SEQUENCES, OpenWire
from .transports import UdpTransport, split_address

_next = {}
"""By device the next image's number. All codecs of a device share it: the edge tells repeats by device and number."""


class Answer:
    """What the edge saw in one image. confidence: 0 to 1. advice: the level to use next, or None."""

    ber_used = source = None  # a raw frame's reply has no room for them

    def __init__(self, class_index, label, confidence, level, sequence, advice, latency_s):
        self.class_index, self.label, self.confidence = class_index, label, confidence
        self.level, self.sequence, self.advice = level, sequence, advice
        self.latency_s = latency_s


class Device:
    """Encodes and sends, one image at a time.

    codec: a :class:`Bundle` or the folder of one. transport: a transport object with settings of its own, or "udp" with
    `address` and the settings of :class:`UdpTransport`. device: 0 to 65535. feedback: the edge's HTTP address, for ground
    truth; token: the device's, where the edge asks for one. first_sequence: the next image's number in open mode, for all
    codecs of this device; by default random at the device's first codec, so that a device that starts again hardly ever
    repeats recent numbers: many boards' clocks begin anew with them. key and sequences: keyed mode, with the device's key
    (64 hexadecimal digits) and the file that keeps its sequences.

    Device("/cifar10", StreamTransport(uart), device=7).infer(image, level=1).label
    """

    def __init__(self, codec, transport, address=None, *, device=1, feedback=None, token=None, first_sequence=None,
                 key=None, sequences=None, **settings):  # fmt: skip
        self.bundle = Bundle(codec) if isinstance(codec, str) else codec
        if not 0 <= device <= 0xFFFF:
            raise errors.InvalidRequest("the device number is %r" % device, "0 to 65535", "number devices in 16 bits")
        self.number = device
        self.encoder = Encoder.from_bundle(self.bundle)
        if isinstance(transport, str):
            if transport != "udp" or address is None:
                raise errors.InvalidRequest(
                    "transport is %r, address %r" % (transport, address),
                    '"udp" with "HOST:PORT", or a transport object',
                    "pass StreamTransport(uart) for a serial line",
                )
            transport = UdpTransport(address, **settings)
        elif address is not None or settings:
            given = sorted(settings) if address is None else ["address"] + sorted(settings)
            raise errors.InvalidRequest(
                "%s given beside a transport object" % ", ".join(given),
                'beside "udp": the object has its own',
                "make the transport with them: StreamTransport(uart, timeout_s=2)",
            )
        self.transport = transport
        self._feedback, self._token = feedback, token
        self._wire = _wire(key, sequences, device)
        if first_sequence is not None or device not in _next:
            _next[device] = (_random() if first_sequence is None else first_sequence) % SEQUENCES

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def infer(self, content, level=None):
        """The edge's answer to one image (RGB bytes) or bitstream (the bytes of a level).

        level: None means the longest for an image, and the one of that length for a bitstream. Raises the edge's
        refusal, :class:`Unavailable`, or :class:`DeadlineExceeded` when no reply came.
        """
        level, payload = self._payload(content, level)
        sequence = _next[self.number]
        _next[self.number] = (sequence + 1) % SEQUENCES
        sent = []

        def next_frame():
            number = self._wire.numbered(sequence)
            if number not in sent:
                sent.append(number)
            return self._wire.frame(self.bundle.codec_id, level.number, number, payload, self.encoder.hash)

        def read(data):
            for number in sent:
                reply = self._wire.read(data, number)
                if reply is not None:
                    return reply

        since = time.ticks_ms()
        reply, attempts = self.transport.exchange(next_frame, read, self._wire.reply_bytes)
        sequence = sent[0] if reply is None else reply.sequence
        if reply is None:
            raise errors.DeadlineExceeded(
                "no reply to frame %d after %d transmissions" % (sequence, attempts),
                "a reply within %s s each" % self.transport.timeout_s,
                "check the line and the edge, or raise timeout_s or retries",
            )
        if reply.status == BUSY:
            raise errors.Unavailable("the edge is busy", "fewer frames", "wait, then send again")
        if reply.status != ANSWERED:
            from .refusals import refusal

            raise refusal(reply.class_index, sequence)
        index, classes = reply.class_index, self.bundle.classes
        label = classes[index] if index < len(classes) else "class %d" % index
        latency_s = time.ticks_diff(time.ticks_ms(), since) / 1000
        return Answer(index, label, reply.confidence, level.number, sequence, reply.advice, latency_s)

    def feedback(self, answer, true_class, task=""):
        """Tell the edge what was in the image; False where it no longer remembers the answer. Needs a network."""
        if self._feedback is None:
            raise errors.InvalidRequest(
                "there is no feedback address", "the edge's HTTP HOST:PORT", 'pass feedback="HOST:PORT"'
            )
        from .feedback import report

        address, name = split_address(self._feedback), self.bundle.name
        return report(address, self.number, answer.sequence, true_class, name, task, self._token)

    def close(self):
        self.transport.close()

    def _payload(self, content, number):
        levels = self.bundle.levels
        if len(content) == self.encoder.height * self.encoder.width * 3:
            level = levels[-1] if number is None else level_of(levels, number)
            return level, self.encoder.bitstream(content, level.number)
        for level in levels if number is None else (level_of(levels, number),):
            if len(content) == level.payload_bytes or number is not None and len(content) > level.payload_bytes:
                return level, cut_to_level(content, level, self.bundle.bits_per_symbol)
        raise errors.InvalidRequest(
            "%d bytes are neither an image nor a bitstream" % len(content),
            "%d, or %s" % (
                self.encoder.height * self.encoder.width * 3,
                ", ".join("%d (level %d)" % (level.payload_bytes, level.number) for level in levels),
            ),
            "pass RGB bytes of the codec's size, or the whole payload of a level",
        )


def _wire(key, sequences, device):
    if key is None and sequences is None:
        return OpenWire(device)
    from .keyed import keyed_wire

    return keyed_wire(key, sequences, device)


def _random():
    try:
        from os import urandom

        return int.from_bytes(urandom(2), "big")
    except ImportError:
        return time.ticks_us()
