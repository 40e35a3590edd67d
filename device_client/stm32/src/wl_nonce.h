/* Keystreams of keyed mode. */
#ifndef WL_NONCE_H
#define WL_NONCE_H

#include "wl_key.h"

/* Block `counter` of the keystream for one use, device and sequence. */
void wl_keystream(const wl_key *key, wl_use use, uint16_t device, uint32_t sequence, uint32_t counter,
                  uint8_t block[WL_BLOCK_BYTES]);

#endif
