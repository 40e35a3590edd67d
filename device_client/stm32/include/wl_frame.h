/* The raw frame that carries a bitstream's prefix to the edge (docs/wire-format.md). */
#ifndef WL_FRAME_H
#define WL_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "wl_error.h"
#include "wl_key.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that a header adds to its payload, in open and in keyed mode. */
enum { WL_OPEN_BYTES = 18, WL_KEYED_BYTES = 28, WL_HASH_BYTES = 32, WL_MOST_PAYLOAD_BYTES = 4096 };

/* Numbers of images in open mode, which come round; keyed mode's are in wl_sequence.h. */
enum { WL_OPEN_SEQUENCES = 1 << 12 };

typedef struct {
    uint8_t codec;     /* 6 bits */
    uint8_t level;     /* 4 bits: which prefix of the symbols the payload is */
    uint16_t device;
    uint32_t sequence; /* 12 bits in open mode, 28 in keyed mode */
} wl_header;

/* Write the open frame of one payload, WL_OPEN_BYTES + payload_bytes long. hash: SHA-256 of encoder.bin. frame may not
 * overlap payload. WL_ERROR_ARGUMENT: a field too large. WL_ERROR_LENGTH: no payload, or over WL_MOST_PAYLOAD_BYTES. */
wl_error wl_frame_encode(const wl_header *header, const uint8_t hash[WL_HASH_BYTES], const uint8_t *payload,
                         size_t payload_bytes, uint8_t *frame, size_t frame_bytes);

/* The keyed frame, WL_KEYED_BYTES + payload_bytes long. A sequence must never be used twice with one key (wl_sequence.h). */
wl_error wl_frame_encode_keyed(const wl_header *header, const wl_key *key, const uint8_t hash[WL_HASH_BYTES],
                               const uint8_t *payload, size_t payload_bytes, uint8_t *frame, size_t frame_bytes);

#ifdef __cplusplus
}
#endif

#endif
