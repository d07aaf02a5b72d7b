/* Byte stuffing, of one payload and of many; framing/kernels/stuffing.py is the reference.
 *
 * What a payload grows to is not known before it is stuffed. So it is stuffed into memory that is large enough for the worst,
 * and copied from there: one copy costs less than looking at each byte twice.
 */
#include "stuffing.h"

#define HOME "framing.kernels.stuffing"
#define BLOCK 64

/* Stuff `size` bytes into `to`, without the end bytes; returns where they end. */
typedef unsigned char *(*Stuff)(const Options *options, const unsigned char *from, Py_ssize_t size, unsigned char *to);

static unsigned char *stuff_cobs(const Options *Py_UNUSED(options), const unsigned char *from, Py_ssize_t size,
                                 unsigned char *to) {
    for (const unsigned char *end = from + size;;) {
        const unsigned char *zero = memchr(from, COBS_END, (size_t)(end - from));
        const unsigned char *stop = zero == NULL ? end : zero;
        while (stop - from >= COBS_FULL - 1) {
            *to++ = COBS_FULL;
            memcpy(to, from, COBS_FULL - 1);
            to += COBS_FULL - 1;
            from += COBS_FULL - 1;
            if (from == end) {
                return to;
            }
        }
        *to++ = (unsigned char)(stop - from + 1);
        copy_run(to, from, stop - from);
        to += stop - from;
        if (zero == NULL) {
            return to;
        }
        from = zero + 1;
    }
}

/* Copy the bytes, with an escape before each that is `end` or `escape`, and another byte in its place. */
static inline unsigned char *escaped(const unsigned char *from, Py_ssize_t size, unsigned char *to, int end, int escape,
                                     unsigned char for_end, unsigned char for_escape) {
    while (size > 0) {
        const Py_ssize_t block = size < BLOCK ? size : BLOCK;
        if (memchr(from, end, (size_t)block) == NULL && memchr(from, escape, (size_t)block) == NULL) {
            memcpy(to, from, (size_t)block);
            to += block;
        } else {
            for (Py_ssize_t at = 0; at < block; at++) {
                if (from[at] == end || from[at] == escape) {
                    *to++ = (unsigned char)escape;
                    *to++ = from[at] == end ? for_end : for_escape;
                } else {
                    *to++ = from[at];
                }
            }
        }
        from += block;
        size -= block;
    }
    return to;
}

static unsigned char *stuff_slip(const Options *Py_UNUSED(options), const unsigned char *from, Py_ssize_t size,
                                 unsigned char *to) {
    return escaped(from, size, to, SLIP_END, SLIP_ESCAPE, SLIP_ESCAPED_END, SLIP_ESCAPED_ESCAPE);
}

static unsigned char *escape_hdlc(const unsigned char *from, Py_ssize_t size, unsigned char *to) {
    return escaped(from, size, to, HDLC_FLAG, HDLC_ESCAPE, HDLC_FLAG ^ HDLC_MASK, HDLC_ESCAPE ^ HDLC_MASK);
}

static unsigned char *stuff_hdlc(const Options *options, const unsigned char *from, Py_ssize_t size, unsigned char *to) {
    const int width = (int)options->stuffed.width / 8;
    unsigned char sequence[4];
    check_sequence(width, from, size, sequence);
    return escape_hdlc(sequence, width, escape_hdlc(from, size, to));
}

/* More than any of them, its end bytes included, makes of so many bytes; 0 where that is no number. */
static Py_ssize_t room_for(Py_ssize_t size) {
    return size > PY_SSIZE_T_MAX / 4 - 16 ? 0 : 2 * (size + 4) + 2;
}

static PyObject *stuffed(Stuff stuff, const Options *options, Span payload) {
    const Py_ssize_t room = room_for(payload.size);
    unsigned char *scratch = room > 0 ? PyMem_Malloc((size_t)room) : NULL;
    if (scratch == NULL) {
        return PyErr_NoMemory();
    }
    const unsigned char *end = stuff(options, payload.bytes, payload.size, scratch);
    PyObject *made = PyBytes_FromStringAndSize((const char *)scratch, end - scratch);
    PyMem_Free(scratch);
    return made;
}

PyObject *call_stuff_cobs(PyObject *Py_UNUSED(module), PyObject *payload) {
    Span span;
    return read_span(payload, &span) ? stuffed(stuff_cobs, NULL, span) : call_reference(HOME, "stuff_cobs", &payload, 1);
}

PyObject *call_stuff_slip(PyObject *Py_UNUSED(module), PyObject *payload) {
    Span span;
    return read_span(payload, &span) ? stuffed(stuff_slip, NULL, span) : call_reference(HOME, "stuff_slip", &payload, 1);
}

PyObject *call_stuff_hdlc(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span span;
    Options options;
    if (count != 2 || !read_width(args[0], &options.stuffed.width) || !read_span(args[1], &span)) {
        return call_reference(HOME, "stuff_hdlc", args, count);
    }
    return stuffed(stuff_hdlc, &options, span);
}

PyObject *call_fcs(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span span;
    Py_ssize_t width;
    unsigned char sequence[4];
    if (count != 2 || !read_width(args[0], &width) || !read_span(args[1], &span)) {
        return call_reference(HOME, "fcs", args, count);
    }
    check_sequence((int)width / 8, span.bytes, span.size, sequence);
    return PyBytes_FromStringAndSize((const char *)sequence, width / 8);
}

/* The frames of a list of bytes, each of `least` bytes to max_frame, with the end byte behind and, where `around`, before it;
 * None where something else is in it. No Python code runs while the list is looked at. */
static PyObject *joined(Stuff stuff, const Options *options, Py_ssize_t least, int around, unsigned char end,
                        PyObject *payloads) {
    const Py_ssize_t count = PyList_Size(payloads);
    Py_ssize_t total = 1;
    Span payload;
    for (Py_ssize_t index = 0; index < count; index++) {
        if (!read_span(PyList_GetItem(payloads, index), &payload) || payload.size < least ||
            payload.size > options->stuffed.max_frame) {
            return Py_NewRef(Py_None);
        }
        const Py_ssize_t room = room_for(payload.size);
        if (room == 0 || total > PY_SSIZE_T_MAX - room) {
            return PyErr_NoMemory();
        }
        total += room;
    }
    unsigned char *scratch = PyMem_Malloc((size_t)total);
    if (scratch == NULL) {
        return PyErr_NoMemory();
    }
    unsigned char *to = scratch;
    for (Py_ssize_t index = 0; index < count && read_span(PyList_GetItem(payloads, index), &payload); index++) {
        if (around) {
            *to++ = end;
        }
        to = stuff(options, payload.bytes, payload.size, to);
        *to++ = end;
    }
    PyObject *made = PyBytes_FromStringAndSize((const char *)scratch, to - scratch);
    PyMem_Free(scratch);
    return made;
}

PyObject *call_join_cobs(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Options options;
    if (count != 2 || !read_number(args[0], &options.stuffed.max_frame) || !PyList_CheckExact(args[1])) {
        return call_reference(HOME, "join_cobs", args, count);
    }
    return joined(stuff_cobs, &options, 0, 0, COBS_END, args[1]);
}

PyObject *call_join_slip(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Options options;
    if (count != 2 || !read_number(args[0], &options.stuffed.max_frame) || !PyList_CheckExact(args[1])) {
        return call_reference(HOME, "join_slip", args, count);
    }
    return joined(stuff_slip, &options, 1, 1, SLIP_END, args[1]);
}

PyObject *call_join_hdlc(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Options options;
    if (count != 3 || !read_width(args[0], &options.stuffed.width) ||
        !read_number(args[1], &options.stuffed.max_frame) || !PyList_CheckExact(args[2])) {
        return call_reference(HOME, "join_hdlc", args, count);
    }
    return joined(stuff_hdlc, &options, options.stuffed.width == 0, 1, HDLC_FLAG, args[2]);
}
