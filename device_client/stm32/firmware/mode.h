/* Open or keyed frames: the Makefile's MODE says which of the two sources is built. */
#ifndef MODE_H
#define MODE_H

#include <stddef.h>
#include <stdint.h>

#include "wl_frame.h"
#include "wl_reply.h"

enum { MODE_OPEN = 0, MODE_KEYED = 1 };

/* MODE_OPEN or MODE_KEYED, and what it adds to a payload, which is a reply's length too. */
uint8_t mode_name(void);
size_t mode_bytes(void);

/* Once, at boot. */
wl_error mode_start(void);

/* The frame of a payload; keyed mode puts the next sequence, which no frame had before, into the header. What
 * mode_start said where that failed: nothing may be sent then. */
wl_error mode_frame(wl_header *header, const uint8_t *payload, size_t payload_bytes, uint8_t *frame, size_t frame_bytes);

/* The reply of mode_bytes() bytes to the frame with this header. */
wl_error mode_reply(const uint8_t *data, const wl_header *header, wl_reply_scratch *scratch, wl_reply *reply);

#endif
