/* The firmware: images come in at the console, frames leave at the radio, measurements go back to the console.
 *
 * Console, one byte of command, then its arguments; numbers are little-endian:
 *   H              who is it (said at boot too) -> wl_error, then 8 numbers: say_hello
 *   E image        encode                       -> wl_error, bitstream, report
 * A report is: ticks of the whole encoding, of each layer, and the most stack that was ever used; 32 bits each. */
#include <stdint.h>

#include "board.h"
#include "codec.h"
#include "stack.h"
#include "wl_encoder.h"

static wl_encoder encoder;
static uint8_t image[CODEC_IMAGE_BYTES];
static uint8_t bitstream[CODEC_BITSTREAM_BYTES];
static uint32_t workspace[CODEC_WORKSPACE_BYTES / 4];
static uint32_t layer_ticks[CODEC_LAYERS];

static void put32(uint32_t value)
{
    for (unsigned byte = 0; byte < 4; byte++) board_put(BOARD_CONSOLE, (uint8_t)(value >> 8 * byte));
}

static void put_bytes(const uint8_t *data, uint32_t bytes)
{
    for (uint32_t place = 0; place < bytes; place++) board_put(BOARD_CONSOLE, data[place]);
}

static void get_bytes(uint8_t *data, uint32_t bytes)
{
    for (uint32_t place = 0; place < bytes; place++) data[place] = board_get(BOARD_CONSOLE);
}

static void note_layer(void *context, unsigned layer)
{
    uint32_t *last = context;
    const uint32_t now = board_ticks();
    layer_ticks[layer] = (now - *last) & 0xffffffu;
    *last = now;
}

static wl_error encode(uint32_t *ticks)
{
    const uint32_t start = board_ticks();
    uint32_t last = start;
    wl_error error = wl_encoder_run_observed(&encoder, image, workspace, sizeof workspace, bitstream, sizeof bitstream,
                                             note_layer, &last);
    *ticks = board_ticks_since(start);
    return error;
}

static void report(uint32_t ticks)
{
    put32(ticks);
    for (unsigned layer = 0; layer < CODEC_LAYERS; layer++) put32(layer_ticks[layer]);
    put32(stack_used());
}

static void say_hello(wl_error opened)
{
    board_put(BOARD_CONSOLE, (uint8_t)opened);
    put32(encoder.height);
    put32(encoder.width);
    put32(encoder.bitstream_bytes);
    put32(encoder.layers);
    put32(encoder.macs);
    put32(encoder.workspace_bytes);
    put32(board_tick_hz());
    put32(stack_reserved());
}

static void encode_command(void)
{
    uint32_t ticks = 0;
    get_bytes(image, sizeof image);
    const wl_error error = encode(&ticks);
    board_put(BOARD_CONSOLE, (uint8_t)error);
    if (error != WL_OK) return;
    put_bytes(bitstream, sizeof bitstream);
    report(ticks);
}

int main(void)
{
    board_start();
    const wl_error opened = wl_encoder_open(&encoder, CODEC_ENCODER, CODEC_ENCODER_BYTES);
    say_hello(opened);
    for (;;) {
        switch (board_get(BOARD_CONSOLE)) {
        case 'H': say_hello(opened); break;
        case 'E': encode_command(); break;
        default: break;
        }
    }
}
