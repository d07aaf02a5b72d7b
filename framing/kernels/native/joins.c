/* Many payloads into one bytes object, a length before each; framing/kernels/lengths.py has the reference.
 *
 * Two passes: one looks up where the payloads are, adds up what they take, and refuses; one writes. No Python code runs in
 * either, so the list is the same, and keeps them alive.
 */
#include "kernel.h"

#define HOME "framing.kernels.lengths"
#define LONGEST_HEADER 10
#define FEW_SPANS 64

/* Write the length of `size` bytes of payload; returns how many bytes that takes. With NULL for `place` it only counts. */
typedef Py_ssize_t (*Header)(const Options *options, uint64_t size, unsigned char *place);

static inline Py_ssize_t write_by(const Py_ssize_t width, const int little, uint64_t length, unsigned char *place) {
    if (place != NULL) {
        for (Py_ssize_t index = 0; index < width; index++) {
            place[little ? index : width - 1 - index] = (unsigned char)(length >> 8 * index);
        }
    }
    return width;
}

static inline Py_ssize_t write_prefix(const Options *options, uint64_t size, unsigned char *place) {
    return write_by(options->prefixed.width, options->prefixed.little, size + (uint64_t)options->prefixed.counted, place);
}

/* With a constant width the loop over its bytes is one store. */
static inline Py_ssize_t write_prefix_4(const Options *options, uint64_t size, unsigned char *place) {
    return write_by(4, 0, size + (uint64_t)options->prefixed.counted, place);
}

static inline Py_ssize_t write_varint(const Options *Py_UNUSED(options), uint64_t size, unsigned char *place) {
    Py_ssize_t width = 1;
    for (; size > 0x7F; size >>= 7, width++) {
        if (place != NULL) {
            *place++ = (unsigned char)((size & 0x7F) | 0x80);
        }
    }
    if (place != NULL) {
        *place = (unsigned char)size;
    }
    return width;
}

static Span *reserve_spans(Py_ssize_t count) {
    Span *spans = PyMem_Malloc((size_t)count * sizeof *spans); /* no list has so many items that this overflows */
    if (spans == NULL) {
        PyErr_NoMemory();
    }
    return spans;
}

/* The frames of payloads that are `total` bytes together with their headers. */
static inline PyObject *write_frames(Header header, const Options *options, const Span *spans, Py_ssize_t count, Py_ssize_t total) {
    PyObject *joined = PyBytes_FromStringAndSize(NULL, total);
    if (joined == NULL || total == 0) {
        return joined;
    }
    unsigned char *place = (unsigned char *)PyBytes_AsString(joined);
    for (Py_ssize_t index = 0; index < count; index++) {
        place += header(options, (uint64_t)spans[index].size, place);
        memcpy(place, spans[index].bytes, (size_t)spans[index].size);
        place += spans[index].size;
    }
    return joined;
}

/* The frames of a list of bytes, each of `least` to `most`; None where something else is in it. */
static inline PyObject *join(Header header, const Options *options, Py_ssize_t least, Py_ssize_t most, PyObject *payloads) {
    Span few[FEW_SPANS];
    const Py_ssize_t count = PyList_Size(payloads);
    Span *spans = count <= FEW_SPANS ? few : reserve_spans(count);
    Py_ssize_t total = 0;
    Py_ssize_t index = 0;
    PyObject *joined = NULL;
    if (spans == NULL) {
        return NULL;
    }
    for (; index < count; index++) {
        if (!read_span(PyList_GetItem(payloads, index), &spans[index]) || spans[index].size < least ||
            spans[index].size > most) {
            break;
        }
        if (spans[index].size > PY_SSIZE_T_MAX / 2 - LONGEST_HEADER - total) {
            PyErr_NoMemory();
            goto end;
        }
        total += header(options, (uint64_t)spans[index].size, NULL) + spans[index].size;
    }
    joined = index < count ? Py_NewRef(Py_None) : write_frames(header, options, spans, count, total);
end:
    if (spans != few) {
        PyMem_Free(spans);
    }
    return joined;
}

PyObject *call_join_prefixed(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Options options;
    if (count != 6 || !PyList_CheckExact(args[5]) || !split_prefixed_kernel.read(args, &options) ||
        options.prefixed.counted > 8) {
        return call_reference(HOME, "join_prefixed", args, count);
    }
    const Py_ssize_t width = options.prefixed.width;
    uint64_t most = width < 8 ? ((uint64_t)1 << 8 * width) - 1 : UINT64_MAX;
    most = most > (uint64_t)options.prefixed.counted ? most - (uint64_t)options.prefixed.counted : 0;
    if (most > (uint64_t)options.prefixed.max_frame) {
        most = (uint64_t)options.prefixed.max_frame;
    }
    if (width == 4 && !options.prefixed.little) {
        return join(write_prefix_4, &options, options.prefixed.min_frame, (Py_ssize_t)most, args[5]);
    }
    return join(write_prefix, &options, options.prefixed.min_frame, (Py_ssize_t)most, args[5]);
}

PyObject *call_join_varint(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Options options;
    if (count != 3 || !PyList_CheckExact(args[2]) || !split_varint_kernel.read(args, &options)) {
        return call_reference(HOME, "join_varint", args, count);
    }
    return join(write_varint, &options, options.varint.min_frame, options.varint.max_frame, args[2]);
}
