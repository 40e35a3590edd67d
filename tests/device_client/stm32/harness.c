#include "harness.h"

#include <string.h>

#include "wl_encoder.h"

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

size_t harness_handle(const uint8_t *request, size_t length, uint8_t *reply, size_t capacity)
{
    if (length == 0 || capacity == 0) return 0;
    const reader in = {request + 1, length - 1};
    writer out = {reply + 1, capacity - 1};
    wl_error error = WL_ERROR_ARGUMENT;
    switch (request[0]) {
    case 'P': error = open_program(in, &out); break;
    case 'E': error = encode(in, &out); break;
    default: break;
    }
    reply[0] = (uint8_t)error;
    return error == WL_OK ? (size_t)(out.at - reply) : 1;
}
