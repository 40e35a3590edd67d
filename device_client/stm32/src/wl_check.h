/* CRC-16, polynomial 0x1021, not reflected: the check of open headers and replies. */
#ifndef WL_CHECK_H
#define WL_CHECK_H

#include <stdint.h>

enum { WL_CHECK_START = 0xFFFF };

static inline uint16_t wl_check(uint16_t check, const uint8_t *bytes, uint32_t count)
{
    for (; count > 0; count--, bytes++) {
        check = (uint16_t)(check ^ *bytes << 8);
        for (unsigned bit = 0; bit < 8; bit++) check = (uint16_t)(check & 0x8000u ? check << 1 ^ 0x1021 : check << 1);
    }
    return check;
}

#endif
