"""Runs ``encoder.bin`` in plain MicroPython, one layer in memory at a time."""

import gc
from array import array

from .layers import convolve, convolve_depthwise, decide, requantize
from .program import ADD_KEPT, DEPTHWISE, RELU, fill, open_file


class PlainEncoder:
    """The encoder of a :class:`Program`, and all the memory that it works in, allocated here once.

    One buffer of int8 holds a layer's input, output, weights and the input that is kept for a later addition.
    """

    def __init__(self, program):
        gc.collect()
        self.program = program
        self.height, self.width = program.height, program.width
        self.symbols, self.bits_per_symbol = program.symbols, program.bits_per_symbol
        self._buffer = memoryview(_zeros("b", program.buffer))
        outputs, steps = program.outputs, (1 << program.bits_per_symbol) - 1
        self.start = _zeros("i", outputs * steps)  # biases; in the last layer thresholds
        self.sums = _zeros("i", outputs)
        self.multiplier = _zeros("H", outputs)
        self.shift = bytearray(max(outputs, steps + 1))  # in the last layer the index map
        self.index = _zeros("i", program.row)
        self.value = _zeros("i", program.row)
        self.rows = [None] * outputs
        self.output = bytearray(program.symbols)

    def steps(self, image):
        """Encode RGB bytes, rows from the top, one layer at a time; yields after each. The symbols are in `output`."""
        source = self._buffer
        for place in range(self.height * self.width * 3):
            source[place] = image[place] - 128
        last = self.program.count - 1
        with open_file(self.program.path) as file:
            for index, layer in enumerate(self.program.layers(file)):
                self._load(file, layer, index == last)
                if layer.kind == DEPTHWISE:
                    convolve_depthwise(self)
                else:
                    convolve(self)
                for row in range(len(self.rows)):
                    self.rows[row] = None
                gc.collect()
                yield

    def bitstream(self):
        """All symbols of the last image, one after another, most significant bit first; zeros fill the last byte."""
        bits = self.bits_per_symbol
        packed = bytearray((self.symbols * bits + 7) // 8)
        place = 0
        for symbol in self.output:
            for shift in range(bits - 1, -1, -1):
                if symbol >> shift & 1:
                    packed[place >> 3] |= 128 >> (place & 7)
                place += 1
        return bytes(packed)

    def _load(self, file, layer, last):
        buffer, outputs = self._buffer, layer.outputs
        self.layer = layer
        self.source, self.target, self.weights = buffer[layer.source :], buffer[layer.target :], buffer[layer.weights :]
        self.kept = buffer[layer.kept :] if layer.flags & ADD_KEPT else None
        self.low = 0 if layer.flags & RELU else -128
        self.levels = 1 << self.bits_per_symbol
        file.seek(layer.offset)
        fill(file, self.weights[: layer.row * outputs], layer.row * outputs)
        if last:
            size = outputs * (self.levels - 1)
            fill(file, memoryview(self.start)[:size], 4 * size)
            fill(file, memoryview(self.shift)[: self.levels], self.levels)
            self.finish = decide
        else:
            fill(file, memoryview(self.start)[:outputs], 4 * outputs)
            fill(file, memoryview(self.multiplier)[:outputs], 2 * outputs)
            fill(file, memoryview(self.shift)[:outputs], outputs)
            self.finish = requantize
        if layer.kind != DEPTHWISE:
            # Rows behind the last hold anything: they are summed with the rest, and nobody looks at the sums.
            for output in range(layer.fours):
                self.rows[output] = self.weights[output * layer.row : (output + 1) * layer.row]


def _zeros(typecode, count):
    """An array, grown in place: made from as many bytes, it would need its size twice."""
    grown, some = array(typecode), array(typecode, bytes(512))
    while len(grown) < count:
        grown.extend(memoryview(some)[: min(len(some), count - len(grown))])
    return grown
