/* Little-endian reads of any alignment; compilers turn each into one load where the target allows it. */
#ifndef WL_BYTES_H
#define WL_BYTES_H

#include <stdint.h>

static inline uint32_t wl_read16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

static inline uint32_t wl_read32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static inline int32_t wl_read_signed32(const uint8_t *bytes)
{
    return (int32_t)wl_read32(bytes);
}

#endif
