/* What a device and the edge share in keyed mode, and the primitives behind it: BLAKE2s (RFC 7693), ChaCha20 (RFC 8439). */
#ifndef WL_KEY_H
#define WL_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "wl_error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WL_SECRET_BYTES = 32, WL_MAC_BYTES = 4, WL_BLOCK_BYTES = 64 };

/* What a MAC or a keystream is for, so that one is never taken for the other. */
typedef enum { WL_USE_FRAME = 0x46, WL_USE_REPLY = 0x52 } wl_use;

typedef struct {
    uint8_t cipher[WL_SECRET_BYTES];
    uint8_t mac[WL_SECRET_BYTES];
} wl_key;

/* Both keys from the secret, once. */
wl_error wl_key_make(const uint8_t secret[WL_SECRET_BYTES], wl_key *key);

/* Keyed BLAKE2s of a message of 1 to 64 bytes, with 1 to 32 bytes of output. WL_ERROR_LENGTH: any other. */
wl_error wl_blake2s(const uint8_t key[WL_SECRET_BYTES], const uint8_t *message, size_t message_bytes, uint8_t *output,
                    size_t output_bytes);

/* Block `counter` of the ChaCha20 keystream. */
wl_error wl_chacha20(const uint8_t key[WL_SECRET_BYTES], uint32_t counter, const uint8_t nonce[12],
                     uint8_t block[WL_BLOCK_BYTES]);

#ifdef __cplusplus
}
#endif

#endif
