#include "wl_frame.h"

#include "wl_bits.h"
#include "wl_check.h"
#include "wl_header_code.h"
#include "wl_nonce.h"

enum { OPEN_MODE = 0, KEYED_MODE = 1, OPEN_FIELD_BYTES = 5, KEYED_FIELD_BYTES = 7 };

static wl_error check_arguments(const wl_header *header, const void *hash, const void *payload, size_t payload_bytes,
                                const void *frame, size_t frame_bytes, unsigned sequence_bits, size_t overhead)
{
    if (header == NULL || hash == NULL || payload == NULL || frame == NULL) return WL_ERROR_ARGUMENT;
    if (header->codec >= 64 || header->level >= 16 || header->sequence >> sequence_bits != 0) return WL_ERROR_ARGUMENT;
    if (payload_bytes < 1 || payload_bytes > WL_MOST_PAYLOAD_BYTES) return WL_ERROR_LENGTH;
    return frame_bytes < payload_bytes + overhead ? WL_ERROR_BUFFER : WL_OK;
}

static void pack_fields(const wl_header *header, unsigned version, unsigned sequence_bits, uint8_t *block)
{
    uint32_t place = 0;
    wl_clear(block, WL_MOST_BLOCK_BYTES);
    wl_put_bits(block, &place, version, 2);
    wl_put_bits(block, &place, header->codec, 6);
    wl_put_bits(block, &place, header->level, 4);
    wl_put_bits(block, &place, header->device, 16);
    wl_put_bits(block, &place, header->sequence, sequence_bits);
}

static void mix(const wl_code *code, const uint8_t *block, const uint8_t *payload, size_t payload_bytes, uint8_t *frame)
{
    uint8_t coded[WL_MOST_CODED_BYTES];
    wl_code_encode(code, block, coded);
    wl_clear(frame, (uint32_t)payload_bytes + code->coded_bits / 8u);
    wl_interleave(code, coded, payload, 0, (uint32_t)payload_bytes, (uint32_t)payload_bytes, frame);
}

wl_error wl_frame_encode(const wl_header *header, const uint8_t hash[WL_HASH_BYTES], const uint8_t *payload,
                         size_t payload_bytes, uint8_t *frame, size_t frame_bytes)
{
    wl_error error = check_arguments(header, hash, payload, payload_bytes, frame, frame_bytes, 12, WL_OPEN_BYTES);
    if (error != WL_OK) return error;
    uint8_t block[WL_MOST_BLOCK_BYTES];
    pack_fields(header, OPEN_MODE, 12, block);
    const uint16_t check = wl_check(wl_check(WL_CHECK_START, hash, WL_HASH_BYTES), block, OPEN_FIELD_BYTES);
    block[5] = (uint8_t)(check >> 8);
    block[6] = (uint8_t)check;
    mix(&WL_OPEN_CODE, block, payload, payload_bytes, frame);
    return WL_OK;
}

wl_error wl_frame_encode_keyed(const wl_header *header, const wl_key *key, const uint8_t hash[WL_HASH_BYTES],
                               const uint8_t *payload, size_t payload_bytes, uint8_t *frame, size_t frame_bytes)
{
    wl_error error = check_arguments(header, hash, payload, payload_bytes, frame, frame_bytes, 28, WL_KEYED_BYTES);
    if (error == WL_OK && key == NULL) error = WL_ERROR_ARGUMENT;
    if (error != WL_OK) return error;
    uint8_t block[WL_MOST_BLOCK_BYTES], message[1 + WL_HASH_BYTES + KEYED_FIELD_BYTES], stream[WL_BLOCK_BYTES];
    pack_fields(header, KEYED_MODE, 28, block);
    message[0] = WL_USE_FRAME;
    for (unsigned byte = 0; byte < WL_HASH_BYTES; byte++) message[1 + byte] = hash[byte];
    for (unsigned byte = 0; byte < KEYED_FIELD_BYTES; byte++) message[1 + WL_HASH_BYTES + byte] = block[byte];
    error = wl_blake2s(key->mac, message, sizeof message, block + KEYED_FIELD_BYTES, WL_MAC_BYTES);
    if (error != WL_OK) return error;
    mix(&WL_KEYED_CODE, block, payload, payload_bytes, frame);
    for (uint32_t first = 0; first < payload_bytes; first += WL_BLOCK_BYTES) {
        wl_keystream(key, WL_USE_FRAME, header->device, header->sequence, first / WL_BLOCK_BYTES, stream);
        wl_interleave(&WL_KEYED_CODE, NULL, stream, first, WL_BLOCK_BYTES, (uint32_t)payload_bytes, frame);
    }
    return WL_OK;
}
