/* How much of the reserved stack was ever used: it is painted at reset. */
#ifndef STACK_H
#define STACK_H

#include <stdint.h>

uint32_t stack_reserved(void);
uint32_t stack_used(void);

#endif
