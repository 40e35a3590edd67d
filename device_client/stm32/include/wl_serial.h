/* Frames on a serial line: a sync word before each, no lengths, no stuffing (docs/wire-format.md). */
#ifndef WL_SERIAL_H
#define WL_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wl_error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WL_SYNC_BYTES = 3, WL_SYNC_ERRORS = 5, WL_MOST_SERIAL_BYTES = 28 };

/* What is sent before each frame. */
extern const uint8_t wl_sync_word[WL_SYNC_BYTES];

/* Listens for replies of one length. */
typedef struct {
    uint8_t window[WL_SYNC_BYTES + WL_MOST_SERIAL_BYTES];
    uint8_t frame_bytes, held;
} wl_receiver;

/* frame_bytes: WL_REPLY_BYTES or WL_KEYED_REPLY_BYTES; anything from 1 to WL_MOST_SERIAL_BYTES is taken. */
wl_error wl_receiver_start(wl_receiver *receiver, size_t frame_bytes);

/* Take a byte. True: a frame may lie at *frame now, which stays until the next byte; read it, and say so if it was one. */
bool wl_receiver_push(wl_receiver *receiver, uint8_t byte, const uint8_t **frame);

/* The frame was read and is taken: nothing in it is the beginning of another. */
void wl_receiver_taken(wl_receiver *receiver);

#ifdef __cplusplus
}
#endif

#endif
