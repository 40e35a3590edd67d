/* A log of records in two sectors of flash: number and complement, one behind the other, so that flash wears 16,384 times
 * less than numbers are stored. A full sector is left as it is until the first record of the other is there. */
#include "keep.h"

#include <stdbool.h>
#include <stddef.h>

#include "flash.h"

enum { ERASED = 0xffffffffu, RECORD_WORDS = 2, MOST_RECORDS = FLASH_SECTOR_WORDS / RECORD_WORDS };

static bool holds(const volatile uint32_t *record)
{
    return record[0] == ~record[1];
}

static bool is_erased(const volatile uint32_t *record)
{
    return record[0] == ERASED && record[1] == ERASED;
}

/* Records in a sector up to the last that is not erased, one torn by a loss of power included; *last: its largest number. */
static uint32_t records_in(unsigned sector, uint32_t *last, bool *any)
{
    const volatile uint32_t *words = flash_sector(sector);
    uint32_t used = 0;
    for (uint32_t record = 0; record < MOST_RECORDS; record++) {
        const volatile uint32_t *at = words + RECORD_WORDS * record;
        if (is_erased(at)) continue;
        used = record + 1;
        if (holds(at) && (!*any || at[0] > *last)) {
            *last = at[0];
            *any = true;
        }
    }
    return used;
}

uint32_t keep_load(void)
{
    uint32_t last = 0;
    bool any = false;
    for (unsigned sector = 0; sector < FLASH_SECTORS; sector++) (void)records_in(sector, &last, &any);
    return last;
}

static bool write_record(unsigned sector, uint32_t record, uint32_t number)
{
    const volatile uint32_t *at = flash_sector(sector) + RECORD_WORDS * record;
    return flash_write(at, number) && flash_write(at + 1, ~number) && at[0] == number && holds(at);
}

wl_error keep_store(void *context, uint32_t first_free)
{
    (void)context;
    uint32_t newest[FLASH_SECTORS] = {0, 0}, used[FLASH_SECTORS];
    bool any[FLASH_SECTORS] = {false, false};
    for (unsigned sector = 0; sector < FLASH_SECTORS; sector++) used[sector] = records_in(sector, &newest[sector], &any[sector]);
    const unsigned current = any[1] && (!any[0] || newest[1] > newest[0]) ? 1 : 0;
    if (used[current] < MOST_RECORDS) return write_record(current, used[current], first_free) ? WL_OK : WL_ERROR_STORAGE;
    const unsigned other = 1 - current;
    return flash_erase(other) && write_record(other, 0, first_free) ? WL_OK : WL_ERROR_STORAGE;
}
