#include "wl_program.h"

#include <stddef.h>

#include "wl_bytes.h"

enum { ACCUMULATOR_LIMIT = 1 << 24, INTERMEDIATE_LIMIT = 1 << 30, MULTIPLIER_LIMIT = 1 << 15, MOST_SHIFT = 30 };

/* Take an array, padded to 4 bytes, from the program; null where it ends before. */
static const uint8_t *take(const uint8_t **cursor, const uint8_t *end, uint64_t bytes)
{
    const uint8_t *start = *cursor;
    uint64_t padded = (bytes + 3u) & ~(uint64_t)3u;
    if (padded > (uint64_t)(end - start)) return NULL;
    *cursor = start + (size_t)padded;
    return start;
}

wl_error wl_layer_read(const uint8_t **cursor, const uint8_t *end, unsigned bits, bool last, wl_layer *layer)
{
    const uint8_t *head = take(cursor, end, WL_LAYER_BYTES);
    if (head == NULL) return WL_ERROR_PROGRAM;
    layer->kind = head[0];
    layer->kernel = head[1];
    layer->stride = head[2];
    layer->flags = head[3];
    layer->inputs = (uint16_t)wl_read16(head + 4);
    layer->outputs = (uint16_t)wl_read16(head + 6);
    layer->last = last;
    if (layer->kind > WL_DEPTHWISE || (layer->kind == WL_DEPTHWISE && layer->inputs != layer->outputs)) return WL_ERROR_PROGRAM;
    if (layer->kernel > 7 || layer->kernel % 2 == 0 || layer->stride < 1 || layer->stride > 7) return WL_ERROR_PROGRAM;
    if (layer->inputs == 0 || layer->outputs == 0) return WL_ERROR_PROGRAM;
    if ((layer->flags & WL_ADD_KEPT) && (layer->flags & WL_RELU)) return WL_ERROR_PROGRAM;
    layer->taps = (uint32_t)layer->kernel * layer->kernel * (layer->kind == WL_DEPTHWISE ? 1u : layer->inputs);
    layer->weights = take(cursor, end, (uint64_t)layer->taps * layer->outputs);
    layer->bias = layer->multiplier = layer->shift = layer->thresholds = layer->index_map = NULL;
    if (layer->weights == NULL) return WL_ERROR_PROGRAM;
    if (last) {
        uint32_t levels = 1u << bits;
        layer->thresholds = take(cursor, end, (uint64_t)layer->outputs * (levels - 1) * 4);
        layer->index_map = take(cursor, end, levels);
        return layer->thresholds == NULL || layer->index_map == NULL ? WL_ERROR_PROGRAM : WL_OK;
    }
    layer->bias = take(cursor, end, (uint64_t)layer->outputs * 4);
    layer->multiplier = take(cursor, end, (uint64_t)layer->outputs * 2);
    layer->shift = take(cursor, end, layer->outputs);
    return layer->bias == NULL || layer->multiplier == NULL || layer->shift == NULL ? WL_ERROR_PROGRAM : WL_OK;
}

static wl_error check_latent(const wl_layer *layer, unsigned bits)
{
    uint32_t levels = 1u << bits;
    for (uint32_t output = 0; output < layer->outputs; output++) {
        const uint8_t *row = layer->thresholds + (size_t)output * (levels - 1) * 4;
        for (uint32_t level = 1; level + 1 < levels; level++)
            if (wl_read_signed32(row + 4 * level) < wl_read_signed32(row + 4 * level - 4)) return WL_ERROR_PROGRAM;
    }
    uint8_t seen[32] = {0};
    for (uint32_t level = 0; level < levels; level++) {
        unsigned symbol = layer->index_map[level];
        if (symbol >= levels || (seen[symbol / 8] >> symbol % 8 & 1)) return WL_ERROR_PROGRAM;
        seen[symbol / 8] = (uint8_t)(seen[symbol / 8] | 1u << symbol % 8);
    }
    return WL_OK;
}

wl_error wl_layer_prove(const wl_layer *layer, unsigned bits, int32_t low)
{
    const uint32_t row = layer->kind == WL_DEPTHWISE ? 1 : layer->taps;
    const uint32_t stride = layer->kind == WL_DEPTHWISE ? layer->outputs : 1;
    for (uint32_t output = 0; output < layer->outputs; output++) {
        const uint8_t *weights = layer->weights + (size_t)output * row;
        int64_t positive = 0, negative = 0;
        for (uint32_t tap = 0; tap < layer->taps; tap++) {
            int32_t weight = (int8_t)weights[(size_t)tap * stride];
            if (weight > 0) positive += weight;
            else negative += weight;
        }
        int64_t most = positive * 127 + negative * low, least = positive * low + negative * 127;
        int64_t bias = layer->last ? 0 : wl_read_signed32(layer->bias + 4 * (size_t)output);
        most = (most > 0 ? most : 0) + (bias > 0 ? bias : 0);
        least = -((least < 0 ? least : 0) + (bias < 0 ? bias : 0));
        int64_t peak = most > least ? most : least;
        if (peak >= ACCUMULATOR_LIMIT) return WL_ERROR_RANGE;
        if (layer->last) continue;
        int64_t multiplier = wl_read16(layer->multiplier + 2 * (size_t)output);
        unsigned shift = layer->shift[output];
        if (multiplier >= MULTIPLIER_LIMIT || shift < 1 || shift > MOST_SHIFT) return WL_ERROR_RANGE;
        if (peak * multiplier + ((int64_t)1 << (shift - 1)) >= INTERMEDIATE_LIMIT) return WL_ERROR_RANGE;
    }
    return layer->last ? check_latent(layer, bits) : WL_OK;
}
