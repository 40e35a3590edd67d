/* Sequences that never repeat, over any number of restarts: blocks of them are reserved in memory that lasts. */
#ifndef WL_SEQUENCE_H
#define WL_SEQUENCE_H

#include <stdint.h>

#include "wl_error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WL_SEQUENCE_BLOCK = 256, WL_SEQUENCES = 1 << 28 };

/* Write the first sequence that is not reserved where it outlives a restart; WL_OK only once it is surely there. */
typedef wl_error (*wl_store)(void *context, uint32_t first_free);

typedef struct {
    uint32_t next, first_free;
    wl_store store;
    void *context;
} wl_sequence;

/* At boot, with what was stored last, or 0 with a new key. */
wl_error wl_sequence_start(wl_sequence *sequence, uint32_t stored, wl_store store, void *context);

/* The sequence of the next transmission. WL_ERROR_RANGE: all are used, the device needs a new key. What `store` returns
 * where that fails; nothing may be sent then. */
wl_error wl_sequence_next(wl_sequence *sequence, uint32_t *value);

#ifdef __cplusplus
}
#endif

#endif
