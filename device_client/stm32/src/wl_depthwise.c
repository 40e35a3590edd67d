/* Depthwise convolutions, four channels at a time: a ring of as many widened rows as the kernel is high passes over the
 * map, so that the output may be written over the input.
 *
 * A quad is two words, channels 0 and 2, channels 1 and 3, of 16 bits each. */
#include <stddef.h>

#include "wl_bytes.h"
#include "wl_layers.h"
#include "wl_simd.h"

enum { CHANNELS = 4 };

typedef struct {
    uint32_t even, odd;
} quad;

/* How sums become bytes, for four channels. */
typedef struct {
    int32_t bias[CHANNELS], multiplier[CHANNELS], half[CHANNELS];
    uint8_t shift[CHANNELS];
} scaling;

/* Up to four bytes at `from`, 0 for the channels that do not exist. */
static inline uint32_t read_channels(const uint8_t *from, uint32_t channels)
{
    if (channels == CHANNELS) return wl_read32(from);
    uint32_t word = 0;
    for (uint32_t channel = 0; channel < channels; channel++) word |= (uint32_t)from[channel] << 8 * channel;
    return word;
}

static inline uint32_t flip_mask(uint8_t flip, uint32_t channels)
{
    return (flip * 0x01010101u) & (0xffffffffu >> 8 * (CHANNELS - channels));
}

static void load_row(const wl_work *work, quad *ring, uint32_t pitch, uint32_t y, uint32_t first, uint32_t channels)
{
    const uint32_t kernel = work->layer->kernel, margin = kernel / 2u, inputs = work->layer->inputs;
    const uint32_t flip = flip_mask(work->input_flip, channels);
    const bool inside = y >= margin && y - margin < work->height;
    quad *to = ring + (size_t)(y % kernel) * pitch + margin;
    const uint8_t *from = work->input + (inside ? (size_t)(y - margin) * work->width * inputs : 0) + first;
    for (uint32_t x = 0; x < work->width; x++, from += inputs, to++) {
        const uint32_t word = inside ? read_channels(from, channels) ^ flip : 0;
        to->even = wl_even(word);
        to->odd = wl_odd(word);
    }
}

static void load_scaling(const wl_layer *layer, uint32_t first, uint32_t channels, scaling *scale)
{
    for (uint32_t channel = 0; channel < CHANNELS; channel++) {
        const size_t output = first + (channel < channels ? channel : 0);
        scale->bias[channel] = wl_read_signed32(layer->bias + 4 * output);
        scale->multiplier[channel] = (int32_t)wl_read16(layer->multiplier + 2 * output);
        scale->shift[channel] = layer->shift[output];
        scale->half[channel] = (int32_t)(1u << (layer->shift[output] - 1u));
    }
}

static inline void add_tap(quad pixel, quad weight, int32_t sums[CHANNELS])
{
    sums[0] = wl_low_product(pixel.even, weight.even, sums[0]);
    sums[1] = wl_low_product(pixel.odd, weight.odd, sums[1]);
    sums[2] = wl_high_product(pixel.even, weight.even, sums[2]);
    sums[3] = wl_high_product(pixel.odd, weight.odd, sums[3]);
}

/* Sums of one output pixel. rows: the ring's rows from the top one; x: the first column of them that it needs. */
static inline void sum_taps(const quad *const *rows, const quad *weights, uint32_t kernel, uint32_t x, int32_t sums[CHANNELS])
{
    for (uint32_t ky = 0; ky < kernel; ky++)
        for (uint32_t kx = 0; kx < kernel; kx++) add_tap(rows[ky][x + kx], weights[ky * kernel + kx], sums);
}

/* The common kernel, written out: loops would cost as much as the products. */
static inline void sum_three_by_three(const quad *top, const quad *middle, const quad *bottom, const quad *weights,
                                      int32_t sums[CHANNELS])
{
    add_tap(top[0], weights[0], sums);
    add_tap(top[1], weights[1], sums);
    add_tap(top[2], weights[2], sums);
    add_tap(middle[0], weights[3], sums);
    add_tap(middle[1], weights[4], sums);
    add_tap(middle[2], weights[5], sums);
    add_tap(bottom[0], weights[6], sums);
    add_tap(bottom[1], weights[7], sums);
    add_tap(bottom[2], weights[8], sums);
}

static inline int32_t rescale(const scaling *scale, uint32_t channel, int32_t sum)
{
    return (sum * scale->multiplier[channel] + scale->half[channel]) >> scale->shift[channel];
}

/* Whatever the layer wants of the sums of one pixel. */
static void put_any(const wl_work *work, const scaling *scale, uint32_t first, uint32_t channels, uint32_t map_pixels,
                    size_t pixel, const int32_t sums[CHANNELS])
{
    const wl_layer *layer = work->layer;
    for (uint32_t channel = 0; channel < channels; channel++) {
        const size_t place = pixel * layer->outputs + first + channel;
        if (layer->last) {
            wl_put_symbol(work, first + channel, (first + channel) * map_pixels + (uint32_t)pixel, sums[channel]);
            continue;
        }
        int32_t value = rescale(scale, channel, sums[channel]);
        value = layer->flags & WL_RELU ? wl_unsigned7(value) : wl_signed8(value);
        if (layer->flags & WL_ADD_KEPT) value = wl_signed8(value + (int8_t)(work->kept[place] ^ work->kept_flip));
        work->output[place] = (uint8_t)value;
    }
}

/* One row of a 3x3 kernel with a ReLU behind it, four channels of it. */
static void run_row(const quad *const *rows, const quad *weights, const scaling *scale, uint32_t count, uint32_t stride,
                    uint32_t outputs, uint8_t *to)
{
    const quad *top = rows[0], *middle = rows[1], *bottom = rows[2];
    for (; count > 0; count--, to += outputs, top += stride, middle += stride, bottom += stride) {
        int32_t sums[CHANNELS] = {scale->bias[0], scale->bias[1], scale->bias[2], scale->bias[3]};
        sum_three_by_three(top, middle, bottom, weights, sums);
        to[0] = (uint8_t)wl_unsigned7(rescale(scale, 0, sums[0]));
        to[1] = (uint8_t)wl_unsigned7(rescale(scale, 1, sums[1]));
        to[2] = (uint8_t)wl_unsigned7(rescale(scale, 2, sums[2]));
        to[3] = (uint8_t)wl_unsigned7(rescale(scale, 3, sums[3]));
    }
}

static void run_channels(const wl_work *work, uint32_t first, uint32_t channels)
{
    const wl_layer *layer = work->layer;
    const uint32_t kernel = layer->kernel, margin = kernel / 2u, stride = layer->stride;
    const uint32_t pitch = work->width + 2u * margin;
    const uint32_t out_height = wl_output_size(work->height, layer), out_width = wl_output_size(work->width, layer);
    quad *weights = (quad *)work->scratch, *ring = weights + (size_t)kernel * kernel;
    scaling scale = {{0}, {0}, {0}, {0}};
    if (!layer->last) load_scaling(layer, first, channels, &scale);
    for (uint32_t tap = 0; tap < kernel * kernel; tap++) {
        const uint32_t word = read_channels(layer->weights + (size_t)tap * layer->outputs + first, channels);
        weights[tap].even = wl_even(word);
        weights[tap].odd = wl_odd(word);
    }
    for (uint32_t place = 0; place < kernel * pitch; place++) ring[place].even = ring[place].odd = 0;
    const bool common = kernel == 3 && channels == CHANNELS && !layer->last && (layer->flags & WL_RELU);
    uint32_t loaded = 0;
    size_t pixel = 0;
    for (uint32_t y = 0; y < out_height; y++) {
        const uint32_t top = y * stride;
        if (loaded < top) loaded = top;
        for (; loaded < top + kernel; loaded++) load_row(work, ring, pitch, loaded, first, channels);
        const quad *rows[7] = {ring};
        for (uint32_t ky = 0; ky < kernel; ky++) rows[ky] = ring + (size_t)((top + ky) % kernel) * pitch;
        if (common) {
            run_row(rows, weights, &scale, out_width, stride, layer->outputs, work->output + pixel * layer->outputs + first);
            pixel += out_width;
            continue;
        }
        for (uint32_t x = 0; x < out_width; x++, pixel++) {
            int32_t sums[CHANNELS] = {scale.bias[0], scale.bias[1], scale.bias[2], scale.bias[3]};
            sum_taps(rows, weights, kernel, x * stride, sums);
            put_any(work, &scale, first, channels, out_height * out_width, pixel, sums);
        }
    }
}

void wl_run_depthwise(const wl_work *work)
{
    const uint32_t inputs = work->layer->inputs;
    for (uint32_t first = 0; first < inputs; first += CHANNELS)
        run_channels(work, first, inputs - first < CHANNELS ? inputs - first : CHANNELS);
}
