/* Requests on standard input, replies on standard output, each behind its length (4 bytes, little-endian). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { MOST_TAKEN = 16 };
static void *taken[MOST_TAKEN];
static unsigned count;
static uint8_t *program;

void *harness_take(size_t bytes)
{
    return count < MOST_TAKEN ? taken[count++] = malloc(bytes) : NULL;
}

const uint8_t *harness_keep_program(const uint8_t *data, size_t bytes)
{
    free(program);
    program = malloc(bytes);
    if (program != NULL && bytes > 0) memcpy(program, data, bytes);
    return program;
}

int main(void)
{
    static uint8_t reply[1 << 20];
    uint8_t head[4];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        size_t length = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        uint8_t *request = malloc(length);
        if (request == NULL || fread(request, 1, length, stdin) != length) return 1;
        size_t answered = harness_handle(request, length, reply, sizeof reply);
        free(request);
        while (count > 0) free(taken[--count]);
        for (unsigned byte = 0; byte < 4; byte++) putchar((int)(answered >> 8 * byte & 0xff));
        if (fwrite(reply, 1, answered, stdout) != answered || fflush(stdout) != 0) return 1;
    }
    free(program);
    return 0;
}
