#include "wl_encoder.h"

#include "wl_bytes.h"
#include "wl_layers.h"
#include "wl_program.h"

enum { MOST_BYTES = 1 << 24 };
static const uint8_t MAGIC[4] = {'W', 'L', 'E', '1'};

static wl_error read_head(wl_encoder *encoder)
{
    const uint8_t *head = encoder->program;
    if (encoder->program_bytes < WL_HEAD_BYTES || encoder->program_bytes > MOST_BYTES) return WL_ERROR_PROGRAM;
    for (unsigned place = 0; place < sizeof MAGIC; place++)
        if (head[place] != MAGIC[place]) return WL_ERROR_PROGRAM;
    encoder->bits_per_symbol = head[4];
    encoder->layers = head[5];
    encoder->height = (uint16_t)wl_read16(head + 6);
    encoder->width = (uint16_t)wl_read16(head + 8);
    if (encoder->bits_per_symbol < 1 || encoder->bits_per_symbol > 8 || encoder->layers < 1) return WL_ERROR_PROGRAM;
    if (encoder->height < 1 || encoder->width < 1 || wl_read16(head + 10) != 3) return WL_ERROR_PROGRAM;
    return (uint64_t)encoder->height * encoder->width * 3u > MOST_BYTES ? WL_ERROR_PROGRAM : WL_OK;
}

/* Every layer lies inside the program, and nothing behind the last. */
static wl_error check_layers(const wl_encoder *encoder)
{
    const uint8_t *cursor = encoder->program + WL_HEAD_BYTES, *end = encoder->program + encoder->program_bytes;
    for (unsigned index = 0; index < encoder->layers; index++) {
        wl_layer layer;
        wl_error error = wl_layer_read(&cursor, end, encoder->bits_per_symbol, index + 1u == encoder->layers, &layer);
        if (error != WL_OK) return error;
    }
    return cursor == end ? WL_OK : WL_ERROR_PROGRAM;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

wl_error wl_encoder_open(wl_encoder *encoder, const void *program, size_t program_bytes)
{
    if (encoder == NULL) return WL_ERROR_ARGUMENT;
    encoder->layers = 0; /* nothing runs until all is proven */
    if (program == NULL) return WL_ERROR_ARGUMENT;
    if (program_bytes > MOST_BYTES) return WL_ERROR_PROGRAM;
    wl_encoder opened = {.program = program, .program_bytes = (uint32_t)program_bytes};
    wl_error error = read_head(&opened);
    if (error == WL_OK) error = check_layers(&opened);
    if (error != WL_OK) return error;

    const uint8_t *cursor = opened.program + WL_HEAD_BYTES, *end = opened.program + opened.program_bytes;
    uint32_t maps = 0;
    uint64_t macs = 0;
    int32_t low = -128;
    wl_step step;
    wl_plan_start(&opened, &step);
    for (unsigned index = 0; index < opened.layers; index++) {
        wl_layer layer;
        error = wl_layer_read(&cursor, end, opened.bits_per_symbol, index + 1u == opened.layers, &layer);
        if (error == WL_OK) error = wl_layer_prove(&layer, opened.bits_per_symbol, low);
        if (error == WL_OK) error = wl_plan_next(&opened, &layer, index, cursor, &step);
        if (error != WL_OK) return error;
        low = layer.flags & WL_RELU ? 0 : -128;
        maps = larger(maps, step.output.offset + step.output.bytes);
        opened.scratch_bytes = larger(opened.scratch_bytes, wl_scratch_bytes(&layer, step.input.width));
        opened.symbols = (uint32_t)step.output.height * step.output.width * step.output.channels;
        macs += (uint64_t)layer.taps * opened.symbols;
    }
    opened.macs = macs > UINT32_MAX ? UINT32_MAX : (uint32_t)macs;
    opened.bitstream_bytes = (opened.symbols * opened.bits_per_symbol + 7u) / 8u;
    opened.workspace_bytes = opened.scratch_bytes + maps;
    *encoder = opened;
    return WL_OK;
}

void wl_put_symbol(const wl_work *work, uint32_t channel, uint32_t symbol, int32_t sum)
{
    const uint32_t thresholds = (1u << work->bits) - 1u;
    const uint8_t *row = work->layer->thresholds + (size_t)channel * thresholds * 4;
    uint32_t level = 0;
    while (level < thresholds && sum >= wl_read_signed32(row + 4 * (size_t)level)) level++;
    const uint32_t value = work->layer->index_map[level];
    for (unsigned bit = 0; bit < work->bits; bit++) {
        const uint32_t place = symbol * work->bits + bit;
        if (value >> (work->bits - 1u - bit) & 1u)
            work->output[place / 8] = (uint8_t)(work->output[place / 8] | 0x80u >> place % 8);
    }
}

static void run_layer(const wl_encoder *encoder, const wl_layer *layer, const wl_step *step, const uint8_t *image,
                      uint8_t *workspace, uint8_t *bitstream)
{
    uint8_t *maps = workspace + encoder->scratch_bytes;
    const wl_work work = {
        .layer = layer,
        .input = step->input.is_image ? image : maps + step->input.offset,
        .height = step->input.height,
        .width = step->input.width,
        .input_flip = step->input.is_image ? 0x80 : 0,
        .kept = !(layer->flags & WL_ADD_KEPT) ? NULL : step->kept.is_image ? image : maps + step->kept.offset,
        .kept_flip = step->kept.is_image ? 0x80 : 0,
        .output = layer->last ? bitstream : maps + step->output.offset,
        .bits = encoder->bits_per_symbol,
        .scratch = (uint32_t *)(void *)workspace,
    };
    if (layer->kind == WL_DEPTHWISE) wl_run_depthwise(&work);
    else wl_run_full(&work);
}

wl_error wl_encoder_run_observed(const wl_encoder *encoder, const uint8_t *image, void *workspace,
                                 size_t workspace_bytes, uint8_t *bitstream, size_t bitstream_bytes,
                                 wl_layer_observer observer, void *context)
{
    if (encoder == NULL || image == NULL || workspace == NULL || bitstream == NULL) return WL_ERROR_ARGUMENT;
    if (encoder->layers == 0) return WL_ERROR_PROGRAM;
    if (workspace_bytes < encoder->workspace_bytes || bitstream_bytes < encoder->bitstream_bytes) return WL_ERROR_BUFFER;
    if ((uintptr_t)workspace % 4u != 0) return WL_ERROR_BUFFER;
    const uint8_t *cursor = encoder->program + WL_HEAD_BYTES, *end = encoder->program + encoder->program_bytes;
    for (uint32_t place = 0; place < encoder->bitstream_bytes; place++) bitstream[place] = 0;
    wl_step step;
    wl_plan_start(encoder, &step);
    for (unsigned index = 0; index < encoder->layers; index++) {
        wl_layer layer;
        wl_error error = wl_layer_read(&cursor, end, encoder->bits_per_symbol, index + 1u == encoder->layers, &layer);
        if (error == WL_OK) error = wl_plan_next(encoder, &layer, index, cursor, &step);
        if (error != WL_OK) return error;
        run_layer(encoder, &layer, &step, image, workspace, bitstream);
        if (observer != NULL) observer(context, index);
    }
    return WL_OK;
}

wl_error wl_encoder_run(const wl_encoder *encoder, const uint8_t *image, void *workspace, size_t workspace_bytes,
                        uint8_t *bitstream, size_t bitstream_bytes)
{
    return wl_encoder_run_observed(encoder, image, workspace, workspace_bytes, bitstream, bitstream_bytes, NULL, NULL);
}
