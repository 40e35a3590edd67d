"""Runs ``encoder.bin`` in the C library, where the firmware was built with it (module _weaklink)."""

from _weaklink import Encoder

from .errors import BundleError
from .program import open_file


class NativeEncoder:
    """The counterpart of :class:`PlainEncoder`. It needs the file in memory, or in a ROM file system."""

    def __init__(self, path):
        with open_file(path) as file:
            try:
                program = memoryview(file)
            except TypeError:
                program = file.read()
        try:
            self._encoder = Encoder(program)
        except ValueError as problem:
            raise BundleError("encoder.bin is damaged: %s" % problem, "a whole one", "copy it to the board again")
        shape = self._encoder.shape()
        self.height, self.width = shape[0], shape[1]
        self.symbols, self.bits_per_symbol = shape[2], shape[3]
        self._bitstream = bytearray(shape[4])

    def steps(self, image):
        """All layers in one step."""
        self._encoder.run(image, self._bitstream)
        yield

    def bitstream(self):
        """All symbols of the last image, packed."""
        return bytes(self._bitstream)
