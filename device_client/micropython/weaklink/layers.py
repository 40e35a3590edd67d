"""The layers in small integers: plain bytecode, no allocation, the same bytes as every other implementation.

Activations are int8, [row][column][channel]. Accumulators stay below 2^24 and products below 2^30 (the exporter proves
it from the weights), so nothing here leaves the small integers of a 32-bit MicroPython. Assignments of more than three
values would make a tuple each time, so there are none.

Each position's inputs are gathered first: those that are 0, about half behind a ReLU, and those outside the image
cost nothing in the sums, which then take four outputs at a time.
"""


def convolve(job):
    """A full convolution: the sums of every position, handed to `job.finish`."""
    # The interpreter has its shortest opcodes for a function's first sixteen locals, so the inner loop's come first.
    a0 = a1 = a2 = a3 = i = v = 0
    w0 = w1 = w2 = w3 = None
    index, value = job.index, job.value
    count = o = 0
    sums, rows, source = job.sums, job.rows, job.source
    layer, finish = job.layer, job.finish
    kernel, stride, channels = layer.kernel, layer.stride, layer.inputs
    height, width, out_width = layer.height, layer.width, layer.out_width
    outputs, margin = layer.outputs, layer.kernel // 2
    place = 0
    for out_row in range(layer.out_height):
        top = out_row * stride - margin
        for out_column in range(out_width):
            left = out_column * stride - margin
            first = left if left > 0 else 0
            run = (min(left + kernel, width) - first) * channels
            count = 0
            for tap_row in range(kernel):
                y = top + tap_row
                if 0 <= y < height:
                    o = (y * width + first) * channels
                    skew = (tap_row * kernel + first - left) * channels - o
                    for i in range(o, o + run):
                        v = source[i]
                        if v:
                            index[count] = i + skew
                            value[count] = v
                            count += 1
            for o in range(0, outputs, 4):
                w0 = rows[o]
                w1 = rows[o + 1]
                w2 = rows[o + 2]
                w3 = rows[o + 3]
                a0 = a1 = a2 = a3 = 0
                for k in range(count):
                    i = index[k]
                    v = value[k]
                    a0 += w0[i] * v
                    a1 += w1[i] * v
                    a2 += w2[i] * v
                    a3 += w3[i] * v
                sums[o] = a0
                sums[o + 1] = a1
                sums[o + 2] = a2
                sums[o + 3] = a3
            finish(job, place)
            place += 1


def convolve_depthwise(job):
    """The same, where every channel has its own kernel: weights [kernel][kernel][channel]."""
    acc = k = channel = taps = 0
    index, value, weights = job.index, job.value, job.weights
    sums, source, finish = job.sums, job.source, job.finish
    layer = job.layer
    kernel, stride, channels = layer.kernel, layer.stride, layer.inputs
    height, width, margin = layer.height, layer.width, layer.kernel // 2
    place = 0
    for out_row in range(layer.out_height):
        top = out_row * stride - margin
        for out_column in range(layer.out_width):
            left = out_column * stride - margin
            taps = 0
            for tap in range(kernel * kernel):
                y, x = top + tap // kernel, left + tap % kernel
                if 0 <= y < height and 0 <= x < width:
                    index[taps] = tap * channels
                    value[taps] = (y * width + x) * channels
                    taps += 1
            for channel in range(channels):
                acc = 0
                for k in range(taps):
                    acc += weights[index[k] + channel] * source[value[k] + channel]
                sums[channel] = acc
            finish(job, place)
            place += 1


def requantize(job, place):
    """int8 outputs of one position: ``saturate(((sum + bias) * multiplier + half) >> shift)``, plus the kept input."""
    v = n = o = 0
    sums, start, multiplier = job.sums, job.start, job.multiplier
    shift, low, target = job.shift, job.low, job.target
    kept, outputs = job.kept, job.layer.outputs
    base = place * outputs
    for o in range(outputs):
        n = shift[o]
        v = ((sums[o] + start[o]) * multiplier[o] + (1 << (n - 1))) >> n
        if v > 127:
            v = 127
        elif v < low:
            v = low
        if kept is not None:
            v += kept[base]
            if v > 127:
                v = 127
            elif v < -128:
                v = -128
        target[base] = v
        base += 1


def decide(job, place):
    """Symbols of one position: how many thresholds its sum reaches, through the index map; channel by channel."""
    level = o = 0
    sums, thresholds, index_map = job.sums, job.start, job.shift
    symbols, layer = job.output, job.layer
    steps, positions = job.levels - 1, layer.out_height * layer.out_width
    for o in range(layer.outputs):
        level = 0
        while level < steps and sums[o] >= thresholds[o * steps + level]:
            level += 1
        symbols[o * positions + place] = index_map[level]
