/* Camera frames line by line to the image that the encoder wants: integer, the same as semantic_codec.image. */
#ifndef WL_IMAGE_H
#define WL_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "wl_error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint16_t height, width;         /* of the part of the camera's frame that becomes the image */
    uint16_t out_height, out_width; /* of the image */
    uint16_t lines, top, left;      /* of the camera's frame: its height, and what it has before that part */
    uint32_t *sums;                 /* 3 * out_width of them, the caller's */
    uint8_t *image;                 /* uint8 [out_height][out_width][3], the caller's */
    uint32_t next_line, out_line;
} wl_resizer;

/* Begin a frame, all of which becomes the image: squeezed where their shapes differ. WL_ERROR_ARGUMENT: the image would be larger than the frame, or empty, or a pixel of it would average
 * over 2^24 pixels or more. WL_ERROR_BUFFER: sums (counted in numbers) or image (in bytes) are too short. */
wl_error wl_resizer_start(wl_resizer *resizer, uint16_t height, uint16_t width, uint16_t out_height, uint16_t out_width,
                          uint32_t *sums, size_t sums_count, uint8_t *image, size_t image_bytes);

/* The same, but for what the frame has more of than the image's shape: the middle becomes the image, as device_client.fit
 * cuts it. A camera's frames are begun with this one. */
wl_error wl_resizer_fit(wl_resizer *resizer, uint16_t height, uint16_t width, uint16_t out_height, uint16_t out_width,
                        uint32_t *sums, size_t sums_count, uint8_t *image, size_t image_bytes);

/* Add a whole line of the frame, from the top: RGB bytes uint8 [width][3], or RGB565 words, red in the top bits. The image
 * is whole after all lines of the frame. WL_ERROR_LENGTH: a line too many. */
wl_error wl_resizer_add_rgb(wl_resizer *resizer, const uint8_t *line);
wl_error wl_resizer_add_rgb565(wl_resizer *resizer, const uint16_t *line);

/* One RGB565 pixel as RGB bytes; the high bits fill the low ones. */
void wl_rgb565_to_rgb(uint16_t pixel, uint8_t rgb[3]);

#ifdef __cplusplus
}
#endif

#endif
