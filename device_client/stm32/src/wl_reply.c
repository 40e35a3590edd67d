#include "wl_reply.h"

#include <stdbool.h>

#include "wl_bits.h"
#include "wl_check.h"
#include "wl_header_code.h"
#include "wl_nonce.h"

enum { OPEN_MODE = 0, KEYED_MODE = 1, FIELD_BYTES = 7, CLEAR_BYTES = 4, HIDDEN_BYTES = 3, START = 12, LEVELS = 16 };

/* Candidates compared with check or MAC, and the wrong bits that one of open mode may have: one block of noise in 30 is as
 * near to one, so that noise passes with a probability below 1 / 1,900,000, and 8 / 2^32 in keyed mode. */
enum { OPEN_CHECKS = 4, KEYED_CHECKS = 8, OPEN_BLOCK_BYTES = 7, CREDIBLE_ERRORS = 27 };

/* What arrived, for the block with this version and sequence. */
static void arrive(wl_arrived *arrived, const wl_code *code, const uint8_t *data, unsigned version, uint32_t sequence,
                   unsigned sequence_bits)
{
    uint32_t place = 0;
    arrived->code = code;
    arrived->start = START;
    wl_clear(arrived->known, WL_MOST_BLOCK_BYTES);
    wl_clear(arrived->mask, WL_MOST_BLOCK_BYTES);
    wl_put_bits(arrived->known, &place, version, 2);
    place = 0;
    wl_put_bits(arrived->mask, &place, 3, 2);
    place = 4;
    wl_put_bits(arrived->known, &place, sequence, sequence_bits);
    place = 4;
    wl_put_bits(arrived->mask, &place, 0xffffffffu, sequence_bits);
    wl_gather_coded(code, data, arrived->coded);
}

/* The candidate of this number, 0 being the likeliest; false where there is none. */
static bool candidate(const wl_arrived *arrived, unsigned number, wl_reply_scratch *scratch, uint8_t *block)
{
    if (number == 0) wl_code_decode(arrived, scratch, block);
    if (number == 1) wl_code_watch(arrived, scratch, block);
    return number == 0 || wl_code_next(arrived, scratch, block);
}

/* Whether few enough of the bits that arrived are wrong if this block was sent. */
static bool credible(const wl_arrived *arrived, const uint8_t *block)
{
    uint8_t coded[WL_MOST_CODED_BYTES];
    unsigned errors = 0;
    wl_code_encode(arrived->code, block, coded);
    for (unsigned byte = 0; byte < WL_REPLY_BYTES; byte++)
        for (unsigned wrong = coded[byte] ^ arrived->coded[byte]; wrong != 0; wrong &= wrong - 1) errors++;
    return errors <= CREDIBLE_ERRORS;
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
    wl_arrived arrived;
    arrive(&arrived, &WL_OPEN_CODE, data, OPEN_MODE, sequence, 12);
    const uint8_t number[2] = {(uint8_t)(device >> 8), (uint8_t)device};
    const uint16_t start = wl_check(WL_CHECK_START, number, sizeof number);
    for (unsigned tried = 0; tried < OPEN_CHECKS && candidate(&arrived, tried, scratch, block); tried++) {
        /* A block that ends in its own check leaves 0. */
        if (wl_check(start, block, OPEN_BLOCK_BYTES) != 0 || !credible(&arrived, block)) continue;
        unpack(block, 12, reply);
        return WL_OK;
    }
    return WL_ERROR_DAMAGED;
}

static bool mac_holds(const uint8_t *block, const wl_key *key, uint16_t device)
{
    uint8_t message[3 + FIELD_BYTES] = {WL_USE_REPLY, (uint8_t)(device >> 8), (uint8_t)device}, mac[WL_MAC_BYTES];
    for (unsigned byte = 0; byte < FIELD_BYTES; byte++) message[3 + byte] = block[byte];
    if (wl_blake2s(key->mac, message, sizeof message, mac, sizeof mac) != WL_OK) return false;
    unsigned difference = 0;
    for (unsigned byte = 0; byte < WL_MAC_BYTES; byte++) difference |= (unsigned)block[FIELD_BYTES + byte] ^ mac[byte];
    return difference == 0;
}

wl_error wl_reply_read_keyed(const uint8_t *data, size_t bytes, const wl_key *key, uint16_t device, uint32_t sequence,
                             wl_reply_scratch *scratch, wl_reply *reply)
{
    if (data == NULL || key == NULL || scratch == NULL || reply == NULL || sequence >> 28 != 0) return WL_ERROR_ARGUMENT;
    if (bytes != WL_KEYED_REPLY_BYTES) return WL_ERROR_LENGTH;
    uint8_t block[WL_MOST_BLOCK_BYTES], stream[WL_BLOCK_BYTES];
    wl_arrived arrived;
    arrive(&arrived, &WL_KEYED_CODE, data, KEYED_MODE, sequence, 28);
    for (unsigned tried = 0; tried < KEYED_CHECKS && candidate(&arrived, tried, scratch, block); tried++) {
        if (!mac_holds(block, key, device)) continue;
        wl_keystream(key, WL_USE_REPLY, device, sequence, 0, stream);
        for (unsigned byte = 0; byte < HIDDEN_BYTES; byte++)
            block[CLEAR_BYTES + byte] = (uint8_t)(block[CLEAR_BYTES + byte] ^ stream[byte]);
        unpack(block, 28, reply);
        return WL_OK;
    }
    return WL_ERROR_DAMAGED;
}
