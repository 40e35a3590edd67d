#include "harness.h"

#include <stdbool.h>
#include <stddef.h>

#include "wl_encoder.h"
#include "wl_frame.h"
#include "wl_image.h"
#include "wl_reply.h"
#include "wl_sequence.h"
#include "wl_serial.h"

/* Declared here: a compiler for boards may come without the headers of a C library. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

typedef struct {
    const uint8_t *at;
    size_t left;
} reader;

typedef struct {
    uint8_t *at;
    size_t left;
} writer;

static wl_encoder encoder;

static void put(writer *out, const void *data, size_t bytes)
{
    if (bytes > out->left) bytes = out->left;
    if (bytes > 0) memcpy(out->at, data, bytes);
    out->at += bytes;
    out->left -= bytes;
}

static void put32(writer *out, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    put(out, bytes, sizeof bytes);
}

static wl_error open_program(reader in, writer *out)
{
    const uint8_t *program = harness_keep_program(in.at, in.left);
    if (program == NULL) return WL_ERROR_BUFFER;
    wl_error error = wl_encoder_open(&encoder, program, in.left);
    if (error != WL_OK) return error;
    put32(out, encoder.symbols);
    put32(out, encoder.bitstream_bytes);
    put32(out, encoder.workspace_bytes);
    put32(out, encoder.macs);
    return WL_OK;
}

static wl_error encode(reader in, writer *out)
{
    if (in.left != (size_t)encoder.height * encoder.width * 3) return WL_ERROR_LENGTH;
    uint8_t *workspace = harness_take(encoder.workspace_bytes), *bitstream = harness_take(encoder.bitstream_bytes);
    if (workspace == NULL || bitstream == NULL) return WL_ERROR_BUFFER;
    /* Nothing may depend on what the workspace held before. */
    memset(workspace, 0xA5, encoder.workspace_bytes);
    wl_error error = wl_encoder_run(&encoder, in.at, workspace, encoder.workspace_bytes, bitstream, encoder.bitstream_bytes);
    if (error == WL_OK) put(out, bitstream, encoder.bitstream_bytes);
    return error;
}

/* The next bytes of the request; null where it ends before. */
static const uint8_t *get(reader *in, size_t bytes)
{
    const uint8_t *at = in->at;
    if (bytes > in->left) return NULL;
    in->at += bytes;
    in->left -= bytes;
    return at;
}

/* A number of up to four bytes, little-endian; 0 where the request ends before. */
static uint32_t get_number(reader *in, size_t bytes)
{
    uint32_t value = 0;
    const uint8_t *at = get(in, bytes);
    for (size_t byte = 0; at != NULL && byte < bytes; byte++) value |= (uint32_t)at[byte] << 8 * byte;
    return value;
}

/* keyed, codec, level, device 2, sequence 4, hash 32, secret 32 (also in open mode), payload -> frame */
static wl_error frame(reader in, writer *out)
{
    const bool keyed = get_number(&in, 1) != 0;
    wl_header header;
    header.codec = (uint8_t)get_number(&in, 1);
    header.level = (uint8_t)get_number(&in, 1);
    header.device = (uint16_t)get_number(&in, 2);
    header.sequence = get_number(&in, 4);
    const uint8_t *hash = get(&in, WL_HASH_BYTES), *secret = get(&in, WL_SECRET_BYTES);
    const size_t bytes = in.left + (keyed ? WL_KEYED_BYTES : WL_OPEN_BYTES);
    uint8_t *to = harness_take(bytes);
    wl_key key;
    wl_error error = secret == NULL || to == NULL ? WL_ERROR_BUFFER : wl_key_make(secret, &key);
    if (error == WL_OK && keyed) error = wl_frame_encode_keyed(&header, &key, hash, in.at, in.left, to, bytes);
    else if (error == WL_OK) error = wl_frame_encode(&header, hash, in.at, in.left, to, bytes);
    if (error == WL_OK) put(out, to, bytes);
    return error;
}

static void put_reply(writer *out, const wl_reply *reply)
{
    const uint8_t bytes[5] = {reply->status, (uint8_t)reply->class_index, (uint8_t)(reply->class_index >> 8),
                              reply->confidence, reply->advice};
    put(out, bytes, sizeof bytes);
}

typedef struct {
    bool keyed;
    uint16_t device;
    uint32_t sequence;
    wl_key key;
    wl_reply_scratch *scratch;
} waiting;

/* keyed, device 2, sequence 4, secret 32 */
static wl_error get_waiting(reader *in, waiting *wait)
{
    wait->keyed = get_number(in, 1) != 0;
    wait->device = (uint16_t)get_number(in, 2);
    wait->sequence = get_number(in, 4);
    const uint8_t *secret = get(in, WL_SECRET_BYTES);
    wait->scratch = harness_take(sizeof *wait->scratch);
    return secret == NULL || wait->scratch == NULL ? WL_ERROR_BUFFER : wl_key_make(secret, &wait->key);
}

static wl_error read_one(const waiting *wait, const uint8_t *data, size_t bytes, wl_reply *found)
{
    if (wait->keyed) return wl_reply_read_keyed(data, bytes, &wait->key, wait->device, wait->sequence, wait->scratch, found);
    return wl_reply_read(data, bytes, wait->device, wait->sequence, wait->scratch, found);
}

/* what is waited for, data -> status, class 2, confidence, advice */
static wl_error reply_to(reader in, writer *out)
{
    waiting wait;
    wl_reply found;
    wl_error error = get_waiting(&in, &wait);
    if (error == WL_OK) error = read_one(&wait, in.at, in.left, &found);
    if (error == WL_OK) put_reply(out, &found);
    return error;
}

/* what is waited for, bytes of a line -> for each reply found: bytes taken so far 4, the reply 5 */
static wl_error serial(reader in, writer *out)
{
    waiting wait;
    wl_receiver receiver;
    wl_error error = get_waiting(&in, &wait);
    if (error == WL_OK) error = wl_receiver_start(&receiver, wait.keyed ? WL_KEYED_REPLY_BYTES : WL_REPLY_BYTES);
    if (error != WL_OK) return error;
    for (size_t place = 0; place < in.left; place++) {
        const uint8_t *at;
        wl_reply found;
        if (!wl_receiver_push(&receiver, in.at[place], &at)) continue;
        if (read_one(&wait, at, receiver.frame_bytes, &found) != WL_OK) continue;
        wl_receiver_taken(&receiver);
        put32(out, (uint32_t)place + 1);
        put_reply(out, &found);
    }
    return WL_OK;
}

/* 1 for RGB565 plus 2 for the middle only, height 2, width 2, height and width of the image 2 each, pixels -> image */
static wl_error resize(reader in, writer *out)
{
    const uint32_t how = get_number(&in, 1);
    const bool words = how & 1;
    uint16_t sizes[4];
    for (unsigned place = 0; place < 4; place++) sizes[place] = (uint16_t)get_number(&in, 2);
    const size_t line = (size_t)sizes[1] * (words ? 2 : 3), image_bytes = (size_t)sizes[2] * sizes[3] * 3;
    uint32_t *sums = harness_take(sizeof *sums * 3 * sizes[3]);
    uint8_t *image = harness_take(image_bytes);
    uint16_t *pixels = harness_take(sizeof *pixels * sizes[1]);
    if (sums == NULL || image == NULL || pixels == NULL) return WL_ERROR_BUFFER;
    wl_resizer resizer;
    wl_error error = (how & 2 ? wl_resizer_fit : wl_resizer_start)(&resizer, sizes[0], sizes[1], sizes[2], sizes[3], sums,
                                                                   3u * sizes[3], image, image_bytes);
    while (error == WL_OK && in.left >= line && line > 0) {
        const uint8_t *at = get(&in, line);
        for (unsigned x = 0; words && x < sizes[1]; x++) pixels[x] = (uint16_t)(at[2 * x] | at[2 * x + 1] << 8);
        error = words ? wl_resizer_add_rgb565(&resizer, pixels) : wl_resizer_add_rgb(&resizer, at);
    }
    if (error == WL_OK && resizer.out_line == sizes[2]) put(out, image, image_bytes);
    return error;
}

/* bytes of output, key 32, message -> BLAKE2s */
static wl_error hash(reader in, writer *out)
{
    uint8_t digest[32];
    const size_t bytes = get_number(&in, 1);
    const uint8_t *key = get(&in, WL_SECRET_BYTES);
    wl_error error = wl_blake2s(key, in.at, in.left, digest, bytes);
    if (error == WL_OK) put(out, digest, bytes);
    return error;
}

/* counter 4, key 32, nonce 12 -> block of ChaCha20 */
static wl_error cipher(reader in, writer *out)
{
    uint8_t block[WL_BLOCK_BYTES];
    const uint32_t counter = get_number(&in, 4);
    const uint8_t *key = get(&in, WL_SECRET_BYTES);
    wl_error error = wl_chacha20(key, counter, get(&in, 12), block);
    if (error == WL_OK) put(out, block, sizeof block);
    return error;
}

typedef struct {
    writer *out;
    uint32_t stores_left;
} memory;

static wl_error store(void *context, uint32_t first_free)
{
    memory *kept = context;
    if (kept->stores_left == 0) return WL_ERROR_BUFFER;
    kept->stores_left--;
    put32(kept->out, first_free | 0x80000000u);
    return WL_OK;
}

/* stored 4, how many to take 2, stores that succeed 2 -> what is stored, with the top bit set, and sequences, in order */
static wl_error sequences(reader in, writer *out)
{
    const uint32_t stored = get_number(&in, 4), count = get_number(&in, 2);
    memory kept = {out, get_number(&in, 2)};
    wl_sequence sequence;
    wl_error error = wl_sequence_start(&sequence, stored, store, &kept);
    for (uint32_t taken = 0, value; error == WL_OK && taken < count; taken++) {
        if (wl_sequence_next(&sequence, &value) != WL_OK) break;
        put32(out, value);
    }
    return error;
}

size_t harness_handle(const uint8_t *request, size_t length, uint8_t *reply, size_t capacity)
{
    if (length == 0 || capacity == 0) return 0;
    const reader in = {request + 1, length - 1};
    writer out = {reply + 1, capacity - 1};
    wl_error error = WL_ERROR_ARGUMENT;
    switch (request[0]) {
    case 'P': error = open_program(in, &out); break;
    case 'E': error = encode(in, &out); break;
    case 'F': error = frame(in, &out); break;
    case 'R': error = reply_to(in, &out); break;
    case 'S': error = serial(in, &out); break;
    case 'Z': error = resize(in, &out); break;
    case 'H': error = hash(in, &out); break;
    case 'C': error = cipher(in, &out); break;
    case 'Q': error = sequences(in, &out); break;
    default: break;
    }
    reply[0] = (uint8_t)error;
    return error == WL_OK ? (size_t)(out.at - reply) : 1;
}
