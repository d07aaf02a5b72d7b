/* Kernels for a length written as text; framing/kernels/decimals.py is their reference. */
#include "kernel.h"

#define HOME "framing.kernels.decimals"

/* So many digits are always a C integer. */
#define MOST_DIGITS (sizeof(Py_ssize_t) > 4 ? 17 : 8)

static inline int is_digit(unsigned char byte) {
    return byte >= '0' && byte <= '9';
}

static int read_decimal(PyObject *const *args, Options *options) {
    Span terminator;
    if (!read_span(args[0], &terminator) || terminator.size != 1) {
        return 0;
    }
    options->decimal.terminator = terminator.bytes[0];
    return read_span(args[1], &options->decimal.trailer) && options->decimal.trailer.size <= 1 &&
           read_flag(args[2], &options->decimal.zero_allowed) && read_number(args[3], &options->decimal.max_digits) &&
           options->decimal.max_digits <= MOST_DIGITS && read_number(args[4], &options->decimal.max_frame);
}

static Outcome split_decimal(const Options *options, const Input *input, Answer *answer) {
    const Span trailer = options->decimal.trailer;
    const Py_ssize_t most = options->decimal.max_digits;
    Py_ssize_t at = input->start;
    for (;;) {
        const unsigned char *frame = input->data + at;
        const Py_ssize_t left = input->size - at;
        Py_ssize_t digits = 0;
        Py_ssize_t length = 0;
        while (digits < left && frame[digits] != options->decimal.terminator) {
            if (!is_digit(frame[digits]) || digits == most) {
                return judge(answer, at);
            }
            length = length * 10 + (frame[digits] - '0');
            digits++;
        }
        /* A zero is right where it is the whole number, and one is allowed. */
        if (digits && frame[0] == '0' && (digits > 1 || !options->decimal.zero_allowed)) {
            return judge(answer, at);
        }
        if (digits == left) {
            return incomplete(answer, at, left + 1);
        }
        if (!digits || length > options->decimal.max_frame) {
            return judge(answer, at);
        }
        const Py_ssize_t begin = digits + 1;
        const Py_ssize_t total = begin + length + trailer.size;
        if (total > left) {
            answer->trailer = trailer;
            return promised(answer, at, total, begin, begin + length);
        }
        if (trailer.size && frame[begin + length] != trailer.bytes[0]) {
            return judge(answer, at);
        }
        if (deliver(input, answer, at, frame + begin, length) < 0) {
            return FAILED;
        }
        at += total;
        if (answer->count == input->limit) {
            return stopped(answer, at);
        }
    }
}

const Kernel split_decimal_kernel = {HOME, "split_decimal", 5, read_decimal, split_decimal};

/* ---- header lines */

static const unsigned char FIELD[] = "Content-Length: ";
static const unsigned char BLANK_LINE[] = "\r\n\r\n";

#define FIELD_SIZE ((Py_ssize_t)sizeof FIELD - 1)
#define BLANK_SIZE ((Py_ssize_t)sizeof BLANK_LINE - 1)

static int read_content_length(PyObject *const *args, Options *options) {
    return read_number(args[0], &options->content_length.max_header) &&
           read_number(args[1], &options->content_length.max_frame);
}

/* Where the header's blank line begins, from `from` on, whole within `size`; -1 where it is not. */
static Py_ssize_t find_blank_line(const unsigned char *bytes, Py_ssize_t from, Py_ssize_t size) {
    while (size - from >= BLANK_SIZE) {
        const unsigned char *found = memchr(bytes + from, '\r', (size_t)(size - from - BLANK_SIZE + 1));
        if (found == NULL) {
            return -1;
        }
        from = found - bytes;
        if (memcmp(found, BLANK_LINE, (size_t)BLANK_SIZE) == 0) {
            return from;
        }
        from++;
    }
    return -1;
}

/* The length that a header of one line, as everybody writes it, gives; -1 for any other. */
static Py_ssize_t read_length(const unsigned char *header, Py_ssize_t size) {
    Py_ssize_t length = 0;
    if (size <= FIELD_SIZE || size > FIELD_SIZE + MOST_DIGITS || memcmp(header, FIELD, (size_t)FIELD_SIZE) != 0 ||
        (header[FIELD_SIZE] == '0' && size > FIELD_SIZE + 1)) {
        return -1;
    }
    for (Py_ssize_t at = FIELD_SIZE; at < size; at++) {
        if (!is_digit(header[at])) {
            return -1;
        }
        length = length * 10 + (header[at] - '0');
    }
    return length;
}

static Outcome split_content_length(const Options *options, const Input *input, Answer *answer) {
    const Py_ssize_t max_header = options->content_length.max_header;
    const Py_ssize_t max_frame = options->content_length.max_frame;
    Py_ssize_t at = input->start;
    Py_ssize_t scanned = scanned_of(input->memo);
    answer->memo = input->memo;
    if (scanned < 0) {
        return judge(answer, at);
    }
    for (;;) {
        const unsigned char *frame = input->data + at;
        const Py_ssize_t left = input->size - at;
        const Py_ssize_t stop = find_blank_line(frame, scanned, left < max_header ? left : max_header);
        if (stop < 0) {
            if (left >= max_header) {
                return judge(answer, at);
            }
            answer->memo = memo_of(left > 3 ? left - 3 : 0);
            answer->memo.count = left > 0;
            return incomplete(answer, at, left + 1);
        }
        const Py_ssize_t length = read_length(frame, stop);
        if (length < 0 || length > max_frame) {
            return judge(answer, at);
        }
        answer->memo.count = 0;
        scanned = 0;
        const Py_ssize_t begin = stop + BLANK_SIZE;
        if (length > left - begin) {
            return promised(answer, at, begin + length, begin, begin + length);
        }
        if (deliver(input, answer, at, frame + begin, length) < 0) {
            return FAILED;
        }
        at += begin + length;
        if (answer->count == input->limit) {
            return stopped(answer, at);
        }
    }
}

const Kernel split_content_length_kernel = {HOME, "split_content_length", 2, read_content_length, split_content_length};
