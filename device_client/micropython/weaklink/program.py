"""``encoder.bin`` on the file system, read one layer at a time, and the place of each layer's data in one buffer.

The layout is documented where it is written, in ``semantic_codec/encoder_format.py``.
"""

import struct
import sys

from .errors import BundleError, NotFound

FULL, DEPTHWISE = 0, 1
RELU, KEEP_INPUT, ADD_KEPT = 1, 2, 4
_HEAD, _HEAD_BYTES = "<4sBBHHH", 12
_LAYER, _LAYER_BYTES = "<BBBBHH", 8


class Layer:
    """One layer: shape, place of its integers in the file, and offsets into the buffer; kept is None where unused."""

    def __init__(self, height, width, channels, offset):
        """Nothing yet, but the size of the output before the first layer, and where that layer begins."""
        self.out_height, self.out_width, self.outputs, self.behind = height, width, channels, offset
        self.source = self.target = self.weights = 0
        self.kept = None

    def follow(self, fields):
        """Become the next layer."""
        self.height, self.width, self.offset = self.out_height, self.out_width, self.behind + _LAYER_BYTES
        self.kind, self.kernel, self.stride = fields[:3]
        self.flags, self.inputs, self.outputs = fields[3:]
        self.out_height, self.out_width = self._size(self.height), self._size(self.width)
        self.row = self.kernel * self.kernel * (1 if self.kind == DEPTHWISE else self.inputs)
        self.behind = self.offset + padded(self.row * self.outputs)
        self.behind += 4 * self.outputs + padded(2 * self.outputs) + padded(self.outputs)
        self.kept = None

    def _size(self, size):
        return (size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1

    @property
    def input_size(self):
        return self.height * self.width * self.inputs

    @property
    def output_size(self):
        return self.out_height * self.out_width * self.outputs

    @property
    def fours(self):
        """Outputs, rounded up to the four that are summed at a time."""
        return self.outputs + -self.outputs % 4


class Program:
    """The shapes of an encoder file, and the memory that they need. :class:`BundleError` for anything else.

    buffer, row, outputs: the most that any layer needs, in bytes, inputs of one sum, and sums.
    """

    def __init__(self, path):
        if sys.byteorder != "little":
            raise BundleError("this machine stores numbers big end first", "little-endian", "use the Python client")
        self.path = path
        self.buffer = self.row = self.outputs = 0
        with open_file(path) as file:
            end = file.seek(0, 2)
            file.seek(0)
            head = file.read(_HEAD_BYTES)
            if head[:4] != b"WLE1" or len(head) < _HEAD_BYTES:
                raise broken("it begins with %r" % head[:4], "b'WLE1'")
            _, self.bits_per_symbol, self.count, self.height, self.width, channels = struct.unpack(_HEAD, head)
            empty = not (self.count and self.height and self.width)
            if empty or channels != 3 or not 1 <= self.bits_per_symbol <= 8:
                raise broken("its first bytes are %r" % head, "an image of 3 channels, 1 layer or more, 1 to 8 bits")
            self._flags = bytearray(self.count)
            layer = self._start()
            for index in range(self.count):
                self._next(file, index, layer)
                self._flags[index] = layer.flags
            steps = (1 << self.bits_per_symbol) - 1
            size = layer.offset + padded(layer.row * layer.outputs) + 4 * layer.outputs * steps + padded(steps + 1)
            if size != end:
                raise broken("it has %d bytes" % end, "%d" % size)
            for layer in self.layers(file):
                self.buffer = max(self.buffer, layer.weights + layer.fours * layer.row)
                self.buffer = max(self.buffer, layer.source + layer.input_size, layer.target + layer.output_size)
                self.row = max(self.row, layer.kernel * layer.kernel, layer.row)
                self.outputs = max(self.outputs, layer.fours)
        self.symbols = layer.output_size

    def layers(self, file):
        """The layers, one after another in one object, with their places in the buffer: what is needed is spared."""
        layer, source, size = self._start(), 0, self.height * self.width * 3
        kept, kept_size = None, 0
        for index in range(self.count):
            self._next(file, index, layer)
            if layer.flags & KEEP_INPUT:
                kept, kept_size = source, size
            layer.source = source
            taken = [(source, size)]
            if kept is not None and self._added_from(index):
                taken.append((kept, kept_size))
            if layer.flags & ADD_KEPT:
                if kept_size != layer.output_size:
                    raise broken("layer %d adds inputs of another size" % index, "the same shape")
                layer.kept = kept
            if layer.kept is not None and kept != source and not self._added_from(index + 1):
                layer.target = kept  # each output takes the place of the input that was added to it
            elif index < self.count - 1:
                layer.target = _first_gap(taken, layer.output_size)
                taken.append((layer.target, layer.output_size))
            layer.weights = _first_gap(taken, layer.fours * layer.row)
            yield layer
            source, size = layer.target, layer.output_size

    def _start(self):
        return Layer(self.height, self.width, 3, _HEAD_BYTES)

    def _next(self, file, index, layer):
        """Turn a layer into the one behind it. One object serves all, which spares the garbage collector."""
        file.seek(layer.behind)
        fields = file.read(_LAYER_BYTES)
        if len(fields) < _LAYER_BYTES:
            raise broken("it ends before layer %d" % index, "%d layers" % self.count)
        fields = struct.unpack(_LAYER, fields)
        kind, kernel, stride = fields[:3]
        channels, outputs = layer.outputs, fields[5]
        if fields[4] != channels or kind > DEPTHWISE or kernel not in (1, 3, 5, 7) or not stride or not outputs:
            raise broken("layer %d is %r" % (index, fields), "a kernel of 1, 3, 5 or 7 on %d channels" % channels)
        if kind == DEPTHWISE and outputs != channels:
            raise broken("layer %d is depthwise with %d outputs" % (index, outputs), "%d" % channels)
        layer.follow(fields)

    def _added_from(self, index):
        """Whether what is kept now is added at layer `index` or later."""
        for later in range(index, self.count):
            if later > index and self._flags[later] & KEEP_INPUT:
                return False
            if self._flags[later] & ADD_KEPT:
                return True
        return False


def open_file(path):
    """The file, or :class:`NotFound`."""
    try:
        return open(path, "rb")
    except OSError:
        raise NotFound("there is no file %s" % path, "a file of a bundle", "copy the bundle's folder to the board")


def padded(size):
    return size + -size % 4


def fill(file, view, size):
    """Read `size` bytes and their padding."""
    if file.readinto(view) != size:
        raise broken("it ends early", "the size that its layers need")
    file.seek(-size % 4, 1)


def broken(problem, allowed):
    return BundleError("encoder.bin is damaged: " + problem, allowed, "copy it to the board again")


def _first_gap(taken, size):
    """The lowest offset with `size` bytes free of the (offset, size) ranges that are taken."""
    place = 0
    for offset, length in sorted(taken):
        if offset >= place + size:
            break
        place = max(place, offset + length)
    return place
