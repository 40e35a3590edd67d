/* What the firmware needs of a board. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CONSOLE: images come in and measurements go out; a camera stands here later. RADIO: frames out, replies in. */
typedef enum { BOARD_CONSOLE = 0, BOARD_RADIO = 1 } board_port;

/* SysTick counts at this rate; set by board_start. */
uint32_t board_tick_hz(void);

void board_start(void);
bool board_has_byte(board_port port);
uint8_t board_get(board_port port);
void board_put(board_port port, uint8_t byte);

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

#endif
