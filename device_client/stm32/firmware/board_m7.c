/* ARM MPS2 with the AN500 image, a Cortex-M7 at 25 MHz: console on UART0, radio on UART1.
 * Registers: CMSDK APB UART, in the Cortex-M System Design Kit's technical reference manual. */
#include "board.h"

enum { TICK_HZ = 25000000, BAUD_DIVIDER = 217, RADIO_INTERRUPT = 2 };
enum { FULL = 1u << 0, RECEIVED = 1u << 1, INTERRUPT_ON_RECEIVED = 1u << 3 };

typedef struct {
    volatile uint32_t data, state, control, interrupts, divider;
} uart;

static uart *const PORTS[2] = {(uart *)0x40004000u, (uart *)0x40005000u};
static board_ring radio;

uint32_t board_tick_hz(void)
{
    return TICK_HZ;
}

void board_start(void)
{
    for (unsigned port = 0; port < 2; port++) {
        PORTS[port]->divider = BAUD_DIVIDER;
        PORTS[port]->control = port == BOARD_RADIO ? 3u | INTERRUPT_ON_RECEIVED : 3u;
    }
    BOARD_ENABLE_INTERRUPT(RADIO_INTERRUPT);
    board_start_ticks();
}

void board_interrupt(void)
{
    PORTS[BOARD_RADIO]->interrupts = RECEIVED;
    if (PORTS[BOARD_RADIO]->state & RECEIVED) board_ring_put(&radio, (uint8_t)PORTS[BOARD_RADIO]->data);
}

bool board_has_byte(board_port port)
{
    return port == BOARD_RADIO ? radio.head != radio.tail : (PORTS[port]->state & RECEIVED) != 0;
}

uint8_t board_get(board_port port)
{
    while (!board_has_byte(port)) continue;
    return port == BOARD_RADIO ? board_ring_get(&radio) : (uint8_t)PORTS[port]->data;
}

void board_put(board_port port, uint8_t byte)
{
    while ((PORTS[port]->state & FULL) != 0) continue;
    PORTS[port]->data = byte;
}
