/* Pairs of 16-bit numbers in a word: the instructions of Cortex-M4 and M7 where there are any, the same in C elsewhere.
 *
 * Four bytes x0 x1 x2 x3 become the pairs (x0, x2) and (x1, x3), because that is what one SXTB16 each makes. Weights and
 * activations are split alike, so sums of products do not notice. */
#ifndef WL_SIMD_H
#define WL_SIMD_H

#include <stdint.h>

#if defined(__ARM_FEATURE_DSP) && !defined(WL_PORTABLE)
#define WL_DSP 1
#include <arm_acle.h> /* its __ssat and __usat do not compile without a warning at -Wconversion */

static inline uint32_t wl_even(uint32_t bytes)
{
    return (uint32_t)__sxtb16((int8x4_t)bytes);
}

static inline uint32_t wl_odd(uint32_t bytes)
{
    return (uint32_t)__sxtb16((int8x4_t)(bytes >> 8 | bytes << 24));
}

static inline int32_t wl_smlad(uint32_t a, uint32_t b, int32_t sum)
{
    return __smlad((int16x2_t)a, (int16x2_t)b, sum);
}

static inline int32_t wl_low_product(uint32_t a, uint32_t b, int32_t sum)
{
    return __smlabb((int32_t)a, (int32_t)b, sum);
}

static inline int32_t wl_high_product(uint32_t a, uint32_t b, int32_t sum)
{
    return __smlatt((int32_t)a, (int32_t)b, sum);
}

static inline int32_t wl_signed8(int32_t value)
{
    int32_t result;
    __asm("ssat %0, #8, %1" : "=r"(result) : "r"(value));
    return result;
}

static inline int32_t wl_unsigned7(int32_t value)
{
    int32_t result;
    __asm("usat %0, #7, %1" : "=r"(result) : "r"(value));
    return result;
}

#else
#define WL_DSP 0

static inline int32_t wl_low(uint32_t pair)
{
    return (int32_t)((pair & 0xffffu) ^ 0x8000u) - 0x8000;
}

static inline int32_t wl_high(uint32_t pair)
{
    return (int32_t)((pair >> 16) ^ 0x8000u) - 0x8000;
}

static inline uint32_t wl_even(uint32_t bytes)
{
    uint32_t low = ((bytes & 0xffu) ^ 0x80u) - 0x80u, high = ((bytes >> 16 & 0xffu) ^ 0x80u) - 0x80u;
    return (low & 0xffffu) | high << 16;
}

static inline uint32_t wl_odd(uint32_t bytes)
{
    return wl_even(bytes >> 8);
}

static inline int32_t wl_low_product(uint32_t a, uint32_t b, int32_t sum)
{
    return sum + wl_low(a) * wl_low(b);
}

static inline int32_t wl_high_product(uint32_t a, uint32_t b, int32_t sum)
{
    return sum + wl_high(a) * wl_high(b);
}

static inline int32_t wl_smlad(uint32_t a, uint32_t b, int32_t sum)
{
    return wl_high_product(a, b, wl_low_product(a, b, sum));
}

static inline int32_t wl_signed8(int32_t value)
{
    return value < -128 ? -128 : value > 127 ? 127 : value;
}

static inline int32_t wl_unsigned7(int32_t value)
{
    return value < 0 ? 0 : value > 127 ? 127 : value;
}

#endif
#endif
