"""Camera frames of any size for a codec's input, in the integers of ``semantic_codec/image.py``.

Rows come one at a time, so a whole frame need never be in memory: 96 x 96 RGB565 has 18 KB, QVGA 150 KB.
"""

from array import array

from .errors import InvalidRequest


class Fitter:
    """Cuts the middle out at the wanted aspect ratio and shrinks it by averaging, rounded half up.

    rows, columns: the camera's. height, width: the codec's. rgb565: two bytes a pixel, the high byte first as camera
    sensors send them (`swapped` for the low byte first), instead of three.

    fitter = Fitter(240, 320, 32, 32, rgb565=True)
    for row in range(240):
        fitter.add(camera.read_line())
    encoder.bitstream(fitter.image)
    fitter.restart()
    """

    def __init__(self, rows, columns, height, width, rgb565=False, swapped=False):
        if not (1 <= height <= rows and 1 <= width <= columns):
            raise InvalidRequest(
                "%d x %d is smaller than %d x %d" % (rows, columns, height, width), "a larger frame", "set the camera"
            )
        self._height, self._width, self._rgb565, self._swapped = height, width, rgb565, swapped
        self._rows, self._columns = rows, columns
        self._cut_rows = min(rows, max(1, columns * height // width))
        self._cut_columns = min(columns, max(1, rows * width // height))
        self._top, self._left = (rows - self._cut_rows) // 2, (columns - self._cut_columns) // 2
        self._sums = array("i", bytes(4 * 3 * width))
        self.image = bytearray(3 * height * width)
        self.restart()

    def restart(self):
        """Begin the next frame."""
        self._row = self._out = 0
        for place in range(len(self._sums)):
            self._sums[place] = 0

    def add(self, line):
        """The next row of the frame: columns x 3 bytes RGB, or columns x 2 bytes RGB565."""
        if len(line) != self._columns * (2 if self._rgb565 else 3):
            raise InvalidRequest("the row has %d bytes" % len(line), "%d pixels" % self._columns, "pass whole rows")
        if self._row == self._rows:
            raise InvalidRequest("a row too many", "%d rows a frame" % self._rows, "call restart() before the next frame")
        row = self._row - self._top
        self._row += 1
        if not 0 <= row < self._cut_rows:
            return
        if self._rgb565:
            self._add_rgb565(line)
        else:
            self._add_rgb(line)
        last = (self._out + 1) * self._cut_rows // self._height
        if row + 1 == last:
            self._finish(last - self._out * self._cut_rows // self._height)

    def _add_rgb(self, line):
        sums, cut, width = self._sums, self._cut_columns, self._width
        place, edge, out = 3 * self._left, 0, 0
        for column in range(cut):
            while column >= edge:
                out += 3
                edge = out // 3 * cut // width
            sums[out - 3] += line[place]
            sums[out - 2] += line[place + 1]
            sums[out - 1] += line[place + 2]
            place += 3

    def _add_rgb565(self, line):
        sums, cut, width = self._sums, self._cut_columns, self._width
        low = 0 if self._swapped else 1
        place, edge, out = 2 * self._left, 0, 0
        for column in range(cut):
            while column >= edge:
                out += 3
                edge = out // 3 * cut // width
            pixel = line[place + 1 - low] << 8 | line[place + low]
            red = pixel >> 11
            green = pixel >> 5 & 63
            blue = pixel & 31
            sums[out - 3] += red << 3 | red >> 2
            sums[out - 2] += green << 2 | green >> 4
            sums[out - 1] += blue << 3 | blue >> 2
            place += 2

    def _finish(self, rows):
        """One row of the result is complete: sums to means."""
        sums, cut, width = self._sums, self._cut_columns, self._width
        base = 3 * width * self._out
        for out in range(width):
            area = rows * ((out + 1) * cut // width - out * cut // width)
            for place in range(3 * out, 3 * out + 3):
                self.image[base + place] = (sums[place] + area // 2) // area
                sums[place] = 0
        self._out += 1
