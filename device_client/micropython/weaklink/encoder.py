"""The encoder as a device uses it: one image in, symbols or payload bytes out."""

from .bundle import Bundle, cut_to_level, file_hash, level_of
from .errors import InvalidRequest
from .plain import PlainEncoder
from .program import Program


class Encoder:
    """Integer encoder of one codec. `levels` is empty for a bare ``encoder.bin``; `native` tells whether C runs it.

    Encoder.from_bundle("/digits").bitstream(image, level=0)
    """

    def __init__(self, engine, hash, levels=()):
        self._engine = engine
        self.native = not isinstance(engine, PlainEncoder)
        self.hash, self.levels = hash, levels
        self.height, self.width = engine.height, engine.width
        self.symbols, self.bits_per_symbol = engine.symbols, engine.bits_per_symbol

    @classmethod
    def from_bundle(cls, bundle, plain=False):
        """The encoder of a :class:`Bundle`, or of the bundle in that folder. plain: never the C module."""
        if isinstance(bundle, str):
            bundle = Bundle(bundle)
        return cls(_engine(bundle.encoder_path, plain), bundle.encoder_hash, bundle.levels)

    @classmethod
    def from_file(cls, path, plain=False):
        """A bare ``encoder.bin``: it knows no levels, so :meth:`bitstream` gives all symbols."""
        return cls(_engine(path, plain), file_hash(path))

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
        return unpack_symbols(self._engine.bitstream(), self.symbols, self.bits_per_symbol)

    def bitstream(self, image, level=None):
        """The payload of one image at a level; None means the longest."""
        for _ in self.steps(image):
            pass
        return self.result(level)

    def result(self, level=None):
        """The payload of the image that was encoded last."""
        if level is not None:
            level = level_of(self.levels, level)
        elif self.levels:
            level = self.levels[-1]
        payload = self._engine.bitstream()
        return payload if level is None else cut_to_level(payload, level, self.bits_per_symbol)


def _engine(path, plain):
    """The C library's encoder where the firmware has it and the file fits into memory, else the one in bytecode."""
    if not plain:
        try:
            from .native import NativeEncoder

            return NativeEncoder(path)
        except (ImportError, MemoryError):
            pass
    return PlainEncoder(Program(path))


def unpack_symbols(packed, count, bits):
    """The first `count` symbols of a bitstream, one a byte."""
    symbols = bytearray(count)
    for index in range(count):
        value = 0
        for place in range(index * bits, index * bits + bits):
            value = value << 1 | packed[place >> 3] >> (7 - (place & 7)) & 1
        symbols[index] = value
    return bytes(symbols)
