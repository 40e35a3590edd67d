#include "codec.h"
#include "mode.h"

uint8_t mode_name(void)
{
    return MODE_OPEN;
}

size_t mode_bytes(void)
{
    return WL_OPEN_BYTES;
}

wl_error mode_start(void)
{
    return WL_OK;
}

wl_error mode_frame(wl_header *header, const uint8_t *payload, size_t payload_bytes, uint8_t *frame, size_t frame_bytes)
{
    return wl_frame_encode(header, CODEC_HASH, payload, payload_bytes, frame, frame_bytes);
}

wl_error mode_reply(const uint8_t *data, const wl_header *header, wl_reply_scratch *scratch, wl_reply *reply)
{
    return wl_reply_read(data, WL_REPLY_BYTES, header->device, header->sequence, scratch, reply);
}
