/* STM32F405: 168 MHz from an 8 MHz crystal; console on USART1 (PA9, PA10), radio on USART2 (PA2, PA3), 115200 baud.
 * Registers: reference manual RM0090, chapters 3 (flash), 7 (clocks), 8 (pins), 12 (interrupts) and 30 (USART). */
#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define RCC_CR REGISTER(0x40023800u)
#define RCC_PLLCFGR REGISTER(0x40023804u)
#define RCC_CFGR REGISTER(0x40023808u)
#define RCC_AHB1ENR REGISTER(0x40023830u)
#define RCC_APB1ENR REGISTER(0x40023840u)
#define RCC_APB2ENR REGISTER(0x40023844u)
#define FLASH_ACR REGISTER(0x40023C00u)
#define GPIOA_MODER REGISTER(0x40020000u)
#define GPIOA_AFRL REGISTER(0x40020020u)
#define GPIOA_AFRH REGISTER(0x40020024u)

enum { BAUD = 115200, INTERNAL_HZ = 16000000, FULL_HZ = 168000000, RADIO_INTERRUPT = 38 };

/* Tries of some ten cycles at 16 MHz: 100 ms, which is what crystals are given. */
enum { PATIENCE = 160000 };
enum { OVERRUN = 1u << 3, RECEIVED = 1u << 5, CAN_SEND = 1u << 7, INTERRUPT_ON_RECEIVED = 1u << 5 };

typedef struct {
    volatile uint32_t status, data, baud, control1;
} usart;

static usart *const PORTS[2] = {(usart *)0x40011000u, (usart *)0x40004400u};
static uint32_t core_hz = INTERNAL_HZ;
static board_ring radio;

uint32_t board_tick_hz(void)
{
    return core_hz;
}

static bool wait_for(volatile uint32_t *place, uint32_t mask, uint32_t value)
{
    for (uint32_t tries = 0; tries < PATIENCE; tries++)
        if ((*place & mask) == value) return true;
    return false;
}

/* 8 MHz / 8 * 336 / 2. Without a crystal (or under an emulator without clocks) the part stays at 16 MHz. Reset leaves the
 * regulator in the scale that 168 MHz need (PWR_CR, VOS = 1). */
static void start_clock(void)
{
    RCC_CR |= 1u << 16;
    if (!wait_for(&RCC_CR, 1u << 17, 1u << 17)) return;
    RCC_PLLCFGR = 8u | 336u << 6 | 0u << 16 | 1u << 22 | 7u << 24;
    RCC_CR |= 1u << 24;
    if (!wait_for(&RCC_CR, 1u << 25, 1u << 25)) return;
    /* Wait states before the clock; read back, as the manual asks. */
    FLASH_ACR = 5u | 1u << 8 | 1u << 9 | 1u << 10;
    if (!wait_for(&FLASH_ACR, 7u, 5u)) return;
    RCC_CFGR = 5u << 10 | 4u << 13 | 2u;
    if (wait_for(&RCC_CFGR, 3u << 2, 2u << 2)) core_hz = FULL_HZ;
}

static void start_usart(usart *port, uint32_t clock_hz, uint32_t interrupts)
{
    port->baud = (clock_hz + BAUD / 2) / BAUD;
    port->control1 = 1u << 13 | 1u << 3 | 1u << 2 | interrupts;
}

void board_start(void)
{
    start_clock();
    RCC_AHB1ENR |= 1u;
    RCC_APB1ENR |= 1u << 17;
    RCC_APB2ENR |= 1u << 4;
    GPIOA_MODER = (GPIOA_MODER & ~(0xfu << 4 | 0xfu << 18)) | 0xau << 4 | 0xau << 18;
    GPIOA_AFRL = (GPIOA_AFRL & ~(0xffu << 8)) | 0x77u << 8;
    GPIOA_AFRH = (GPIOA_AFRH & ~(0xffu << 4)) | 0x77u << 4;
    start_usart(PORTS[BOARD_CONSOLE], core_hz == FULL_HZ ? core_hz / 2 : core_hz, 0);
    start_usart(PORTS[BOARD_RADIO], core_hz == FULL_HZ ? core_hz / 4 : core_hz, INTERRUPT_ON_RECEIVED);
    BOARD_ENABLE_INTERRUPT(RADIO_INTERRUPT);
    board_start_ticks();
}

/* An overrun interrupts too, may stand without a byte, and is cleared only by reading status, then data. */
static bool has_byte(usart *port)
{
    const uint32_t status = port->status;
    if ((status & (OVERRUN | RECEIVED)) == OVERRUN) (void)port->data;
    return (status & RECEIVED) != 0;
}

void board_interrupt(void)
{
    if (has_byte(PORTS[BOARD_RADIO])) board_ring_put(&radio, (uint8_t)PORTS[BOARD_RADIO]->data);
}

bool board_has_byte(board_port port)
{
    return port == BOARD_RADIO ? radio.head != radio.tail : has_byte(PORTS[port]);
}

uint8_t board_get(board_port port)
{
    while (!board_has_byte(port)) continue;
    return port == BOARD_RADIO ? board_ring_get(&radio) : (uint8_t)PORTS[port]->data;
}

void board_put(board_port port, uint8_t byte)
{
    while ((PORTS[port]->status & CAN_SEND) == 0) continue;
    PORTS[port]->data = byte;
}
