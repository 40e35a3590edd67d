#include "wl_header_code.h"

#include <stddef.h>

#include "wl_bits.h"

enum { MEMORY = 8, OUTPUTS = 3, UNREACHED = 0x4000 };
static const uint16_t GENERATORS[OUTPUTS] = {0557, 0663, 0711};

static unsigned parity(unsigned word)
{
    word ^= word >> 8;
    word ^= word >> 4;
    word ^= word >> 2;
    word ^= word >> 1;
    return word & 1u;
}

/* The three coded bits of a window of nine, the newest on top; the first generator's is the lowest. */
static unsigned outputs_of(unsigned window)
{
    unsigned bits = 0;
    for (unsigned output = 0; output < OUTPUTS; output++) bits |= parity(window & GENERATORS[output]) << output;
    return bits;
}

/* Where coded bit `place` of OUTPUTS * info_bits is sent; it is dropped where that of the next place is the same. */
static uint32_t sent_before(const wl_code *code, uint32_t place)
{
    return place * code->coded_bits / ((uint32_t)OUTPUTS * code->info_bits);
}

void wl_code_encode(const wl_code *code, const uint8_t *info, uint8_t *coded)
{
    unsigned window = 0;
    for (unsigned bit = code->info_bits - (unsigned)MEMORY; bit < code->info_bits; bit++)
        window = window >> 1 | wl_get_bit(info, bit) << MEMORY;
    wl_clear(coded, code->coded_bits / 8u);
    for (uint32_t bit = 0; bit < code->info_bits; bit++) {
        window = window >> 1 | wl_get_bit(info, bit) << MEMORY;
        const unsigned outputs = outputs_of(window);
        for (unsigned output = 0; output < OUTPUTS; output++) {
            const uint32_t place = OUTPUTS * bit + output;
            if (sent_before(code, place + 1) > sent_before(code, place))
                wl_set_bit(coded, sent_before(code, place), outputs >> output & 1u);
        }
    }
}

/* What each of the eight triples of coded bits would contradict of what arrived for one input bit. */
static void step_costs(const wl_code *code, const uint8_t *coded, uint32_t bit, uint16_t costs[8])
{
    for (unsigned triple = 0; triple < 8; triple++) {
        unsigned cost = 0;
        for (unsigned output = 0; output < OUTPUTS; output++) {
            const uint32_t place = OUTPUTS * bit + output, sent = sent_before(code, place);
            if (sent_before(code, place + 1) > sent) cost += wl_get_bit(coded, sent) ^ (triple >> output & 1u);
        }
        costs[triple] = (uint16_t)cost;
    }
}

/* States hold the last eight bits, the newest on top. All generators have their highest and lowest bit set, so changing
 * either bit of a window turns all three outputs over. */
static void step(const uint16_t costs[8], const uint8_t triples[WL_STATES / 2], const uint16_t *from, uint16_t *to,
                 uint8_t survivors[WL_STATES / 8])
{
    wl_clear(survivors, WL_STATES / 8);
    for (unsigned state = 0; state < WL_STATES; state++) {
        const unsigned pair = state & (WL_STATES / 2 - 1u), triple = triples[pair] ^ (state >= WL_STATES / 2 ? 7u : 0u);
        const unsigned zero = from[2 * pair] + (unsigned)costs[triple], one = from[2 * pair + 1] + (unsigned)costs[triple ^ 7u];
        to[state] = (uint16_t)(one < zero ? one : zero);
        if (one < zero) survivors[state / 8] = (uint8_t)(survivors[state / 8] | 1u << state % 8);
    }
}

void wl_code_decode(const wl_code *code, const uint8_t *coded, const uint8_t *known, const uint8_t *mask, unsigned start,
                    wl_reply_scratch *scratch, uint8_t *info)
{
    uint8_t triples[WL_STATES / 2];
    for (unsigned pair = 0; pair < WL_STATES / 2; pair++) triples[pair] = (uint8_t)outputs_of(pair << 1);
    unsigned first = 0;
    for (unsigned bit = start - MEMORY; bit < start; bit++) first = first >> 1 | wl_get_bit(known, bit) << (MEMORY - 1);
    for (unsigned state = 0; state < WL_STATES; state++) scratch->costs[0][state] = state == first ? 0 : UNREACHED;
    for (unsigned count = 0; count < code->info_bits; count++) {
        const unsigned bit = (start + count) % code->info_bits;
        uint16_t costs[8], *to = scratch->costs[(count + 1) % 2];
        step_costs(code, coded, bit, costs);
        step(costs, triples, scratch->costs[count % 2], to, scratch->survivors[count]);
        if (!wl_get_bit(mask, bit)) continue;
        const unsigned wrong = wl_get_bit(known, bit) ? 0 : WL_STATES / 2;
        for (unsigned state = wrong; state < wrong + WL_STATES / 2; state++) to[state] = UNREACHED;
    }
    wl_clear(info, code->info_bits / 8u);
    unsigned state = first;
    for (unsigned count = code->info_bits; count-- > 0;) {
        const unsigned bit = (start + count) % code->info_bits;
        wl_set_bit(info, bit, state >> (MEMORY - 1));
        state = (state << 1 & (WL_STATES - 1u)) | ((unsigned)scratch->survivors[count][state / 8] >> state % 8 & 1u);
    }
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static uint32_t stride_of(uint32_t bits)
{
    uint32_t step = bits * 89u / 144u;
    if (step == 0) step = 1;
    while (common_divisor(step, bits) != 1) step++;
    return step;
}

void wl_interleave(const wl_code *code, const uint8_t *coded, const uint8_t *bytes, uint32_t first, uint32_t count,
                   uint32_t payload_bytes, uint8_t *frame)
{
    const uint32_t payload_bits = 8 * payload_bytes, total = code->coded_bits + payload_bits;
    const uint32_t step = payload_bits == 0 ? 0 : stride_of(payload_bits);
    uint32_t sum = 0, header_bit = 0, payload_bit = 0;
    for (uint32_t place = 0; place < total; place++) {
        unsigned bit = 0;
        sum += code->coded_bits;
        if (sum >= total) {
            sum -= total;
            if (coded != NULL) bit = wl_get_bit(coded, header_bit);
            header_bit = (header_bit + code->stride) % code->coded_bits;
        } else {
            if (payload_bit / 8 - first < count) bit = wl_get_bit(bytes, payload_bit - 8 * first);
            payload_bit += step;
            if (payload_bit >= payload_bits) payload_bit -= payload_bits;
        }
        frame[place / 8] = (uint8_t)(frame[place / 8] ^ bit << (7u - place % 8u));
    }
}

void wl_gather_coded(const wl_code *code, const uint8_t *air, uint8_t *coded)
{
    uint32_t bit = 0;
    wl_clear(coded, code->coded_bits / 8u);
    for (uint32_t place = 0; place < code->coded_bits; place++) {
        wl_set_bit(coded, bit, wl_get_bit(air, place));
        bit = (bit + code->stride) % code->coded_bits;
    }
}
