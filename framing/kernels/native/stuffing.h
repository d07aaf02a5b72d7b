/* The bytes with a meaning in byte stuffing; framing/kernels/stuffing.py says which standard has them. */
#ifndef FRAMING_STUFFING_H
#define FRAMING_STUFFING_H

#include "kernel.h"

#define COBS_END 0
#define COBS_FULL 255 /* the code of a block that no zero follows */
#define SLIP_END 0xC0
#define SLIP_ESCAPE 0xDB
#define SLIP_ESCAPED_END 0xDC
#define SLIP_ESCAPED_ESCAPE 0xDD
#define HDLC_FLAG 0x7E
#define HDLC_ESCAPE 0x7D
#define HDLC_MASK 0x20 /* what is behind an escape was XORed with it */

/* The width of a frame check sequence in bits, one of those that there are; 0 where it is something else. */
static inline int read_width(PyObject *object, Py_ssize_t *width) {
    return read_number(object, width) && (*width == 0 || *width == 16 || *width == 32);
}

/* memmove, for of a memcpy that is known to be short compilers make instructions that are slow to start. */
static inline void copy_run(unsigned char *to, const unsigned char *from, Py_ssize_t size) {
    memmove(to, from, (size_t)size);
}

#endif
