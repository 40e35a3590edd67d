/* The harness on a board: the same requests over the console, so that the processor's own instructions are tested. */
#include "board.h"
#include "harness.h"

enum { REQUEST_BYTES = 1 << 18, REPLY_BYTES = 1 << 16, TAKEN_BYTES = 1 << 18, PROGRAM_BYTES = 1 << 18 };

static uint8_t request[REQUEST_BYTES], reply[REPLY_BYTES], program[PROGRAM_BYTES];
static uint32_t taken[TAKEN_BYTES / 4];
static size_t taken_words;

void *harness_take(size_t bytes)
{
    const size_t words = (bytes + 3) / 4;
    if (words > TAKEN_BYTES / 4 - taken_words) return NULL;
    taken_words += words;
    return taken + taken_words - words;
}

const uint8_t *harness_keep_program(const uint8_t *data, size_t bytes)
{
    if (bytes > sizeof program) return NULL;
    for (size_t place = 0; place < bytes; place++) program[place] = data[place];
    return program;
}

int main(void)
{
    board_start();
    board_put(BOARD_CONSOLE, 'H');
    for (;;) {
        size_t length = 0;
        for (unsigned byte = 0; byte < 4; byte++) length |= (size_t)board_get(BOARD_CONSOLE) << 8 * byte;
        for (size_t place = 0; place < length; place++) {
            const uint8_t byte = board_get(BOARD_CONSOLE);
            if (place < sizeof request) request[place] = byte;
        }
        taken_words = 0;
        const size_t answered = harness_handle(request, length < sizeof request ? length : sizeof request, reply, sizeof reply);
        for (unsigned byte = 0; byte < 4; byte++) board_put(BOARD_CONSOLE, (uint8_t)(answered >> 8 * byte));
        for (size_t place = 0; place < answered; place++) board_put(BOARD_CONSOLE, reply[place]);
    }
}
