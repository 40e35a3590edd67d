"""The encoder as a device uses it: one image in, symbols or payload bytes out."""

from .bundle import Bundle, cut_to_level, file_hash, level_of
from .errors import InvalidRequest
from .plain import PlainEncoder
from .program import Program


class Encoder:
    """Integer encoder of one codec. `levels` is empty for a bare ``encoder.bin``.

    Encoder.from_bundle("/digits").bitstream(image, level=0)
    """

    def __init__(self, engine, hash, levels=()):
        self._engine = engine
        self.hash, self.levels = hash, levels
        self.height, self.width = engine.height, engine.width
        self.symbols, self.bits_per_symbol = engine.symbols, engine.bits_per_symbol

    @classmethod
    def from_bundle(cls, bundle):
        """The encoder of a :class:`Bundle`, or of the bundle in that folder."""
        if isinstance(bundle, str):
            bundle = Bundle(bundle)
        return cls(PlainEncoder(Program(bundle.encoder_path)), bundle.encoder_hash, bundle.levels)

    @classmethod
    def from_file(cls, path):
        """A bare ``encoder.bin``: it knows no levels, so :meth:`bitstream` gives all symbols."""
        return cls(PlainEncoder(Program(path)), file_hash(path))

    def steps(self, image):
        """Encode layer by layer, yielding between them, so that a slow board can do other things in the meantime:

        for _ in encoder.steps(image):
            watchdog.feed()
        payload = encoder.result(level=0)
        """
        if len(image) != self.height * self.width * 3:
            raise InvalidRequest(
                "the image has %d bytes" % len(image),
                "%d: %d x %d RGB" % (self.height * self.width * 3, self.height, self.width),
                "convert to 8-bit RGB and resize (weaklink.image)",
            )
        return self._engine.steps(image)

    def encode(self, image):
        """RGB bytes, height x width x 3 -> all symbols, one a byte, most important first."""
        for _ in self.steps(image):
            pass
        return bytes(self._engine.output)

    def bitstream(self, image, level=None):
        """The payload of one image at a level; None means the longest."""
        for _ in self.steps(image):
            pass
        return self.result(level)

    def result(self, level=None):
        """The payload of the image that was encoded last."""
        if level is not None:
            level = level_of(self.levels, level)
        payload = pack_symbols(self._engine.output, self.bits_per_symbol)
        return payload if level is None else cut_to_level(payload, level, self.bits_per_symbol)


def pack_symbols(symbols, bits):
    """Symbols one after another, most significant bit first: bytes, the last one filled up with zeros."""
    packed = bytearray((len(symbols) * bits + 7) // 8)
    place = 0
    for symbol in symbols:
        for shift in range(bits - 1, -1, -1):
            if symbol >> shift & 1:
                packed[place >> 3] |= 128 >> (place & 7)
            place += 1
    return bytes(packed)
