/* From reset to main. The stack lies at the bottom of RAM: one that grows too far faults instead of writing over data. */
#include "stack.h"

#include <stddef.h>

#include "board.h"

extern uint32_t stack_bottom[], stack_top[], data_start[], data_end[], bss_start[], bss_end[];
extern const uint32_t data_source[];

int main(void);
void reset(void);
static void hang(void);

enum { PAINT = 0x57A7C0DE };

/* A board turns on only one interrupt of its own, so all of them may lead to the same place. */
enum { EXCEPTIONS = 16, VECTORS_IN_ALL = EXCEPTIONS + BOARD_INTERRUPTS };

__attribute__((section(".vectors"), used)) static const void *const VECTORS[VECTORS_IN_ALL] = {
    stack_top, (const void *)reset, (const void *)hang, (const void *)hang,
    (const void *)hang, (const void *)hang, (const void *)hang,
    [EXCEPTIONS ... VECTORS_IN_ALL - 1] = (const void *)board_interrupt};

static void hang(void)
{
    for (;;) continue;
}

void reset(void)
{
    uint32_t *here = __builtin_frame_address(0);
    for (uint32_t *word = stack_bottom; word < here - 16; word++) *word = PAINT;
    const uint32_t *from = data_source;
    for (uint32_t *word = data_start; word < data_end; word++) *word = *from++;
    for (uint32_t *word = bss_start; word < bss_end; word++) *word = 0;
    main();
    hang();
}

uint32_t stack_reserved(void)
{
    return (uint32_t)((uintptr_t)stack_top - (uintptr_t)stack_bottom);
}

uint32_t stack_used(void)
{
    const uint32_t *word = stack_bottom;
    while (word < stack_top && *word == PAINT) word++;
    return (uint32_t)((uintptr_t)stack_top - (uintptr_t)word);
}

/* The compiler may call these two for copies and clears. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    uint8_t *target = to;
    for (const uint8_t *source = from; bytes > 0; bytes--) *target++ = *source++;
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    for (uint8_t *target = to; bytes > 0; bytes--) *target++ = (uint8_t)value;
    return to;
}
