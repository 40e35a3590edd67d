/* What every function of the library returns. */
#ifndef WL_ERROR_H
#define WL_ERROR_H

typedef enum {
    WL_OK = 0,
    WL_ERROR_ARGUMENT = 1, /* a null pointer, or a number outside its field */
    WL_ERROR_BUFFER = 2,   /* the caller's buffer is smaller than what the header says is needed, or is not aligned */
    WL_ERROR_PROGRAM = 3,  /* not a whole encoder.bin */
    WL_ERROR_RANGE = 4,    /* an encoder.bin whose sums could leave the proven range, or no sequences left */
    WL_ERROR_LENGTH = 5,   /* data of a length that nothing has */
    WL_ERROR_DAMAGED = 6,  /* no check passes: damaged beyond repair, or meant for somebody else */
    WL_ERROR_STORAGE = 7   /* memory that should outlive a restart does not keep what was written */
} wl_error;

#endif
