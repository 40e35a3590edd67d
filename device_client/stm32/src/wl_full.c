/* Full convolutions: four output pixels at a time are widened into columns of 16 bits, and each output channel's weights
 * are read once for the four.
 *
 * Columns: word 8 g + p holds taps 4g and 4g + 2 of pixel p, word 8 g + 4 + p taps 4g + 1 and 4g + 3. */
#include <stddef.h>

#include "wl_bytes.h"
#include "wl_layers.h"
#include "wl_simd.h"

enum { PIXELS = 4, WORDS_PER_GROUP = 8 };
typedef enum { MODE_RELU, MODE_SIGNED, MODE_ADD, MODE_LATENT } output_mode;

/* sums[p] += weights . column p, over `taps` products, a multiple of 8. Reads up to 7 weights behind the row, which meet
 * zeros: every program has 8 bytes or more behind its last weight. */
static inline void multiply(const uint8_t *weights, const uint32_t *columns, uint32_t taps, int32_t sums[PIXELS])
{
#if WL_DSP
    int32_t sum0 = sums[0], sum1 = sums[1], sum2 = sums[2], sum3 = sums[3];
    const uint32_t *end = columns + (size_t)taps / 4 * WORDS_PER_GROUP;
    uint32_t word, pair;
#define WL_GROUP                                  \
    "ldr %[word], [%[weights]], #4\n\t"           \
    "ldmia %[columns]!, {r4, r5, r6, r8}\n\t"     \
    "sxtb16 %[pair], %[word]\n\t"                 \
    "smlad %[sum0], %[pair], r4, %[sum0]\n\t"     \
    "smlad %[sum1], %[pair], r5, %[sum1]\n\t"     \
    "smlad %[sum2], %[pair], r6, %[sum2]\n\t"     \
    "smlad %[sum3], %[pair], r8, %[sum3]\n\t"     \
    "ldmia %[columns]!, {r4, r5, r6, r8}\n\t"     \
    "sxtb16 %[pair], %[word], ror #8\n\t"         \
    "smlad %[sum0], %[pair], r4, %[sum0]\n\t"     \
    "smlad %[sum1], %[pair], r5, %[sum1]\n\t"     \
    "smlad %[sum2], %[pair], r6, %[sum2]\n\t"     \
    "smlad %[sum3], %[pair], r8, %[sum3]\n\t"
    __asm volatile("1:\n\t" WL_GROUP WL_GROUP
                   "cmp %[columns], %[end]\n\t"
                   "bne 1b\n\t"
                   : [sum0] "+r"(sum0), [sum1] "+r"(sum1), [sum2] "+r"(sum2), [sum3] "+r"(sum3),
                     [weights] "+r"(weights), [columns] "+r"(columns), [word] "=&r"(word), [pair] "=&r"(pair)
                   : [end] "r"(end)
                   : "r4", "r5", "r6", "r8", "cc", "memory");
#undef WL_GROUP
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
#else
    for (uint32_t tap = 0; tap < taps; tap += 4, weights += 4, columns += WORDS_PER_GROUP) {
        const uint32_t word = wl_read32(weights), even = wl_even(word), odd = wl_odd(word);
        for (unsigned pixel = 0; pixel < PIXELS; pixel++) {
            sums[pixel] = wl_smlad(even, columns[pixel], sums[pixel]);
            sums[pixel] = wl_smlad(odd, columns[PIXELS + pixel], sums[pixel]);
        }
    }
#endif
}

static inline void put_four(uint32_t *column, uint32_t bytes)
{
    column[0] = wl_even(bytes);
    column[PIXELS] = wl_odd(bytes);
}

/* The taps of one row of the kernel: `left` and `right` pixels of padding around `inside` pixels. */
typedef struct {
    const uint8_t *start;
    uint32_t left, inside, right;
} kernel_row;

static kernel_row find_row(const wl_work *work, uint32_t y, uint32_t x, uint32_t ky)
{
    const uint32_t kernel = work->layer->kernel, margin = kernel / 2;
    const uint32_t top = y * work->layer->stride + ky, first = x * work->layer->stride;
    kernel_row row = {work->input, kernel, 0, 0};
    if (top < margin || top - margin >= work->height) return row;
    row.left = first < margin ? margin - first : 0;
    const uint32_t past = first + kernel > margin + work->width ? first + kernel - margin - work->width : 0;
    row.right = past;
    row.inside = kernel - row.left - row.right;
    row.start += ((size_t)(top - margin) * work->width + (first + row.left - margin)) * work->layer->inputs;
    return row;
}

/* Pixels of whole words: straight into the column. */
static void gather_words(const wl_work *work, uint32_t y, uint32_t x, uint32_t *column)
{
    const uint32_t words = work->layer->inputs / 4u, flip = work->input_flip * 0x01010101u;
    for (uint32_t ky = 0; ky < work->layer->kernel; ky++) {
        const kernel_row row = find_row(work, y, x, ky);
        for (uint32_t count = row.left * words; count > 0; count--, column += WORDS_PER_GROUP) put_four(column, 0);
        const uint8_t *from = row.start;
        for (uint32_t count = row.inside * words; count > 0; count--, column += WORDS_PER_GROUP, from += 4)
            put_four(column, wl_read32(from) ^ flip);
        for (uint32_t count = row.right * words; count > 0; count--, column += WORDS_PER_GROUP) put_four(column, 0);
    }
}

/* Others: byte by byte into a line, then into the column. */
static void gather_bytes(const wl_work *work, uint32_t y, uint32_t x, uint32_t *column, uint8_t *line)
{
    const uint32_t inputs = work->layer->inputs;
    const uint8_t flip = work->input_flip;
    uint8_t *to = line;
    for (uint32_t ky = 0; ky < work->layer->kernel; ky++) {
        const kernel_row row = find_row(work, y, x, ky);
        for (uint32_t count = row.left * inputs; count > 0; count--) *to++ = 0;
        const uint8_t *from = row.start;
        for (uint32_t count = row.inside * inputs; count > 0; count--) *to++ = (uint8_t)(*from++ ^ flip);
        for (uint32_t count = row.right * inputs; count > 0; count--) *to++ = 0;
    }
    const uint32_t padded = wl_padded_taps(work->layer);
    for (uint32_t tap = 0; tap < padded; tap += 4, column += WORDS_PER_GROUP) put_four(column, wl_read32(line + tap));
}

/* All outputs of up to four pixels in a row of the output map. */
static inline void convolve(const wl_work *work, uint32_t first, uint32_t pixels, uint32_t map_pixels, const output_mode mode)
{
    const wl_layer *layer = work->layer;
    const uint32_t outputs = layer->outputs, taps = layer->taps, padded = wl_padded_taps(layer);
    const uint8_t *weights = layer->weights;
    for (uint32_t output = 0; output < outputs; output++, weights += taps) {
        const int32_t bias = mode == MODE_LATENT ? 0 : wl_read_signed32(layer->bias + 4 * (size_t)output);
        int32_t sums[PIXELS] = {bias, bias, bias, bias};
        multiply(weights, work->scratch, padded, sums);
        if (mode == MODE_LATENT) {
            for (uint32_t pixel = 0; pixel < pixels; pixel++)
                wl_put_symbol(work, output, output * map_pixels + first + pixel, sums[pixel]);
            continue;
        }
        const int32_t multiplier = (int32_t)wl_read16(layer->multiplier + 2 * (size_t)output);
        const unsigned shift = layer->shift[output];
        const int32_t half = (int32_t)(1u << (shift - 1));
        size_t place = (size_t)first * outputs + output;
#define WL_PUT(pixel)                                                                                           \
    do {                                                                                                        \
        int32_t value = (sums[pixel] * multiplier + half) >> shift;                                             \
        value = mode == MODE_RELU ? wl_unsigned7(value) : wl_signed8(value);                                    \
        if (mode == MODE_ADD) value = wl_signed8(value + (int8_t)(work->kept[place] ^ work->kept_flip));        \
        work->output[place] = (uint8_t)value;                                                                   \
        place += outputs;                                                                                       \
    } while (0)
        WL_PUT(0);
        if (pixels == PIXELS) {
            WL_PUT(1);
            WL_PUT(2);
            WL_PUT(3);
        } else {
            for (uint32_t pixel = 1; pixel < pixels; pixel++) WL_PUT(pixel);
        }
#undef WL_PUT
    }
}

void wl_run_full(const wl_work *work)
{
    const wl_layer *layer = work->layer;
    const uint32_t out_height = wl_output_size(work->height, layer), out_width = wl_output_size(work->width, layer);
    const uint32_t map_pixels = out_height * out_width, padded = wl_padded_taps(layer);
    const bool whole_words = layer->inputs % 4u == 0;
    uint8_t *line = (uint8_t *)(work->scratch + (size_t)padded * 2);
    /* What lies behind the last tap meets other outputs' weights, so it stays 0. */
    for (uint32_t word = 0; word < padded * 2; word++) work->scratch[word] = 0;
    if (!whole_words)
        for (uint32_t tap = 0; tap < padded; tap++) line[tap] = 0;
    uint32_t y = 0, x = 0;
    for (uint32_t first = 0; first < map_pixels; first += PIXELS) {
        const uint32_t pixels = map_pixels - first < PIXELS ? map_pixels - first : PIXELS;
        for (uint32_t pixel = 0; pixel < pixels; pixel++) {
            if (whole_words) gather_words(work, y, x, work->scratch + pixel);
            else gather_bytes(work, y, x, work->scratch + pixel, line);
            if (++x == out_width) {
                x = 0;
                y++;
            }
        }
        if (layer->last) convolve(work, first, pixels, map_pixels, MODE_LATENT);
        else if (layer->flags & WL_ADD_KEPT) convolve(work, first, pixels, map_pixels, MODE_ADD);
        else if (layer->flags & WL_RELU) convolve(work, first, pixels, map_pixels, MODE_RELU);
        else convolve(work, first, pixels, map_pixels, MODE_SIGNED);
    }
}
