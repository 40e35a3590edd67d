#include "wl_serial.h"

const uint8_t wl_sync_word[WL_SYNC_BYTES] = {0xFA, 0xF3, 0x20};

wl_error wl_receiver_start(wl_receiver *receiver, size_t frame_bytes)
{
    if (receiver == NULL) return WL_ERROR_ARGUMENT;
    if (frame_bytes < 1 || frame_bytes > WL_MOST_SERIAL_BYTES) return WL_ERROR_LENGTH;
    receiver->frame_bytes = (uint8_t)frame_bytes;
    receiver->held = 0;
    return WL_OK;
}

static bool begins_with_sync(const uint8_t *window)
{
    unsigned errors = 0;
    for (unsigned byte = 0; byte < WL_SYNC_BYTES; byte++)
        for (unsigned rest = window[byte] ^ (unsigned)wl_sync_word[byte]; rest != 0; rest &= rest - 1) errors++;
    return errors <= WL_SYNC_ERRORS;
}

bool wl_receiver_push(wl_receiver *receiver, uint8_t byte, const uint8_t **frame)
{
    const unsigned whole = WL_SYNC_BYTES + (unsigned)receiver->frame_bytes;
    if (receiver->held == whole) {
        for (unsigned place = 1; place < whole; place++) receiver->window[place - 1] = receiver->window[place];
        receiver->held--;
    }
    receiver->window[receiver->held++] = byte;
    if (receiver->held < whole || !begins_with_sync(receiver->window)) return false;
    *frame = receiver->window + WL_SYNC_BYTES;
    return true;
}

void wl_receiver_taken(wl_receiver *receiver)
{
    receiver->held = 0;
}
