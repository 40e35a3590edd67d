/* Layers of an encoder.bin, read in place; the layout is that of semantic_codec/encoder_format.py. */
#ifndef WL_PROGRAM_H
#define WL_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "wl_encoder.h"

enum { WL_HEAD_BYTES = 12, WL_LAYER_BYTES = 8 };
enum { WL_FULL = 0, WL_DEPTHWISE = 1 };
enum { WL_RELU = 1, WL_KEEP_INPUT = 2, WL_ADD_KEPT = 4 };

typedef struct {
    uint8_t kind, kernel, stride, flags;
    uint16_t inputs, outputs;
    uint32_t taps; /* products per output */
    bool last;
    const uint8_t *weights;    /* int8 [outputs][kernel][kernel][inputs], depthwise [kernel][kernel][outputs] */
    const uint8_t *bias;       /* int32 [outputs]; null in the last layer, as the next two */
    const uint8_t *multiplier; /* uint16 [outputs] */
    const uint8_t *shift;      /* uint8 [outputs] */
    const uint8_t *thresholds; /* int32 [outputs][2^bits - 1]; null but in the last layer, as the next one */
    const uint8_t *index_map;  /* uint8 [2^bits] */
} wl_layer;

/* A feature map in the workspace, or the image. */
typedef struct {
    uint32_t offset, bytes;
    uint16_t height, width, channels;
    bool is_image;
} wl_map;

/* Where the maps lie while one layer runs. */
typedef struct {
    wl_map input, output, kept;
    bool has_kept; /* a map is kept that this layer or a later one adds */
} wl_step;

static inline uint32_t wl_output_size(uint32_t size, const wl_layer *layer)
{
    return (size - 1) / layer->stride + 1;
}

/* Read the layer at *cursor and move on; WL_ERROR_PROGRAM where it passes `end` or makes no sense. */
wl_error wl_layer_read(const uint8_t **cursor, const uint8_t *end, unsigned bits, bool last, wl_layer *layer);

/* Check a layer's integers, given the least value that its input can take (-128, or 0 behind a ReLU). */
wl_error wl_layer_prove(const wl_layer *layer, unsigned bits, int32_t low);

/* Before the first layer. */
void wl_plan_start(const wl_encoder *encoder, wl_step *step);

/* Turn the step of the layer before into that of `layer`, whose followers begin at `cursor`. Places the output at the
 * lowest address that no map in use covers; a depthwise layer may write over its input, and an addition over what it
 * adds. WL_ERROR_PROGRAM: shapes do not fit. */
wl_error wl_plan_next(const wl_encoder *encoder, const wl_layer *layer, unsigned index, const uint8_t *cursor,
                      wl_step *step);

/* Bytes of columns or rows that a layer needs beside its maps. */
uint32_t wl_scratch_bytes(const wl_layer *layer, uint32_t width);

/* Taps rounded up to what the inner loop takes at once. */
static inline uint32_t wl_padded_taps(const wl_layer *layer)
{
    return (layer->taps + 7u) & ~7u;
}

#endif
