#include "wl_image.h"

enum { MOST_AREA = 1 << 24 };

wl_error wl_resizer_start(wl_resizer *resizer, uint16_t height, uint16_t width, uint16_t out_height, uint16_t out_width,
                          uint32_t *sums, size_t sums_count, uint8_t *image, size_t image_bytes)
{
    if (resizer == NULL || sums == NULL || image == NULL) return WL_ERROR_ARGUMENT;
    if (out_height < 1 || out_height > height || out_width < 1 || out_width > width) return WL_ERROR_ARGUMENT;
    const uint64_t area = ((uint64_t)height / out_height + 1) * ((uint64_t)width / out_width + 1);
    if (area >= MOST_AREA) return WL_ERROR_ARGUMENT;
    if (sums_count / 3 < out_width || image_bytes / 3 / out_width < out_height) return WL_ERROR_BUFFER;
    *resizer = (wl_resizer){height, width, out_height, out_width, height, 0, 0, sums, image, 0, 0};
    for (uint32_t place = 0; place < 3u * out_width; place++) sums[place] = 0;
    return WL_OK;
}

wl_error wl_resizer_fit(wl_resizer *resizer, uint16_t height, uint16_t width, uint16_t out_height, uint16_t out_width,
                        uint32_t *sums, size_t sums_count, uint8_t *image, size_t image_bytes)
{
    if (out_height < 1 || out_height > height || out_width < 1 || out_width > width) return WL_ERROR_ARGUMENT;
    const uint32_t most_rows = (uint32_t)width * out_height / out_width, most_columns = (uint32_t)height * out_width / out_height;
    const uint16_t rows = most_rows < height ? (uint16_t)most_rows : height;
    const uint16_t columns = most_columns < width ? (uint16_t)most_columns : width;
    wl_error error = wl_resizer_start(resizer, rows, columns, out_height, out_width, sums, sums_count, image, image_bytes);
    if (error != WL_OK) return error;
    resizer->lines = height;
    resizer->top = (uint16_t)((height - rows) / 2);
    resizer->left = (uint16_t)((width - columns) / 2);
    return WL_OK;
}

/* The first input row or column of output `place`. */
static uint32_t edge(uint32_t place, uint32_t size, uint32_t out_size)
{
    return place * size / out_size; /* both below 2^16 */
}

static void finish_row(wl_resizer *resizer)
{
    const uint32_t rows = edge(resizer->out_line + 1, resizer->height, resizer->out_height) -
                          edge(resizer->out_line, resizer->height, resizer->out_height);
    uint8_t *to = resizer->image + (size_t)resizer->out_line * resizer->out_width * 3;
    for (uint32_t x = 0; x < resizer->out_width; x++) {
        const uint32_t columns = edge(x + 1, resizer->width, resizer->out_width) - edge(x, resizer->width, resizer->out_width);
        const uint32_t area = rows * columns;
        for (uint32_t *sum = resizer->sums + 3 * x; sum < resizer->sums + 3 * x + 3; sum++) {
            *to++ = (uint8_t)((*sum + area / 2) / area);
            *sum = 0;
        }
    }
    resizer->out_line++;
}

static inline wl_error add_line(wl_resizer *resizer, const uint8_t *rgb, const uint16_t *words)
{
    if (resizer == NULL || (rgb == NULL && words == NULL)) return WL_ERROR_ARGUMENT;
    if (resizer->next_line >= resizer->lines) return WL_ERROR_LENGTH;
    const uint32_t line = resizer->next_line++, left = resizer->left;
    if (line < resizer->top || line - resizer->top >= resizer->height) return WL_OK;
    uint32_t x = 0;
    for (uint32_t out = 0; out < resizer->out_width; out++) {
        uint32_t *sums = resizer->sums + 3 * out;
        for (const uint32_t end = edge(out + 1, resizer->width, resizer->out_width); x < end; x++) {
            uint8_t pixel[3];
            if (words != NULL) wl_rgb565_to_rgb(words[left + x], pixel);
            for (unsigned color = 0; color < 3; color++)
                sums[color] += words != NULL ? pixel[color] : rgb[3 * (size_t)(left + x) + color];
        }
    }
    if (line - resizer->top + 1 == edge(resizer->out_line + 1, resizer->height, resizer->out_height)) finish_row(resizer);
    return WL_OK;
}

wl_error wl_resizer_add_rgb(wl_resizer *resizer, const uint8_t *line)
{
    return add_line(resizer, line, NULL);
}

wl_error wl_resizer_add_rgb565(wl_resizer *resizer, const uint16_t *line)
{
    return add_line(resizer, NULL, line);
}

void wl_rgb565_to_rgb(uint16_t pixel, uint8_t rgb[3])
{
    const unsigned red = pixel >> 11, green = pixel >> 5 & 63u, blue = pixel & 31u;
    rgb[0] = (uint8_t)(red << 3 | red >> 2);
    rgb[1] = (uint8_t)(green << 2 | green >> 4);
    rgb[2] = (uint8_t)(blue << 3 | blue >> 2);
}
