"""Time and heap per image on this board: ``mpremote run measure.py``, with the bundle to measure in BUNDLE."""

import gc
import sys
import time

from weaklink import Encoder

BUNDLE, IMAGES = "digits", 5


def main():
    encoder = Encoder.from_bundle(BUNDLE)
    image = bytearray(encoder.height * encoder.width * 3)
    value, times, peak = 1, [], 0
    for _ in range(IMAGES):
        for place in range(len(image)):
            value = value * 75 % 65537  # noise: no input is quicker to encode than another by being 0
            image[place] = value & 255
        gc.collect()
        since = time.ticks_us()
        for _ in encoder.steps(image):
            peak = max(peak, gc.mem_alloc())
        times.append(time.ticks_diff(time.ticks_us(), since))
    print(
        "%s, MicroPython %s on %s: %s; fastest %d ms, slowest %d ms an image; heap %d bytes after a layer at most"
        % (
            BUNDLE,
            ".".join(str(part) for part in sys.implementation[1][:3]),
            sys.platform,
            "C module" if encoder.native else "plain path",
            min(times) // 1000,
            max(times) // 1000,
            peak,
        )
    )


main()
