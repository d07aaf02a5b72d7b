/* Kernels for a binary length before the payload; framing/kernels/lengths.py is their reference. */
#include "kernel.h"

#define HOME "framing.kernels.lengths"

/* A length of more than this is in no frame that will ever be whole: sums of a few such numbers do not overflow. */
#define HUGE_LENGTH ((uint64_t)PY_SSIZE_T_MAX / 4)

/* A varint of so many bytes may have more than 63 bits. */
#define WIDEST_VARINT 9

/* The byte order of a field: 1 little, 0 big, -1 anything else. */
static int read_order(PyObject *object) {
    if (!PyUnicode_Check(object)) {
        return -1;
    }
    if (PyUnicode_CompareWithASCIIString(object, "big") == 0) {
        return 0;
    }
    return PyUnicode_CompareWithASCIIString(object, "little") == 0 ? 1 : -1;
}

/* The unsigned number of 1 to 8 bytes. */
static inline uint64_t read_unsigned(const unsigned char *bytes, Py_ssize_t width, int little) {
    uint64_t value = 0;
    if (little) {
        while (width > 0) {
            value = value << 8 | bytes[--width];
        }
        return value;
    }
    for (Py_ssize_t index = 0; index < width; index++) {
        value = value << 8 | bytes[index];
    }
    return value;
}

static Py_ssize_t varint_size(uint64_t value) {
    Py_ssize_t size = 1;
    while (value > 0x7F) {
        value >>= 7;
        size++;
    }
    return size;
}

/* How many bytes the varint takes; 0 where more of it must come, -1 where it is none, or one of more than `most` bytes. */
static inline Py_ssize_t read_varint(const unsigned char *bytes, Py_ssize_t size, Py_ssize_t most, uint64_t *value) {
    uint64_t number = 0;
    Py_ssize_t index = 0;
    for (; index < size && index < most && index < WIDEST_VARINT; index++) {
        number |= (uint64_t)(bytes[index] & 0x7F) << 7 * index;
        if (bytes[index] < 0x80) {
            *value = number;
            return bytes[index] == 0 && index > 0 ? -1 : index + 1;
        }
    }
    return index == size && index < most ? 0 : -1;
}

/* ---- a length of fixed width */

static int read_prefixed(PyObject *const *args, Options *options) {
    int little = read_order(args[1]);
    options->prefixed.little = little;
    return little >= 0 && read_number(args[0], &options->prefixed.width) && options->prefixed.width >= 1 &&
           options->prefixed.width <= 8 && read_number(args[2], &options->prefixed.counted) &&
           read_number(args[3], &options->prefixed.min_frame) && read_number(args[4], &options->prefixed.max_frame);
}

static inline Outcome split_by(const Py_ssize_t width, const int little, const Options *options, const Input *input,
                               Answer *answer) {
    const uint64_t counted = (uint64_t)options->prefixed.counted;
    const uint64_t least = (uint64_t)options->prefixed.min_frame;
    const uint64_t most = (uint64_t)options->prefixed.max_frame;
    Py_ssize_t at = input->start;
    Py_ssize_t left = input->size - at;
    uint64_t field = left < width ? 0 : read_unsigned(input->data + at, width, little);
    while (left >= width) {
        const uint64_t length = field - counted; /* what is less than that becomes more than any limit */
        if (length < least || length > most) {
            return judge(answer, at);
        }
        if (length > (uint64_t)(left - width)) {
            if (length > HUGE_LENGTH) {
                return judge(answer, at);
            }
            return promised(answer, at, width + (Py_ssize_t)length, width, width + (Py_ssize_t)length);
        }
        const unsigned char *payload = input->data + at + width;
        const unsigned char *behind = payload + length;
        left -= width + (Py_ssize_t)length;
        /* Read ahead: copying a payload of another size than the last makes the processor start anew, and wait for it. */
        field = left < width ? 0 : read_unsigned(behind, width, little);
        if (deliver(input, answer, at, payload, (Py_ssize_t)length) < 0) {
            return FAILED;
        }
        at += width + (Py_ssize_t)length;
        if (answer->count == input->limit) {
            return stopped(answer, at);
        }
    }
    return incomplete(answer, at, width);
}

/* With a constant width the loop over its bytes is one load. */
static Outcome split_prefixed(const Options *options, const Input *input, Answer *answer) {
    const int little = options->prefixed.little;
    switch (options->prefixed.width) {
    case 2:
        return little ? split_by(2, 1, options, input, answer) : split_by(2, 0, options, input, answer);
    case 4:
        return little ? split_by(4, 1, options, input, answer) : split_by(4, 0, options, input, answer);
    default:
        return split_by(options->prefixed.width, little, options, input, answer);
    }
}

const Kernel split_prefixed_kernel = {HOME, "split_prefixed", 5, read_prefixed, split_prefixed};

/* ---- a varint */

static int read_varint_options(PyObject *const *args, Options *options) {
    return read_number(args[0], &options->varint.min_frame) && read_number(args[1], &options->varint.max_frame);
}

static Outcome split_varint(const Options *options, const Input *input, Answer *answer) {
    const uint64_t least = (uint64_t)options->varint.min_frame;
    const uint64_t most = (uint64_t)options->varint.max_frame;
    const Py_ssize_t widest = varint_size(most);
    Py_ssize_t at = input->start;
    while (at < input->size) {
        const unsigned char *frame = input->data + at;
        const Py_ssize_t left = input->size - at;
        uint64_t length = 0;
        const Py_ssize_t width = read_varint(frame, left, widest, &length);
        if (width == 0) {
            return incomplete(answer, at, left + 1);
        }
        if (width < 0 || length > most || length < least) {
            return judge(answer, at);
        }
        if (length > (uint64_t)(left - width)) {
            if (length > HUGE_LENGTH) {
                return judge(answer, at);
            }
            return promised(answer, at, width + (Py_ssize_t)length, width, width + (Py_ssize_t)length);
        }
        if (deliver(input, answer, at, frame + width, (Py_ssize_t)length) < 0) {
            return FAILED;
        }
        at += width + (Py_ssize_t)length;
        if (answer->count == input->limit) {
            return stopped(answer, at);
        }
    }
    return incomplete(answer, at, 1);
}

const Kernel split_varint_kernel = {HOME, "split_varint", 2, read_varint_options, split_varint};

/* ---- a field somewhere in a header */

static int read_field(PyObject *const *args, Options *options) {
    const Py_ssize_t bound = (Py_ssize_t)(HUGE_LENGTH >> 1);
    int little = read_order(args[1]);
    options->field.little = little;
    return little >= 0 && read_number(args[0], &options->field.width) && options->field.width <= 8 &&
           read_number(args[2], &options->field.offset) && options->field.offset <= bound &&
           read_signed(args[3], &options->field.adjust) && options->field.adjust <= bound &&
           options->field.adjust >= -bound && read_span(args[4], &options->field.prefix) &&
           options->field.prefix.size <= options->field.offset && read_span(args[5], &options->field.trailer) &&
           read_number(args[6], &options->field.min_frame) && read_number(args[7], &options->field.max_frame);
}

static Outcome split_field(const Options *options, const Input *input, Answer *answer) {
    const Py_ssize_t width = options->field.width;
    const Py_ssize_t offset = options->field.offset;
    const Py_ssize_t adjust = options->field.adjust;
    const Span prefix = options->field.prefix;
    const Span trailer = options->field.trailer;
    /* What the field counts besides what follows it makes its value larger than the frame may be. */
    const Py_ssize_t widest =
        width ? 0 : varint_size((uint64_t)options->field.max_frame + (adjust < 0 ? (uint64_t)-adjust : 0));
    Py_ssize_t at = input->start;
    for (;;) {
        const unsigned char *frame = input->data + at;
        const Py_ssize_t left = input->size - at;
        /* Until the prefix is whole, each byte that comes may be the wrong one. */
        const Py_ssize_t lead = left < prefix.size ? left : prefix.size;
        if (lead && memcmp(frame, prefix.bytes, (size_t)lead) != 0) {
            return judge(answer, at);
        }
        const Py_ssize_t header = offset + (width ? width : 1);
        if (left < header) {
            return incomplete(answer, at, lead == prefix.size ? header : left + 1);
        }
        uint64_t value = 0;
        Py_ssize_t body = header;
        if (width) {
            value = read_unsigned(frame + offset, width, options->field.little);
        } else {
            const Py_ssize_t taken = read_varint(frame + offset, left - offset, widest, &value);
            if (taken == 0) {
                return incomplete(answer, at, left + 1);
            }
            if (taken < 0) {
                return judge(answer, at);
            }
            body = offset + taken;
        }
        if (value > HUGE_LENGTH) {
            return judge(answer, at);
        }
        const Py_ssize_t total = body + (Py_ssize_t)value + adjust;
        if (total > options->field.max_frame || total < options->field.min_frame || total - body < trailer.size) {
            return judge(answer, at);
        }
        if (total > left) {
            answer->trailer = trailer;
            return promised(answer, at, total, 0, total);
        }
        if (trailer.size && memcmp(frame + total - trailer.size, trailer.bytes, (size_t)trailer.size) != 0) {
            return judge(answer, at);
        }
        if (deliver(input, answer, at, frame, total) < 0) {
            return FAILED;
        }
        at += total;
        if (answer->count == input->limit) {
            return stopped(answer, at);
        }
    }
}

const Kernel split_field_kernel = {HOME, "split_field", 8, read_field, split_field};

/* ---- a size that is known beforehand */

static int read_fixed(PyObject *const *args, Options *options) {
    return read_number(args[0], &options->fixed.width) && options->fixed.width >= 1;
}

static Outcome split_fixed(const Options *options, const Input *input, Answer *answer) {
    const Py_ssize_t width = options->fixed.width;
    Py_ssize_t at = input->start;
    while (input->size - at >= width) {
        if (deliver(input, answer, at, input->data + at, width) < 0) {
            return FAILED;
        }
        at += width;
        if (answer->count == input->limit) {
            return stopped(answer, at);
        }
    }
    return promised(answer, at, width, 0, width);
}

const Kernel split_fixed_kernel = {HOME, "split_fixed", 1, read_fixed, split_fixed};

/* ---- fragments of one record */

#define FRAGMENT_HEADER 4
#define LAST_FRAGMENT 0x80000000u

static int read_records(PyObject *const *args, Options *options) {
    return read_number(args[0], &options->records.max_frame) && read_number(args[1], &options->records.max_fragments);
}

/* The payload of the fragments that fill `size` bytes; NULL without an exception where they do not. */
static PyObject *reassemble(const unsigned char *frame, Py_ssize_t size, Py_ssize_t total) {
    PyObject *record = PyBytes_FromStringAndSize(NULL, total);
    char *room = record != NULL ? PyBytes_AsString(record) : NULL;
    while (room != NULL && size > 0) {
        const Py_ssize_t length =
            size < FRAGMENT_HEADER ? total + 1 : (Py_ssize_t)(read_unsigned(frame, FRAGMENT_HEADER, 0) & ~LAST_FRAGMENT);
        if (length > total || length > size - FRAGMENT_HEADER) {
            break;
        }
        memcpy(room, frame + FRAGMENT_HEADER, (size_t)length);
        room += length;
        total -= length;
        frame += FRAGMENT_HEADER + length;
        size -= FRAGMENT_HEADER + length;
    }
    if (record != NULL && (size > 0 || total > 0)) {
        Py_CLEAR(record);
    }
    return record;
}

static Outcome split_records(const Options *options, const Input *input, Answer *answer) {
    Py_ssize_t at = input->start;
    /* Where the next fragment's header is, how much payload came before it, and in how many fragments. */
    Memo state = {3, {0, 0, 0}};
    answer->memo = input->memo;
    if (input->memo.count == 3) {
        state = input->memo;
    }
    if (input->memo.count == 1 || state.value[0] < 0 || state.value[0] > input->size - at || state.value[1] < 0 ||
        state.value[1] > state.value[0] || state.value[2] < 0 || state.value[2] > state.value[0]) {
        return judge(answer, at);
    }
    for (;;) {
        const unsigned char *frame = input->data + at;
        const Py_ssize_t position = state.value[0], total = state.value[1], count = state.value[2];
        const Py_ssize_t left = input->size - at - position;
        answer->memo = state;
        answer->memo.count = position ? 3 : 0;
        if (left < FRAGMENT_HEADER) {
            return incomplete(answer, at, position + FRAGMENT_HEADER);
        }
        const uint64_t word = read_unsigned(frame + position, FRAGMENT_HEADER, 0);
        const Py_ssize_t length = (Py_ssize_t)(word & ~LAST_FRAGMENT);
        const int last = word >= LAST_FRAGMENT;
        if (length > options->records.max_frame - total || count == options->records.max_fragments ||
            (uint64_t)length > HUGE_LENGTH) {
            return judge(answer, at);
        }
        const Py_ssize_t behind = position + FRAGMENT_HEADER + length;
        if (length > left - FRAGMENT_HEADER) {
            return last && !position ? promised(answer, at, behind, FRAGMENT_HEADER, behind)
                                     : incomplete(answer, at, behind);
        }
        if (!last) {
            state.value[0] = behind;
            state.value[1] = total + length;
            state.value[2] = count + 1;
            continue;
        }
        int failed;
        if (!count) {
            failed = deliver(input, answer, at, frame + position + FRAGMENT_HEADER, length);
        } else {
            PyObject *record = reassemble(frame, behind, total + length);
            if (record == NULL && !PyErr_Occurred()) {
                return judge(answer, at);
            }
            failed = deliver_object(answer, at, record);
        }
        if (failed < 0) {
            return FAILED;
        }
        at += behind;
        memset(state.value, 0, sizeof state.value);
        answer->memo.count = 0;
        if (answer->count == input->limit) {
            return stopped(answer, at);
        }
    }
}

const Kernel split_records_kernel = {HOME, "split_records", 2, read_records, split_records};
