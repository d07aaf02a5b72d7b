/* Many payloads into one bytes object, a length before each; framing/kernels/lengths.py has the reference.
 *
 * Two passes: one adds up what it takes, and refuses; one writes. No Python code runs in either, so the list is the same.
 */
#include "kernel.h"

#define HOME "framing.kernels.lengths"
#define LONGEST_HEADER 10

/* Write the length of `size` bytes of payload; returns how many bytes that takes. With NULL for `place` it only counts. */
typedef Py_ssize_t (*Header)(const Options *options, uint64_t size, unsigned char *place);

static Py_ssize_t write_prefix(const Options *options, uint64_t size, unsigned char *place) {
    const Py_ssize_t width = options->prefixed.width;
    if (place != NULL) {
        uint64_t length = size + (uint64_t)options->prefixed.counted;
        for (Py_ssize_t index = 0; index < width; index++) {
            place[options->prefixed.little ? index : width - 1 - index] = (unsigned char)(length & 0xFF);
            length >>= 8;
        }
    }
    return width;
}

static Py_ssize_t write_varint(const Options *Py_UNUSED(options), uint64_t size, unsigned char *place) {
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

/* The frames of a list of bytes, each of `least` to `most`; None where something else is in it. */
static inline PyObject *join(Header header, const Options *options, Py_ssize_t least, Py_ssize_t most, PyObject *payloads) {
    const Py_ssize_t count = PyList_Size(payloads);
    Py_ssize_t total = 0;
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *payload = PyList_GetItem(payloads, index);
        if (!PyBytes_CheckExact(payload)) {
            return Py_NewRef(Py_None);
        }
        const Py_ssize_t size = PyBytes_Size(payload);
        if (size < least || size > most) {
            return Py_NewRef(Py_None);
        }
        if (size > PY_SSIZE_T_MAX / 2 - LONGEST_HEADER - total) {
            return PyErr_NoMemory();
        }
        total += header(options, (uint64_t)size, NULL) + size;
    }
    PyObject *joined = PyBytes_FromStringAndSize(NULL, total);
    if (joined == NULL || total == 0) {
        return joined;
    }
    unsigned char *place = (unsigned char *)PyBytes_AsString(joined);
    for (Py_ssize_t index = 0; index < count; index++) {
        char *bytes;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyList_GetItem(payloads, index), &bytes, &size) < 0) {
            Py_DECREF(joined);
            return NULL;
        }
        place += header(options, (uint64_t)size, place);
        memcpy(place, bytes, (size_t)size);
        place += size;
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
    return join(write_prefix, &options, options.prefixed.min_frame, (Py_ssize_t)most, args[5]);
}

PyObject *call_join_varint(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Options options;
    if (count != 3 || !PyList_CheckExact(args[2]) || !split_varint_kernel.read(args, &options)) {
        return call_reference(HOME, "join_varint", args, count);
    }
    return join(write_varint, &options, options.varint.min_frame, options.varint.max_frame, args[2]);
}
