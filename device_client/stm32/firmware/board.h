/* What the firmware needs of a board. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The radio speaks when it likes, so its bytes are taken by an interrupt and wait in a ring of this many, a power of two:
 * reading what is no reply takes as long as 1,300 bytes at 115200 baud where the core runs at 16 MHz. */
enum { BOARD_RING_BYTES = 2048 };

/* In the vector table: as many as the STM32F405 has. A part with more of them, as the F7 and H7, raises it. */
enum { BOARD_INTERRUPTS = 82 };

/* CONSOLE: images come in and measurements go out; a camera stands here later. RADIO: frames out, replies in. */
typedef enum { BOARD_CONSOLE = 0, BOARD_RADIO = 1 } board_port;

/* SysTick counts at this rate; set by board_start. */
uint32_t board_tick_hz(void);

void board_start(void);
bool board_has_byte(board_port port);
uint8_t board_get(board_port port);
void board_put(board_port port, uint8_t byte);

/* A byte has come in by radio; where the ring is full it is lost. */
void board_interrupt(void);

/* 24-bit time that counts up, from SysTick; differences are right up to 2^24 ticks. */
static inline uint32_t board_ticks(void)
{
    return 0xffffffu - *(volatile uint32_t *)0xE000E018u;
}

static inline uint32_t board_ticks_since(uint32_t start)
{
    return (board_ticks() - start) & 0xffffffu;
}

/* SysTick on the processor clock, free running. */
static inline void board_start_ticks(void)
{
    *(volatile uint32_t *)0xE000E014u = 0xffffffu;
    *(volatile uint32_t *)0xE000E018u = 0;
    *(volatile uint32_t *)0xE000E010u = 5u;
}

/* Written by the interrupt at `head`, read by the program at `tail`. */
typedef struct {
    volatile uint8_t bytes[BOARD_RING_BYTES];
    volatile uint32_t head, tail;
} board_ring;

static inline void board_ring_put(board_ring *ring, uint8_t byte)
{
    if (ring->head - ring->tail == BOARD_RING_BYTES) return;
    ring->bytes[ring->head % BOARD_RING_BYTES] = byte;
    ring->head++;
}

static inline uint8_t board_ring_get(board_ring *ring)
{
    const uint8_t byte = ring->bytes[ring->tail % BOARD_RING_BYTES];
    ring->tail++;
    return byte;
}

/* In the processor's own interrupt controller. A macro, so that a constant beyond the vector table does not compile: its
 * first interrupt would jump into code that is no handler. */
#define BOARD_ENABLE_INTERRUPT(number) \
    do { \
        _Static_assert((unsigned)(number) < BOARD_INTERRUPTS, "the vector table ends before it: raise BOARD_INTERRUPTS"); \
        *(volatile uint32_t *)(0xE000E100u + 4u * ((number) / 32u)) = 1u << (number) % 32u; \
    } while (0)

#endif
