#include <stddef.h>

#include "wl_program.h"

enum { MOST_MAP_BYTES = 1 << 24 };

void wl_plan_start(const wl_encoder *encoder, wl_step *step)
{
    const wl_map image = {0, 0, encoder->height, encoder->width, 3, true};
    step->input = step->output = step->kept = image;
    step->has_kept = false;
}

/* Does a layer from `cursor` on add what is kept now? */
static bool is_added_later(const wl_encoder *encoder, unsigned index, const uint8_t *cursor)
{
    const uint8_t *end = encoder->program + encoder->program_bytes;
    wl_layer layer;
    for (unsigned next = index + 1; next < encoder->layers; next++) {
        if (wl_layer_read(&cursor, end, encoder->bits_per_symbol, next + 1u == encoder->layers, &layer) != WL_OK) return false;
        if (layer.flags & WL_KEEP_INPUT) return false;
        if (layer.flags & WL_ADD_KEPT) return true;
    }
    return false;
}

static bool overlap(uint32_t offset, uint32_t bytes, const wl_map *map)
{
    return !map->is_image && offset < map->offset + map->bytes && map->offset < offset + bytes;
}

static bool same_shape(const wl_map *a, const wl_map *b)
{
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

wl_error wl_plan_next(const wl_encoder *encoder, const wl_layer *layer, unsigned index, const uint8_t *cursor,
                      wl_step *step)
{
    const wl_map input = step->output;
    step->input = input;
    if (layer->inputs != input.channels) return WL_ERROR_PROGRAM;
    if (layer->flags & WL_KEEP_INPUT) {
        step->kept = input;
        step->has_kept = true;
    }
    wl_map output = {0, 0, (uint16_t)wl_output_size(input.height, layer), (uint16_t)wl_output_size(input.width, layer),
                     layer->outputs, false};
    const uint64_t bytes = (uint64_t)output.height * output.width * output.channels;
    if (bytes > MOST_MAP_BYTES) return WL_ERROR_PROGRAM;
    const bool adds = (layer->flags & WL_ADD_KEPT) != 0;
    if (adds && !(step->has_kept && same_shape(&step->kept, &output))) return WL_ERROR_PROGRAM;
    output.bytes = layer->last ? 0 : ((uint32_t)bytes + 3u) & ~3u;

    const bool added_later = is_added_later(encoder, index, cursor);
    const bool kept_is_input = step->has_kept && !input.is_image && step->kept.offset == input.offset && !step->kept.is_image;
    if (adds && !added_later && !step->kept.is_image && !kept_is_input) {
        output.offset = step->kept.offset;
    } else if (layer->kind == WL_DEPTHWISE && !input.is_image && !((adds || added_later) && kept_is_input)) {
        output.offset = input.offset;
    } else {
        const bool avoid_kept = step->has_kept && (adds || added_later);
        /* The lowest free place begins at 0 or behind one of the two maps. */
        const uint32_t starts[3] = {0, input.is_image ? 0 : input.offset + input.bytes,
                                    avoid_kept && !step->kept.is_image ? step->kept.offset + step->kept.bytes : 0};
        uint32_t best = UINT32_MAX;
        for (unsigned place = 0; place < 3; place++) {
            if (overlap(starts[place], output.bytes, &input)) continue;
            if (avoid_kept && overlap(starts[place], output.bytes, &step->kept)) continue;
            if (starts[place] < best) best = starts[place];
        }
        output.offset = best;
    }
    step->output = output;
    return WL_OK;
}

uint32_t wl_scratch_bytes(const wl_layer *layer, uint32_t width)
{
    if (layer->kind == WL_DEPTHWISE)
        return 8u * layer->kernel * (layer->kernel + width + 2u * (layer->kernel / 2u));
    /* Four columns of 16 bits, and where pixels are no whole words, one column of bytes. */
    return wl_padded_taps(layer) * 8u + (layer->inputs % 4u == 0 ? 0u : wl_padded_taps(layer));
}
