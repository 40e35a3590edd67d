/* Runs encoder.bin: an RGB image in, symbols out, packed most important first. Integers only, and the same bytes as
 * semantic_codec.encoder on every image.
 *
 *     wl_encoder encoder;
 *     wl_encoder_open(&encoder, program, sizeof program);         // once; proves the program
 *     wl_encoder_run(&encoder, image, workspace, sizeof workspace, bitstream, sizeof bitstream);
 *
 * The weights are used where they lie, in flash. The caller owns the workspace and may use it for other things between
 * two images. */
#ifndef WL_ENCODER_H
#define WL_ENCODER_H

#include <stddef.h>
#include <stdint.h>

#include "wl_error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const uint8_t *program; /* encoder.bin, which must stay where it is */
    uint32_t program_bytes;
    uint16_t height, width; /* of the image, 3 bytes a pixel */
    uint8_t bits_per_symbol, layers;
    uint32_t symbols;
    uint32_t bitstream_bytes; /* symbols packed; levels are prefixes of it */
    uint32_t workspace_bytes; /* what wl_encoder_run needs */
    uint32_t scratch_bytes;   /* the part of it that holds columns; feature maps lie behind it */
    uint32_t macs;            /* multiply-accumulates per image */
} wl_encoder;

/* Called after each layer, for measurements. */
typedef void (*wl_layer_observer)(void *context, unsigned layer);

/* Check the program and prove from its weights that no sum leaves 2^24 and no product 2^30; fill in `encoder`.
 * WL_ERROR_PROGRAM: damaged, or over 16 MiB. WL_ERROR_RANGE: whole, but not proven. */
wl_error wl_encoder_open(wl_encoder *encoder, const void *program, size_t program_bytes);

/* One image: uint8 [height][width][3] RGB. workspace: aligned to 4 bytes. bitstream: at least bitstream_bytes.
 * WL_ERROR_PROGRAM: wl_encoder_open failed. */
wl_error wl_encoder_run(const wl_encoder *encoder, const uint8_t *image, void *workspace, size_t workspace_bytes,
                        uint8_t *bitstream, size_t bitstream_bytes);

/* The same, with an observer (may be null). */
wl_error wl_encoder_run_observed(const wl_encoder *encoder, const uint8_t *image, void *workspace,
                                 size_t workspace_bytes, uint8_t *bitstream, size_t bitstream_bytes,
                                 wl_layer_observer observer, void *context);

#ifdef __cplusplus
}
#endif

#endif
