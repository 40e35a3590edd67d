#include "wl_key.h"

#include "wl_bytes.h"
#include "wl_nonce.h"

static uint32_t rotate_left(uint32_t word, unsigned count)
{
    return word << count | word >> (32 - count);
}

static uint32_t rotate_right(uint32_t word, unsigned count)
{
    return word >> count | word << (32 - count);
}

static void write32(uint8_t *bytes, uint32_t value)
{
    for (unsigned byte = 0; byte < 4; byte++) bytes[byte] = (uint8_t)(value >> 8 * byte);
}

/* RFC 8439, section 2.1 */
static void quarter_round(uint32_t x[16], unsigned a, unsigned b, unsigned c, unsigned d)
{
    x[a] += x[b];
    x[d] = rotate_left(x[d] ^ x[a], 16);
    x[c] += x[d];
    x[b] = rotate_left(x[b] ^ x[c], 12);
    x[a] += x[b];
    x[d] = rotate_left(x[d] ^ x[a], 8);
    x[c] += x[d];
    x[b] = rotate_left(x[b] ^ x[c], 7);
}

wl_error wl_chacha20(const uint8_t key[WL_SECRET_BYTES], uint32_t counter, const uint8_t nonce[12],
                     uint8_t block[WL_BLOCK_BYTES])
{
    if (key == NULL || nonce == NULL || block == NULL) return WL_ERROR_ARGUMENT;
    uint32_t start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}, x[16];
    for (unsigned word = 0; word < 8; word++) start[4 + word] = wl_read32(key + 4 * word);
    start[12] = counter;
    for (unsigned word = 0; word < 3; word++) start[13 + word] = wl_read32(nonce + 4 * word);
    for (unsigned word = 0; word < 16; word++) x[word] = start[word];
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned column = 0; column < 4; column++) quarter_round(x, column, 4 + column, 8 + column, 12 + column);
        for (unsigned column = 0; column < 4; column++)
            quarter_round(x, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4);
    }
    for (unsigned word = 0; word < 16; word++) write32(block + 4 * word, x[word] + start[word]);
    return WL_OK;
}

/* RFC 7693, sections 2.6 and 2.7 */
static const uint32_t INITIAL[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                    0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
static const uint8_t ORDER[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static void mix(uint32_t v[16], unsigned a, unsigned b, unsigned c, unsigned d, uint32_t x, uint32_t y)
{
    v[a] += v[b] + x;
    v[d] = rotate_right(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 12);
    v[a] += v[b] + y;
    v[d] = rotate_right(v[d] ^ v[a], 8);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 7);
}

/* RFC 7693, section 3.2. The block is `bytes` of data and zeros; `total` counts all bytes so far. */
static void compress(uint32_t state[8], const uint8_t *data, size_t bytes, uint32_t total, uint32_t last)
{
    uint8_t block[WL_BLOCK_BYTES];
    uint32_t words[16], v[16];
    for (size_t byte = 0; byte < sizeof block; byte++) block[byte] = byte < bytes ? data[byte] : 0;
    for (unsigned word = 0; word < 16; word++) words[word] = wl_read32(block + 4 * word);
    for (unsigned word = 0; word < 8; word++) {
        v[word] = state[word];
        v[8 + word] = INITIAL[word];
    }
    v[12] ^= total;
    v[14] ^= last;
    for (unsigned round = 0; round < 10; round++) {
        const uint8_t *order = ORDER[round];
        for (unsigned column = 0; column < 4; column++)
            mix(v, column, 4 + column, 8 + column, 12 + column, words[order[2 * column]], words[order[2 * column + 1]]);
        for (unsigned column = 0; column < 4; column++)
            mix(v, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4, words[order[8 + 2 * column]],
                words[order[9 + 2 * column]]);
    }
    for (unsigned word = 0; word < 8; word++) state[word] ^= v[word] ^ v[8 + word];
}

wl_error wl_blake2s(const uint8_t key[WL_SECRET_BYTES], const uint8_t *message, size_t message_bytes, uint8_t *output,
                    size_t output_bytes)
{
    if (key == NULL || message == NULL || output == NULL) return WL_ERROR_ARGUMENT;
    if (message_bytes < 1 || message_bytes > WL_BLOCK_BYTES || output_bytes < 1 || output_bytes > 32) return WL_ERROR_LENGTH;
    uint32_t state[8];
    for (unsigned word = 0; word < 8; word++) state[word] = INITIAL[word];
    state[0] ^= 0x01010000u ^ (uint32_t)WL_SECRET_BYTES << 8 ^ (uint32_t)output_bytes;
    compress(state, key, WL_SECRET_BYTES, WL_BLOCK_BYTES, 0);
    compress(state, message, message_bytes, WL_BLOCK_BYTES + (uint32_t)message_bytes, 0xffffffffu);
    for (size_t byte = 0; byte < output_bytes; byte++) output[byte] = (uint8_t)(state[byte / 4] >> 8 * (byte % 4));
    return WL_OK;
}

wl_error wl_key_make(const uint8_t secret[WL_SECRET_BYTES], wl_key *key)
{
    static const uint8_t CIPHER[15] = "weaklink cipher", MAC[12] = "weaklink mac"; /* without the strings' zeros */
    if (secret == NULL || key == NULL) return WL_ERROR_ARGUMENT;
    wl_error error = wl_blake2s(secret, CIPHER, sizeof CIPHER, key->cipher, sizeof key->cipher);
    return error != WL_OK ? error : wl_blake2s(secret, MAC, sizeof MAC, key->mac, sizeof key->mac);
}

void wl_keystream(const wl_key *key, wl_use use, uint16_t device, uint32_t sequence, uint32_t counter,
                  uint8_t block[WL_BLOCK_BYTES])
{
    const uint8_t nonce[12] = {(uint8_t)use, 0, 0, 0, 0, 0, (uint8_t)(device >> 8), (uint8_t)device,
                               (uint8_t)(sequence >> 24), (uint8_t)(sequence >> 16), (uint8_t)(sequence >> 8),
                               (uint8_t)sequence};
    (void)wl_chacha20(key->cipher, counter, nonce, block);
}
