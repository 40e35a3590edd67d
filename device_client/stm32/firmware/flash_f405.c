/* The last two sectors of the STM32F405's flash, 10 and 11, of 128 KB each. Supply of 2.7 V or more, for words of 32 bits.
 * Registers: reference manual RM0090, chapter 3. The processor waits while a sector is erased, up to two seconds. */
#include "flash.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define FLASH_ACR REGISTER(0x40023C00u)
#define FLASH_KEYR REGISTER(0x40023C04u)
#define FLASH_SR REGISTER(0x40023C0Cu)
#define FLASH_CR REGISTER(0x40023C10u)

enum { FIRST_SECTOR = 10, PATIENCE = 100000000 };
static const uint32_t PROGRAM = 1u << 0, ERASE = 1u << 1, WORDS = 2u << 8, START = 1u << 16, LOCK = 1u << 31;
static const uint32_t BUSY = 1u << 16, ERRORS = 0xf2u, DATA_CACHE = 1u << 10, RESET_DATA_CACHE = 1u << 12;

const volatile uint32_t *flash_sector(unsigned sector)
{
    return (const volatile uint32_t *)(0x080C0000u + sector * 4u * FLASH_SECTOR_WORDS);
}

static bool wait_until_done(void)
{
    for (uint32_t tries = 0; tries < PATIENCE; tries++)
        if ((FLASH_SR & BUSY) == 0) return (FLASH_SR & ERRORS) == 0;
    return false;
}

static bool unlock(void)
{
    if (FLASH_CR & LOCK) {
        FLASH_KEYR = 0x45670123u;
        FLASH_KEYR = 0xCDEF89ABu;
    }
    const bool idle = wait_until_done();
    FLASH_SR = ERRORS;
    return idle || wait_until_done();
}

bool flash_erase(unsigned sector)
{
    if (!unlock()) return false;
    FLASH_CR = ERASE | WORDS | (uint32_t)(FIRST_SECTOR + sector) << 3;
    FLASH_CR |= START;
    const bool done = wait_until_done();
    FLASH_CR = LOCK;
    /* It may still hold what was erased. */
    FLASH_ACR &= ~DATA_CACHE;
    FLASH_ACR |= RESET_DATA_CACHE;
    FLASH_ACR &= ~RESET_DATA_CACHE;
    FLASH_ACR |= DATA_CACHE;
    return done;
}

bool flash_write(const volatile uint32_t *at, uint32_t word)
{
    if (!unlock()) return false;
    FLASH_CR = PROGRAM | WORDS;
    *(volatile uint32_t *)(uintptr_t)at = word;
    const bool done = wait_until_done();
    FLASH_CR = LOCK;
    return done;
}
