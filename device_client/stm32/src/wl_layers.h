/* The two kinds of layers. */
#ifndef WL_LAYERS_H
#define WL_LAYERS_H

#include "wl_program.h"

/* Everything one layer reads and writes. Pixels of an image become int8 by `^ flip` (0x80: minus 128; 0: as they are). */
typedef struct {
    const wl_layer *layer;
    const uint8_t *input;
    uint32_t height, width; /* of the input */
    uint8_t input_flip;
    const uint8_t *kept; /* null where nothing is added */
    uint8_t kept_flip;
    uint8_t *output; /* int8 [height][width][outputs]; in the last layer the bitstream, all zeros */
    unsigned bits;
    uint32_t *scratch;
} wl_work;

void wl_run_full(const wl_work *work);
void wl_run_depthwise(const wl_work *work);

/* Write the symbol of a threshold layer's accumulator into the bitstream. `symbol` counts channel by channel, then row
 * by row. */
void wl_put_symbol(const wl_work *work, uint32_t channel, uint32_t symbol, int32_t sum);

#endif
