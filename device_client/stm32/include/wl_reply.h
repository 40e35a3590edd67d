/* The edge's answer to a raw frame (docs/wire-format.md): one block of the header's code. */
#ifndef WL_REPLY_H
#define WL_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "wl_error.h"
#include "wl_key.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WL_REPLY_BYTES = 18, WL_KEYED_REPLY_BYTES = 28, WL_NO_ADVICE = 255 };
enum { WL_STATES = 256, WL_MOST_INFO_BITS = 88 };

typedef enum { WL_ANSWERED = 0, WL_REFUSED = 1, WL_BUSY = 2 } wl_status;

typedef struct {
    uint8_t status;      /* wl_status; 3 is reserved */
    uint16_t class_index; /* the prediction; where refused, the reason */
    uint8_t confidence;  /* in steps of 1/63 */
    uint8_t advice;      /* the level to use next, or WL_NO_ADVICE */
} wl_reply;

/* Memory of the Viterbi decoder; the caller may use it for other things between two replies. */
typedef struct {
    uint8_t survivors[WL_MOST_INFO_BITS][WL_STATES / 8];
    uint16_t costs[2][WL_STATES];
    uint8_t margins[WL_MOST_INFO_BITS];
} wl_reply_scratch;

/* Read the reply of 18 bytes to the frame with this device and sequence. WL_ERROR_DAMAGED: its check does not hold, or
 * in more damage than is credible, as where it is noise, damaged beyond repair, for another device or to another frame. */
wl_error wl_reply_read(const uint8_t *data, size_t bytes, uint16_t device, uint32_t sequence, wl_reply_scratch *scratch,
                       wl_reply *reply);

/* The reply of 28 bytes to a keyed frame. */
wl_error wl_reply_read_keyed(const uint8_t *data, size_t bytes, const wl_key *key, uint16_t device, uint32_t sequence,
                             wl_reply_scratch *scratch, wl_reply *reply);

#ifdef __cplusplus
}
#endif

#endif
