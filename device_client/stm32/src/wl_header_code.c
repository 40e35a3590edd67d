#include "wl_header_code.h"

#include <stddef.h>

#include "wl_bits.h"

enum { MEMORY = 8, OUTPUTS = 3, UNREACHED = 0x4000, NEVER = 255, NO_TURN = WL_MOST_INFO_BITS };
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
 * either bit of a window turns all three outputs over. By which cost `state` is reached with a 0 and a 1 falling out: */
static void branch_costs(const uint16_t costs[8], unsigned triple, const uint16_t *from, unsigned state, unsigned branch[2])
{
    const unsigned pair = state & (WL_STATES / 2 - 1u);
    triple ^= state >= WL_STATES / 2 ? 7u : 0u;
    branch[0] = from[2 * pair] + (unsigned)costs[triple];
    branch[1] = from[2 * pair + 1] + (unsigned)costs[triple ^ 7u];
}

static void step(const uint16_t costs[8], const uint8_t triples[WL_STATES / 2], const uint16_t *from, uint16_t *to,
                 uint8_t survivors[WL_STATES / 8])
{
    wl_clear(survivors, WL_STATES / 8);
    for (unsigned state = 0; state < WL_STATES; state++) {
        unsigned branch[2];
        branch_costs(costs, triples[state & (WL_STATES / 2 - 1u)], from, state, branch);
        const bool one = branch[1] < branch[0];
        to[state] = (uint16_t)branch[one];
        if (one) survivors[state / 8] = (uint8_t)(survivors[state / 8] | 1u << state % 8);
    }
}

static unsigned bit_at(const wl_arrived *arrived, unsigned turn)
{
    return (arrived->start + turn) % arrived->code->info_bits;
}

/* The state before the first turn and after the last. */
static unsigned first_state(const wl_arrived *arrived)
{
    unsigned state = 0;
    for (unsigned bit = arrived->start - MEMORY; bit < arrived->start; bit++)
        state = state >> 1 | wl_get_bit(arrived->known, bit) << (MEMORY - 1);
    return state;
}

/* One lap over all states. path: the block whose margins are to be noted, or null. */
static void lap(const wl_arrived *arrived, wl_reply_scratch *scratch, const uint8_t *path)
{
    uint8_t triples[WL_STATES / 2];
    for (unsigned pair = 0; pair < WL_STATES / 2; pair++) triples[pair] = (uint8_t)outputs_of(pair << 1);
    unsigned watched = first_state(arrived);
    for (unsigned state = 0; state < WL_STATES; state++) scratch->costs[0][state] = state == watched ? 0 : UNREACHED;
    for (unsigned turn = 0; turn < arrived->code->info_bits; turn++) {
        const unsigned bit = bit_at(arrived, turn);
        uint16_t costs[8], *from = scratch->costs[turn % 2], *to = scratch->costs[(turn + 1) % 2];
        step_costs(arrived->code, arrived->coded, bit, costs);
        step(costs, triples, from, to, scratch->survivors[turn]);
        if (path != NULL) {
            unsigned branch[2];
            watched = watched >> 1 | wl_get_bit(path, bit) << (MEMORY - 1);
            branch_costs(costs, triples[watched & (WL_STATES / 2 - 1u)], from, watched, branch);
            const unsigned margin = branch[0] < branch[1] ? branch[1] - branch[0] : branch[0] - branch[1];
            scratch->margins[turn] = (uint8_t)(margin < NEVER ? margin : NEVER);
        }
        if (!wl_get_bit(arrived->mask, bit)) continue;
        const unsigned wrong = wl_get_bit(arrived->known, bit) ? 0 : WL_STATES / 2;
        for (unsigned state = wrong; state < wrong + WL_STATES / 2; state++) to[state] = UNREACHED;
    }
}

/* Walk back along the survivors, leaving them at one turn. */
static void trace(const wl_arrived *arrived, const wl_reply_scratch *scratch, unsigned deviation, uint8_t *info)
{
    unsigned state = first_state(arrived);
    wl_clear(info, arrived->code->info_bits / 8u);
    for (unsigned turn = arrived->code->info_bits; turn-- > 0;) {
        wl_set_bit(info, bit_at(arrived, turn), state >> (MEMORY - 1));
        const unsigned survivor = (unsigned)scratch->survivors[turn][state / 8] >> state % 8 & 1u;
        state = (state << 1 & (WL_STATES - 1u)) | (survivor ^ (turn == deviation));
    }
}

void wl_code_decode(const wl_arrived *arrived, wl_reply_scratch *scratch, uint8_t *info)
{
    lap(arrived, scratch, NULL);
    trace(arrived, scratch, NO_TURN, info);
}

void wl_code_watch(const wl_arrived *arrived, wl_reply_scratch *scratch, const uint8_t *info)
{
    lap(arrived, scratch, info);
}

bool wl_code_next(const wl_arrived *arrived, wl_reply_scratch *scratch, uint8_t *info)
{
    unsigned deviation = 0;
    for (unsigned turn = 1; turn < arrived->code->info_bits; turn++)
        if (scratch->margins[turn] < scratch->margins[deviation]) deviation = turn;
    if (scratch->margins[deviation] == NEVER) return false;
    scratch->margins[deviation] = NEVER;
    trace(arrived, scratch, deviation, info);
    return true;
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
