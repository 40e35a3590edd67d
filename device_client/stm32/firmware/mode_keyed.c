/* key.h holds the device's secret; `weaklink export --key-file` writes it. */
#include "codec.h"
#include "key.h"
#include "keep.h"
#include "mode.h"
#include "wl_key.h"
#include "wl_sequence.h"

static wl_key key;
static wl_sequence sequences;
static wl_error started;

uint8_t mode_name(void)
{
    return MODE_KEYED;
}

size_t mode_bytes(void)
{
    return WL_KEYED_BYTES;
}

wl_error mode_start(void)
{
    started = wl_key_make(DEVICE_SECRET, &key);
    if (started == WL_OK) started = wl_sequence_start(&sequences, keep_load(), keep_store, NULL);
    return started;
}

wl_error mode_frame(wl_header *header, const uint8_t *payload, size_t payload_bytes, uint8_t *frame, size_t frame_bytes)
{
    wl_error error = started;
    if (error == WL_OK) error = wl_sequence_next(&sequences, &header->sequence);
    if (error != WL_OK) return error;
    return wl_frame_encode_keyed(header, &key, CODEC_HASH, payload, payload_bytes, frame, frame_bytes);
}

wl_error mode_reply(const uint8_t *data, const wl_header *header, wl_reply_scratch *scratch, wl_reply *reply)
{
    return wl_reply_read_keyed(data, WL_KEYED_REPLY_BYTES, &key, header->device, header->sequence, scratch, reply);
}
