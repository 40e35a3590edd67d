#include "wl_reply.h"

#include <stdbool.h>

#include "wl_bits.h"
#include "wl_check.h"
#include "wl_header_code.h"
#include "wl_nonce.h"

enum { OPEN_MODE = 0, KEYED_MODE = 1, FIELD_BYTES = 7, CLEAR_BYTES = 4, HIDDEN_BYTES = 3, START = 12, LEVELS = 16 };

/* The likeliest block with this version and sequence. */
static void decode(const wl_code *code, const uint8_t *data, unsigned version, uint32_t sequence, unsigned sequence_bits,
                   wl_reply_scratch *scratch, uint8_t *block)
{
    uint8_t coded[WL_MOST_CODED_BYTES], known[WL_MOST_BLOCK_BYTES] = {0}, mask[WL_MOST_BLOCK_BYTES] = {0};
    uint32_t place = 0;
    wl_put_bits(known, &place, version, 2);
    place = 0;
    wl_put_bits(mask, &place, 3, 2);
    place = 4;
    wl_put_bits(known, &place, sequence, sequence_bits);
    place = 4;
    wl_put_bits(mask, &place, 0xffffffffu, sequence_bits);
    wl_gather_coded(code, data, coded);
    wl_code_decode(code, coded, known, mask, START, scratch, block);
}

static void unpack(const uint8_t *block, unsigned sequence_bits, wl_reply *reply)
{
    uint32_t place = 2;
    reply->status = (uint8_t)wl_take_bits(block, &place, 2);
    place += sequence_bits;
    reply->class_index = (uint16_t)wl_take_bits(block, &place, 10);
    reply->confidence = (uint8_t)wl_take_bits(block, &place, 6);
    const uint32_t advice = wl_take_bits(block, &place, 8);
    reply->advice = (uint8_t)(advice < LEVELS ? advice : WL_NO_ADVICE);
}

wl_error wl_reply_read(const uint8_t *data, size_t bytes, uint16_t device, uint32_t sequence, wl_reply_scratch *scratch,
                       wl_reply *reply)
{
    if (data == NULL || scratch == NULL || reply == NULL || sequence >> 12 != 0) return WL_ERROR_ARGUMENT;
    if (bytes != WL_REPLY_BYTES) return WL_ERROR_LENGTH;
    uint8_t block[WL_MOST_BLOCK_BYTES];
    decode(&WL_OPEN_CODE, data, OPEN_MODE, sequence, 12, scratch, block);
    const uint8_t number[2] = {(uint8_t)(device >> 8), (uint8_t)device};
    const uint16_t check = wl_check(wl_check(WL_CHECK_START, number, sizeof number), block, 5);
    if (block[5] != check >> 8 || block[6] != (check & 0xff)) return WL_ERROR_DAMAGED;
    unpack(block, 12, reply);
    return WL_OK;
}

wl_error wl_reply_read_keyed(const uint8_t *data, size_t bytes, const wl_key *key, uint16_t device, uint32_t sequence,
                             wl_reply_scratch *scratch, wl_reply *reply)
{
    if (data == NULL || key == NULL || scratch == NULL || reply == NULL || sequence >> 28 != 0) return WL_ERROR_ARGUMENT;
    if (bytes != WL_KEYED_REPLY_BYTES) return WL_ERROR_LENGTH;
    uint8_t block[WL_MOST_BLOCK_BYTES], mac[WL_MAC_BYTES], stream[WL_BLOCK_BYTES];
    uint8_t message[3 + FIELD_BYTES] = {WL_USE_REPLY, (uint8_t)(device >> 8), (uint8_t)device};
    decode(&WL_KEYED_CODE, data, KEYED_MODE, sequence, 28, scratch, block);
    for (unsigned byte = 0; byte < FIELD_BYTES; byte++) message[3 + byte] = block[byte];
    wl_error error = wl_blake2s(key->mac, message, sizeof message, mac, sizeof mac);
    if (error != WL_OK) return error;
    unsigned difference = 0;
    for (unsigned byte = 0; byte < WL_MAC_BYTES; byte++) difference |= (unsigned)block[FIELD_BYTES + byte] ^ mac[byte];
    if (difference != 0) return WL_ERROR_DAMAGED;
    wl_keystream(key, WL_USE_REPLY, device, sequence, 0, stream);
    for (unsigned byte = 0; byte < HIDDEN_BYTES; byte++)
        block[CLEAR_BYTES + byte] = (uint8_t)(block[CLEAR_BYTES + byte] ^ stream[byte]);
    unpack(block, 28, reply);
    return WL_OK;
}
