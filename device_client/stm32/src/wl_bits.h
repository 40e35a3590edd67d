/* Bits of a byte string, most significant first. */
#ifndef WL_BITS_H
#define WL_BITS_H

#include <stdint.h>

static inline unsigned wl_get_bit(const uint8_t *bytes, uint32_t place)
{
    return (unsigned)bytes[place / 8] >> (7u - place % 8u) & 1u;
}

/* The bit must be 0 before. */
static inline void wl_set_bit(uint8_t *bytes, uint32_t place, unsigned bit)
{
    bytes[place / 8] = (uint8_t)(bytes[place / 8] | bit << (7u - place % 8u));
}

/* Append `count` bits of `value`, highest first, at *place. */
static inline void wl_put_bits(uint8_t *bytes, uint32_t *place, uint32_t value, unsigned count)
{
    while (count-- > 0) wl_set_bit(bytes, (*place)++, value >> count & 1u);
}

static inline uint32_t wl_take_bits(const uint8_t *bytes, uint32_t *place, unsigned count)
{
    uint32_t value = 0;
    while (count-- > 0) value = value << 1 | wl_get_bit(bytes, (*place)++);
    return value;
}

static inline void wl_clear(uint8_t *bytes, uint32_t count)
{
    while (count-- > 0) bytes[count] = 0;
}

#endif
