#include "wl_sequence.h"

#include <stddef.h>

wl_error wl_sequence_start(wl_sequence *sequence, uint32_t stored, wl_store store, void *context)
{
    if (sequence == NULL || store == NULL || stored > WL_SEQUENCES) return WL_ERROR_ARGUMENT;
    sequence->next = sequence->first_free = stored;
    sequence->store = store;
    sequence->context = context;
    return WL_OK;
}

wl_error wl_sequence_next(wl_sequence *sequence, uint32_t *value)
{
    if (sequence == NULL || value == NULL) return WL_ERROR_ARGUMENT;
    if (sequence->next >= WL_SEQUENCES) return WL_ERROR_RANGE;
    if (sequence->next == sequence->first_free) {
        const uint32_t left = WL_SEQUENCES - sequence->next;
        const uint32_t first_free = sequence->next + (left < WL_SEQUENCE_BLOCK ? left : WL_SEQUENCE_BLOCK);
        const wl_error error = sequence->store(sequence->context, first_free);
        if (error != WL_OK) return error;
        sequence->first_free = first_free;
    }
    *value = sequence->next++;
    return WL_OK;
}
