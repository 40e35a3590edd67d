/* The firmware: images come in at the console, frames leave at the radio, measurements go back to the console.
 *
 * Console, one byte of command, then its arguments; numbers are little-endian:
 *   H              who is it (said at boot too) -> wl_error, then 9 numbers: say_hello
 *   E image        encode                       -> wl_error, bitstream, report
 *   S device 2, sequence 2, level 1, wait 2 (ms), image
 *                  encode, send as a frame with its sync word over the radio, wait for the reply
 *                                               -> as E, then when the wait is over: wl_error, five bytes of reply,
 *                                                  and the frame's sequence, 4, which in keyed mode is the device's own
 * A report is: ticks of the whole encoding, of each layer, and the most stack that was ever used; 32 bits each. */
#include <stdint.h>

#include "board.h"
#include "codec.h"
#include "mode.h"
#include "stack.h"
#include "wl_encoder.h"
#include "wl_reply.h"
#include "wl_serial.h"

static wl_encoder encoder;
static wl_error opened; /* of the encoder and the mode: what every command answers where it is one */
static uint8_t image[CODEC_IMAGE_BYTES];
static uint8_t bitstream[CODEC_BITSTREAM_BYTES];
static uint8_t frame[CODEC_BITSTREAM_BYTES + WL_KEYED_BYTES];
static const uint16_t LEVEL_BYTES[CODEC_LEVELS] = CODEC_LEVEL_BYTES;

/* Never needed at once. */
static union {
    uint32_t workspace[CODEC_WORKSPACE_BYTES / 4];
    wl_reply_scratch decoder;
} shared;
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
    if (opened != WL_OK) return opened;
    uint32_t last = board_ticks();
    wl_error error = wl_encoder_run_observed(&encoder, image, shared.workspace, sizeof shared.workspace, bitstream, sizeof bitstream,
                                             note_layer, &last);
    /* The parts' sum: the whole may take longer than 2^24 ticks. */
    *ticks = board_ticks_since(last);
    for (unsigned layer = 0; layer < CODEC_LAYERS; layer++) *ticks += layer_ticks[layer];
    return error;
}

static void report(uint32_t ticks)
{
    put32(ticks);
    for (unsigned layer = 0; layer < CODEC_LAYERS; layer++) put32(layer_ticks[layer]);
    put32(stack_used());
}

static void say_hello(void)
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
    put32(mode_name());
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

static wl_error send_frame(wl_header *header)
{
    const size_t payload_bytes = LEVEL_BYTES[header->level], bytes = payload_bytes + mode_bytes();
    wl_error error = mode_frame(header, bitstream, payload_bytes, frame, sizeof frame);
    if (error != WL_OK) return error;
    for (unsigned place = 0; place < WL_SYNC_BYTES; place++) board_put(BOARD_RADIO, wl_sync_word[place]);
    for (size_t place = 0; place < bytes; place++) board_put(BOARD_RADIO, frame[place]);
    return WL_OK;
}

/* Listen until a reply passes its check or the time is over: WL_ERROR_DAMAGED then. */
static wl_error take_reply(const wl_header *header, uint32_t wait_ms, wl_reply *reply)
{
    const uint32_t ticks_per_ms = board_tick_hz() / 1000;
    wl_receiver receiver;
    wl_error error = wl_receiver_start(&receiver, mode_bytes());
    if (error != WL_OK) return error;
    for (uint32_t start = board_ticks(); wait_ms > 0;) {
        if (board_ticks_since(start) >= ticks_per_ms) {
            start += ticks_per_ms;
            wait_ms--;
        }
        if (!board_has_byte(BOARD_RADIO)) continue;
        const uint8_t *at;
        if (!wl_receiver_push(&receiver, board_get(BOARD_RADIO), &at)) continue;
        if (mode_reply(at, header, &shared.decoder, reply) == WL_OK) return WL_OK;
    }
    return WL_ERROR_DAMAGED;
}

static uint16_t get16(void)
{
    const unsigned low = board_get(BOARD_CONSOLE);
    return (uint16_t)(low | (unsigned)board_get(BOARD_CONSOLE) << 8);
}

static void send_command(void)
{
    wl_header header = {.codec = CODEC_ID};
    header.device = get16();
    header.sequence = get16();
    header.level = board_get(BOARD_CONSOLE);
    const uint32_t wait_ms = get16();
    uint32_t ticks = 0;
    get_bytes(image, sizeof image);
    wl_error error = header.level < CODEC_LEVELS ? encode(&ticks) : WL_ERROR_ARGUMENT;
    board_put(BOARD_CONSOLE, (uint8_t)error);
    if (error != WL_OK) return;
    put_bytes(bitstream, sizeof bitstream);
    report(ticks);
    wl_reply reply = {0, 0, 0, WL_NO_ADVICE};
    error = send_frame(&header);
    if (error == WL_OK) error = take_reply(&header, wait_ms, &reply);
    board_put(BOARD_CONSOLE, (uint8_t)error);
    const uint8_t answer[5] = {reply.status, (uint8_t)reply.class_index, (uint8_t)(reply.class_index >> 8), reply.confidence,
                               reply.advice};
    put_bytes(answer, sizeof answer);
    put32(header.sequence);
}

int main(void)
{
    board_start();
    opened = wl_encoder_open(&encoder, CODEC_ENCODER, CODEC_ENCODER_BYTES);
    if (opened == WL_OK) opened = mode_start();
    say_hello();
    for (;;) {
        switch (board_get(BOARD_CONSOLE)) {
        case 'H': say_hello(); break;
        case 'E': encode_command(); break;
        case 'S': send_command(); break;
        default: break;
        }
    }
}
