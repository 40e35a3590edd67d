/* libFuzzer target: any bytes are a request to the harness; the first says which. A request that opens a
 * program leaves it open, and one that encodes follows in the same input: 'X', two bytes of length, the program, an image.
 * `make fuzz` builds and runs it from the corpus beside it. */
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { MOST_TAKEN = 16, MOST_BYTES = 1 << 20 };
static void *taken[MOST_TAKEN];
static unsigned count;
static uint8_t *program;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void *harness_take(size_t bytes)
{
    return count < MOST_TAKEN && bytes <= MOST_BYTES ? taken[count++] = malloc(bytes) : NULL;
}

const uint8_t *harness_keep_program(const uint8_t *data, size_t bytes)
{
    free(program);
    program = malloc(bytes);
    if (program != NULL && bytes > 0) memcpy(program, data, bytes);
    return program;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t reply[1 << 16];
    if (size > 3 && data[0] == 'X') {
        const size_t left = size - 3, wanted = (size_t)data[1] | (size_t)data[2] << 8, bytes = wanted < left ? wanted : left;
        uint8_t *part = malloc(size);
        if (part == NULL) return 0;
        part[0] = 'P';
        memcpy(part + 1, data + 3, bytes);
        if (harness_handle(part, 1 + bytes, reply, sizeof reply) > 1) {
            part[0] = 'E';
            memcpy(part + 1, data + 3 + bytes, left - bytes);
            (void)harness_handle(part, 1 + left - bytes, reply, sizeof reply);
        }
        free(part);
    } else {
        (void)harness_handle(data, size, reply, sizeof reply);
    }
    while (count > 0) free(taken[--count]);
    return 0;
}
