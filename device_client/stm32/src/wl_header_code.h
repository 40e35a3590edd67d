/* The tail-biting code of headers and replies: rate 1/3, 256 states, generators 557, 663, 711 (octal), punctured. */
#ifndef WL_HEADER_CODE_H
#define WL_HEADER_CODE_H

#include <stdbool.h>
#include <stdint.h>

#include "wl_reply.h"

/* info_bits in coded_bits, which are sent at multiples of `stride` places. */
typedef struct {
    uint8_t info_bits, coded_bits, stride;
} wl_code;

enum { WL_MOST_CODED_BYTES = 28, WL_MOST_BLOCK_BYTES = 11 };

static const wl_code WL_OPEN_CODE = {56, 144, 89};
static const wl_code WL_KEYED_CODE = {88, 224, 139};

/* coded: coded_bits / 8 bytes. */
void wl_code_encode(const wl_code *code, const uint8_t *info, uint8_t *coded);

/* What arrived, coded_bits / 8 bytes, and what is known of the block; mask has a 1 where `known` holds. The eight bits
 * before bit `start` must be known. */
typedef struct {
    const wl_code *code;
    uint8_t coded[WL_MOST_CODED_BYTES], known[WL_MOST_BLOCK_BYTES], mask[WL_MOST_BLOCK_BYTES];
    unsigned start;
} wl_arrived;

/* The likeliest block among those with these known bits: one lap of the Viterbi algorithm. */
void wl_code_decode(const wl_arrived *arrived, wl_reply_scratch *scratch, uint8_t *info);

/* After it, with the block that it found: a second lap, along which the cost of leaving that path is noted. */
void wl_code_watch(const wl_arrived *arrived, wl_reply_scratch *scratch, const uint8_t *info);

/* After that: the next best block among those that leave the path once (Seshadri and Sundberg 1994); false: no more. */
bool wl_code_next(const wl_arrived *arrived, wl_reply_scratch *scratch, uint8_t *info);

/* XOR bits into a frame, in the order on the air: the coded header's where `coded` is not null, and those of the payload's
 * bytes [first, first + count), which lie at `bytes`. */
void wl_interleave(const wl_code *code, const uint8_t *coded, const uint8_t *bytes, uint32_t first, uint32_t count,
                   uint32_t payload_bytes, uint8_t *frame);

/* A reply's coded bits in their own order. */
void wl_gather_coded(const wl_code *code, const uint8_t *air, uint8_t *coded);

#endif
