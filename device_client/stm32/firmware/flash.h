/* What keep_flash.c needs of a board's flash. */
#ifndef FLASH_H
#define FLASH_H

#include <stdbool.h>
#include <stdint.h>

enum { FLASH_SECTORS = 2, FLASH_SECTOR_WORDS = 32768 };

const volatile uint32_t *flash_sector(unsigned sector);

/* False: the controller reports an error. A word is written once after each erasure. */
bool flash_erase(unsigned sector);
bool flash_write(const volatile uint32_t *at, uint32_t word);

#endif
