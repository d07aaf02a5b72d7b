/* Kernels that undo byte stuffing; framing/kernels/stuffing.py is their reference.
 *
 * The loop around the three is one, and is given what differs: how a body is measured and turned back into its payload. A
 * payload is measured before it is made, so that it is made once, and in its own place.
 */
#include "stuffing.h"

#define HOME "framing.kernels.stuffing"

/* Deliver the payload that stands in data[at:stop] of the input: 1 where it was right, 0 where it was not, -1 where there is
 * no memory. */
typedef int (*Unstuff)(const Options *options, const Input *input, Answer *answer, const unsigned char *body,
                       Py_ssize_t size);

static inline Outcome split_stuffed(const Options *options, const Input *input, Answer *answer, int end, Py_ssize_t bound,
                                    Unstuff unstuff) {
    const unsigned char *data = input->data;
    const Py_ssize_t size = input->size;
    Py_ssize_t at = input->start;
    Py_ssize_t scanned = scanned_of(input->memo);
    if (scanned < DISCARDING) {
        answer->memo = input->memo;
        return judge(answer, at);
    }
    for (;;) {
        if (scanned == DISCARDING) {
            const unsigned char *hit = memchr(data + at, end, (size_t)(size - at));
            if (hit == NULL) {
                answer->memo = memo_of(DISCARDING);
                return incomplete(answer, size, 1);
            }
            at = hit + 1 - data;
            scanned = 0;
        }
        const Py_ssize_t from = within(at, scanned, size);
        const Py_ssize_t last = bound < size - at ? at + bound + 1 : size;
        const unsigned char *hit = from < last ? memchr(data + from, end, (size_t)(last - from)) : NULL;
        if (hit == NULL && size - at <= bound) {
            if (size > at) {
                answer->memo = memo_of(size - at);
            }
            return incomplete(answer, at, size - at + 1);
        }
        if (hit == data + at) {
            at++;
            continue;
        }
        int right = hit == NULL ? 0 : unstuff(options, input, answer, data + at, hit - data - at);
        if (right < 0) {
            return FAILED;
        }
        if (!right) {
            if (!options->stuffed.skip) {
                answer->memo = memo_of(scanned);
                return judge(answer, at);
            }
            answer->skipped++;
        }
        if (hit == NULL) {
            at += bound;
            scanned = DISCARDING;
            continue;
        }
        at = hit + 1 - data;
        scanned = 0;
        if (right && answer->count == input->limit) {
            return stopped(answer, at);
        }
    }
}

/* A payload of `size` bytes in the type that payloads have, to be filled in; NULL where there is no memory. */
static PyObject *reserve(const Input *input, Py_ssize_t size, unsigned char **bytes) {
    PyObject *payload =
        input->mutable ? PyByteArray_FromStringAndSize(NULL, size) : PyBytes_FromStringAndSize(NULL, size);
    if (payload != NULL) {
        *bytes = (unsigned char *)(input->mutable ? PyByteArray_AsString(payload) : PyBytes_AsString(payload));
    }
    return payload;
}

/* COBS: blocks, each of a code and of as many bytes as the code says less one; a zero behind each that is not full. So each
 * code but the first stands where the payload has a zero, unless it comes behind a full block. */

/* Where the code behind the block at `at` would be; -1 where the block reaches past the end, or has no code. */
static inline Py_ssize_t next_code(const unsigned char *body, Py_ssize_t at, Py_ssize_t size) {
    return body[at] > 0 && body[at] <= size - at ? at + body[at] : -1;
}

static int unstuff_cobs(const Options *options, const Input *input, Answer *answer, const unsigned char *body,
                        Py_ssize_t size) {
    Py_ssize_t total = size - 1;
    if (body[0] == size && total <= options->stuffed.max_frame) {
        return deliver(input, answer, body - input->data, body + 1, total) < 0 ? -1 : 1; /* it has no zero */
    }
    if (size > COBS_FULL) { /* there is room for a full block that is not the last */
        for (Py_ssize_t at = 0, next; at < size; at = next) {
            next = next_code(body, at, size);
            if (next < 0) {
                return 0;
            }
            total -= body[at] == COBS_FULL && next < size;
        }
    }
    if (total > options->stuffed.max_frame) {
        return 0;
    }
    unsigned char *to;
    PyObject *payload = reserve(input, total, &to);
    if (payload == NULL) {
        return -1;
    }
    if (total == size - 1) {
        memcpy(to, body + 1, (size_t)total);
        for (Py_ssize_t at = next_code(body, 0, size); at != size; at = next_code(body, at, size)) {
            if (at < 0) {
                Py_DECREF(payload);
                return 0;
            }
            to[at - 1] = 0;
        }
    } else {
        for (Py_ssize_t at = 0, next; at < size; at = next) {
            next = next_code(body, at, size);
            copy_run(to, body + at + 1, next - at - 1);
            to += next - at - 1;
            if (body[at] < COBS_FULL && next < size) {
                *to++ = 0;
            }
        }
    }
    return deliver_object(answer, body - input->data, payload) < 0 ? -1 : 1;
}

static int read_simple(PyObject *const *args, Options *options) {
    return read_number(args[0], &options->stuffed.max_frame) && read_flag(args[1], &options->stuffed.skip);
}

static Outcome split_cobs(const Options *options, const Input *input, Answer *answer) {
    const Py_ssize_t most = options->stuffed.max_frame;
    return split_stuffed(options, input, answer, COBS_END, sum_of(most, most / 254 + 1), unstuff_cobs);
}

const Kernel split_cobs_kernel = {HOME, "split_cobs", 2, read_simple, split_cobs};

/* SLIP and HDLC: an escape byte, and behind it what stands for another byte. */

/* How many escapes there are in a body, or -1 where one has nothing behind it, or nothing that may be there. */
static inline Py_ssize_t count_escapes(const unsigned char *body, Py_ssize_t size, int escape) {
    const unsigned char *end = body + size;
    Py_ssize_t count = 0;
    while ((body = memchr(body, escape, (size_t)(end - body))) != NULL) {
        if (++body == end || (escape == SLIP_ESCAPE && (*body & 0xFE) != SLIP_ESCAPED_END)) {
            return -1;
        }
        body++;
        count++;
    }
    return count;
}

/* Write `size` bytes to `to` that stand in a body at `from`, escapes undone; returns where in the body they end. */
static inline const unsigned char *unescape(const unsigned char *from, const unsigned char *end, int escape,
                                            unsigned char *to, Py_ssize_t size) {
    while (size > 0) {
        Py_ssize_t run = size < end - from ? size : end - from;
        const unsigned char *hit = memchr(from, escape, (size_t)run);
        if (hit != NULL) {
            run = hit - from;
        }
        memcpy(to, from, (size_t)run);
        to += run;
        from += run;
        size -= run;
        if (hit != NULL) {
            *to++ = escape == HDLC_ESCAPE ? from[1] ^ HDLC_MASK : from[1] == SLIP_ESCAPED_END ? SLIP_END : SLIP_ESCAPE;
            from += 2;
            size--;
        }
    }
    return from;
}

static int unstuff_slip(const Options *options, const Input *input, Answer *answer, const unsigned char *body,
                        Py_ssize_t size) {
    const Py_ssize_t escapes = count_escapes(body, size, SLIP_ESCAPE);
    const Py_ssize_t total = size - escapes;
    if (escapes < 0 || total > options->stuffed.max_frame) {
        return 0;
    }
    if (escapes == 0) {
        return deliver(input, answer, body - input->data, body, size) < 0 ? -1 : 1;
    }
    unsigned char *to;
    PyObject *payload = reserve(input, total, &to);
    if (payload == NULL) {
        return -1;
    }
    unescape(body, body + size, SLIP_ESCAPE, to, total);
    return deliver_object(answer, body - input->data, payload) < 0 ? -1 : 1;
}

static Outcome split_slip(const Options *options, const Input *input, Answer *answer) {
    const Py_ssize_t most = options->stuffed.max_frame;
    return split_stuffed(options, input, answer, SLIP_END, sum_of(most, most), unstuff_slip);
}

const Kernel split_slip_kernel = {HOME, "split_slip", 2, read_simple, split_slip};

static int unstuff_hdlc(const Options *options, const Input *input, Answer *answer, const unsigned char *body,
                        Py_ssize_t size) {
    const int width = (int)options->stuffed.width / 8;
    const Py_ssize_t escapes = count_escapes(body, size, HDLC_ESCAPE);
    const Py_ssize_t total = size - escapes - width;
    unsigned char came[4], right[4];
    if (escapes < 0 || total < 0 || total > options->stuffed.max_frame) {
        return 0;
    }
    if (escapes == 0) {
        check_sequence(width, body, total, right);
        if (memcmp(body + total, right, (size_t)width) != 0) {
            return 0;
        }
        return deliver(input, answer, body - input->data, body, total) < 0 ? -1 : 1;
    }
    unsigned char *to;
    PyObject *payload = reserve(input, total, &to);
    if (payload == NULL) {
        return -1;
    }
    unescape(unescape(body, body + size, HDLC_ESCAPE, to, total), body + size, HDLC_ESCAPE, came, width);
    check_sequence(width, to, total, right);
    if (memcmp(came, right, (size_t)width) != 0) {
        Py_DECREF(payload);
        return 0;
    }
    return deliver_object(answer, body - input->data, payload) < 0 ? -1 : 1;
}

static int read_hdlc(PyObject *const *args, Options *options) {
    return read_width(args[0], &options->stuffed.width) && read_simple(args + 1, options);
}

static Outcome split_hdlc(const Options *options, const Input *input, Answer *answer) {
    const Py_ssize_t most = sum_of(options->stuffed.max_frame, options->stuffed.width / 8);
    return split_stuffed(options, input, answer, HDLC_FLAG, sum_of(most, most), unstuff_hdlc);
}

const Kernel split_hdlc_kernel = {HOME, "split_hdlc", 3, read_hdlc, split_hdlc};
