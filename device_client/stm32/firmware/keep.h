/* Where keyed mode keeps the first sequence that is not reserved; the Makefile's KEEP says which source is built. */
#ifndef KEEP_H
#define KEEP_H

#include <stdint.h>

#include "wl_error.h"

/* What was stored last; 0 on a new device. */
uint32_t keep_load(void);

/* A wl_store (wl_sequence.h). WL_ERROR_STORAGE: it is not surely kept. */
wl_error keep_store(void *context, uint32_t first_free);

#endif
