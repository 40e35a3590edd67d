/* One request to the library, the same on the host, in the fuzzers and on emulated boards.
 *
 * Request: operation, then its arguments. Reply: the wl_error, then the results. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stddef.h>
#include <stdint.h>

/* Memory for one request; on the host exactly as large as asked for, so that the sanitizers see a byte too many. */
void *harness_take(size_t bytes);

/* Answer a request; returns the length of the reply, at most `capacity`. */
size_t harness_handle(const uint8_t *request, size_t length, uint8_t *reply, size_t capacity);

/* Give the board a copy of the program that outlives the request. */
const uint8_t *harness_keep_program(const uint8_t *program, size_t bytes);

#endif
