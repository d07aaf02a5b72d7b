/* Kernels for frames that end in a delimiter; framing/kernels/delimiters.py is their reference.
 *
 * A delimiter is searched for by its last byte, with memchr, and then looked at backwards: on text that is ten times as
 * fast as searching for its first byte, and as fast as anything for a delimiter of one byte.
 */
#include "kernel.h"

#define HOME "framing.kernels.delimiters"

/* Where `mark`, which is not empty, is found first in data[from:end]; -1 where it is not. */
static inline Py_ssize_t find(const unsigned char *data, Py_ssize_t from, Py_ssize_t end, Span mark) {
    const Py_ssize_t before = mark.size - 1;
    if (end - from <= before) {
        return -1;
    }
    const unsigned char *last = data + from + before;
    while ((last = memchr(last, mark.bytes[before], (size_t)(data + end - last))) != NULL) {
        if (before == 0 || memcmp(last - before, mark.bytes, (size_t)before) == 0) {
            return last - before - data;
        }
        last++;
    }
    return -1;
}

static int read_delimited(PyObject *const *args, Options *options) {
    return read_span(args[0], &options->delimited.delimiter) && options->delimited.delimiter.size > 0 &&
           read_flag(args[1], &options->delimited.cr_allowed) && read_number(args[2], &options->delimited.max_frame) &&
           read_flag(args[3], &options->delimited.skip);
}

static Outcome split_delimited(const Options *options, const Input *input, Answer *answer) {
    const unsigned char *data = input->data;
    const Span delimiter = options->delimited.delimiter;
    const int cr_allowed = options->delimited.cr_allowed;
    const Py_ssize_t most = options->delimited.max_frame;
    const Py_ssize_t bound = sum_of(most, delimiter.size + cr_allowed);
    const Py_ssize_t size = input->size;
    Py_ssize_t at = input->start;
    Py_ssize_t scanned = scanned_of(input->memo);
    if (scanned < DISCARDING) {
        answer->memo = input->memo;
        return judge(answer, at);
    }
    for (;;) {
        if (scanned == DISCARDING) {
            Py_ssize_t stop = find(data, at, size, delimiter);
            if (stop < 0) {
                at = larger(at, size - delimiter.size + 1);
                answer->memo = memo_of(DISCARDING);
                return incomplete(answer, at, size - at + 1);
            }
            at = stop + delimiter.size;
            scanned = 0;
        }
        Py_ssize_t stop = find(data, within(at, scanned, size), within(at, bound, size), delimiter);
        if (stop < 0 && size - at < bound) {
            if (size > at) {
                answer->memo = memo_of(larger(0, size - at - delimiter.size + 1));
            }
            return incomplete(answer, at, size - at + 1);
        }
        Py_ssize_t end = cr_allowed && stop > at && data[stop - 1] == '\r' ? stop - 1 : stop;
        if (stop >= 0 && end - at <= most) {
            if (deliver(input, answer, at, data + at, end - at) < 0) {
                return FAILED;
            }
        } else if (options->delimited.skip) {
            answer->skipped++;
        } else {
            answer->memo = memo_of(scanned);
            return judge(answer, at);
        }
        if (stop < 0) {
            at += bound - delimiter.size + 1;
            scanned = DISCARDING;
            continue;
        }
        at = stop + delimiter.size;
        scanned = 0;
        if (answer->count == input->limit && input->limit) {
            return stopped(answer, at);
        }
    }
}

const Kernel split_delimited_kernel = {HOME, "split_delimited", 4, read_delimited, split_delimited};

/* Whether the mark ends as it begins, so that two of it may have bytes in common. */
static int overlaps_itself(Span mark) {
    for (Py_ssize_t from = 1; from < mark.size; from++) {
        if (memcmp(mark.bytes, mark.bytes + from, (size_t)(mark.size - from)) == 0) {
            return 1;
        }
    }
    return 0;
}

PyObject *call_join_delimited(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Span delimiter, payload;
    int cr_allowed;
    Py_ssize_t most;
    if (count != 4 || !read_span(args[0], &delimiter) || delimiter.size == 0 || !read_flag(args[1], &cr_allowed) ||
        !read_number(args[2], &most) || !PyList_CheckExact(args[3])) {
        return call_reference(HOME, "join_delimited", args, count);
    }
    /* No Python code runs while the list is looked at. */
    const Py_ssize_t payloads = PyList_Size(args[3]);
    Py_ssize_t total = 0;
    for (Py_ssize_t index = 0; index < payloads; index++) {
        if (!read_span(PyList_GetItem(args[3], index), &payload) || payload.size > most ||
            (cr_allowed && payload.size > 0 && payload.bytes[payload.size - 1] == '\r')) {
            return Py_NewRef(Py_None);
        }
        if (payload.size > PY_SSIZE_T_MAX / 2 - delimiter.size - total) {
            return PyErr_NoMemory();
        }
        total += payload.size + delimiter.size;
    }
    PyObject *joined = overlaps_itself(delimiter) ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(NULL, total);
    if (joined == NULL || joined == Py_None || total == 0) {
        return joined;
    }
    unsigned char *bytes = (unsigned char *)PyBytes_AsString(joined);
    Py_ssize_t at = 0;
    for (Py_ssize_t index = 0; index < payloads && read_span(PyList_GetItem(args[3], index), &payload); index++) {
        memcpy(bytes + at, payload.bytes, (size_t)payload.size);
        memcpy(bytes + at + payload.size, delimiter.bytes, (size_t)delimiter.size);
        if (find(bytes, at, at + payload.size + delimiter.size, delimiter) != at + payload.size) {
            Py_DECREF(joined);
            return Py_NewRef(Py_None);
        }
        at += payload.size + delimiter.size;
    }
    return joined;
}

/* How far each delimiter has been searched for, from `from` on: it begins first at `at`, or nowhere before. */
typedef struct {
    Py_ssize_t from;
    struct {
        Py_ssize_t at;
        int found;
    } each[MOST_DELIMITERS];
} Cursors;

/* Where the first of the delimiters begins in data[from:end], the longest of those that begin there; -1 where none is.
 * The cursors remember, so that a delimiter that is seldom, or never there, is not searched for anew with each frame. */
static Py_ssize_t find_first(const Options *options, Cursors *cursors, const unsigned char *data, Py_ssize_t from,
                             Py_ssize_t end, Py_ssize_t *width) {
    Py_ssize_t first = -1;
    for (Py_ssize_t index = 0; index < options->marked.count; index++) {
        const Span delimiter = options->marked.delimiters[index];
        Py_ssize_t at = cursors->each[index].at;
        int found = cursors->each[index].found;
        if (at < from || from < cursors->from) { /* back it goes where a mark is among the bytes that a memo passes over */
            at = from;
            found = 0;
        }
        if (!found) {
            /* Behind the first of the others it is of no interest yet. */
            const Py_ssize_t stop = first < 0 ? end : within(first, delimiter.size, end);
            const Py_ssize_t hit = find(data, at, stop, delimiter);
            found = hit >= 0;
            at = found ? hit : larger(at, stop - delimiter.size + 1);
        }
        cursors->each[index].at = at;
        cursors->each[index].found = found;
        if (found && end - at >= delimiter.size && (first < 0 || at < first || (at == first && delimiter.size > *width))) {
            first = at;
            *width = delimiter.size;
        }
    }
    cursors->from = from;
    return first;
}

static Py_ssize_t find_last(const unsigned char *data, Py_ssize_t from, Py_ssize_t end, Span mark) {
    Py_ssize_t last = -1;
    for (Py_ssize_t hit = from - 1; (hit = find(data, hit + 1, end, mark)) >= 0;) {
        last = hit;
    }
    return last;
}

/* How many of the last bytes of data[at:size] may be the beginning of `mark`. */
static Py_ssize_t begun(const unsigned char *data, Py_ssize_t at, Py_ssize_t size, Span mark) {
    Py_ssize_t count = mark.size - 1 < size - at ? mark.size - 1 : size - at;
    while (count > 0 && memcmp(data + size - count, mark.bytes, (size_t)count) != 0) {
        count--;
    }
    return count;
}

static int read_marked(PyObject *const *args, Options *options) {
    options->marked.count = PyTuple_Check(args[0]) ? PyTuple_Size(args[0]) : 0;
    if (options->marked.count < 1 || options->marked.count > MOST_DELIMITERS) {
        return 0;
    }
    options->marked.longest = 0;
    for (Py_ssize_t index = 0; index < options->marked.count; index++) {
        Span *delimiter = &options->marked.delimiters[index];
        if (!read_span(PyTuple_GetItem(args[0], index), delimiter) || delimiter->size == 0) {
            return 0;
        }
        options->marked.longest = larger(options->marked.longest, delimiter->size);
    }
    return read_span(args[1], &options->marked.mark) && read_number(args[2], &options->marked.max_frame) &&
           read_flag(args[3], &options->marked.skip_oversize) && read_flag(args[4], &options->marked.skip_corrupt);
}

static Outcome split_marked(const Options *options, const Input *input, Answer *answer) {
    const unsigned char *data = input->data;
    const Span mark = options->marked.mark;
    const Py_ssize_t longest = options->marked.longest;
    const Py_ssize_t most = options->marked.max_frame;
    const Py_ssize_t bound = sum_of(most, mark.size + longest);
    const Py_ssize_t size = input->size;
    Cursors cursors = {0, {{0, 0}}};
    Py_ssize_t at = input->start;
    Py_ssize_t scanned = scanned_of(input->memo);
    if (scanned < HUNTING || scanned > size - at || (scanned == HUNTING && mark.size == 0)) {
        answer->memo = input->memo;
        return judge(answer, at);
    }
    for (;;) {
        Py_ssize_t width = 0;
        if (scanned == DISCARDING) {
            Py_ssize_t stop = find_first(options, &cursors, data, at, size, &width);
            if (stop < 0) {
                at = larger(at, size - longest + 1);
                answer->memo = memo_of(DISCARDING);
                return incomplete(answer, at, size - at + 1);
            }
            at = stop + width;
            scanned = 0;
        }
        if (scanned == HUNTING) {
            Py_ssize_t hit = find(data, at, size, mark);
            if (hit < 0) {
                at = size - begun(data, at, size, mark);
                answer->memo = memo_of(HUNTING);
                return incomplete(answer, at, size - at + 1);
            }
            at = hit;
            scanned = 0;
        }
        Py_ssize_t held = size - at;
        if (scanned == 0 && memcmp(data + at, mark.bytes, (size_t)(held < mark.size ? held : mark.size)) != 0) {
            if (!options->marked.skip_corrupt) {
                return judge(answer, at);
            }
            answer->skipped++;
            at++;
            scanned = HUNTING;
            continue;
        }
        Py_ssize_t from = within(at, larger(scanned, mark.size), size);
        Py_ssize_t stop = find_first(options, &cursors, data, from, within(at, bound, size), &width);
        if (stop < 0 && held < bound) {
            if (held > 0) {
                /* Until the mark is whole it is looked at again, and so is all behind it. */
                answer->memo = memo_of(held < mark.size ? 0 : larger(0, held - longest + 1));
            }
            return incomplete(answer, at, held + 1);
        }
        Py_ssize_t begin = at + mark.size;
        Py_ssize_t inner = -1;
        if (stop < 0 || stop - begin > most) {
            if (!options->marked.skip_oversize) {
                answer->memo = memo_of(scanned);
                return judge(answer, at);
            }
            answer->skipped++;
        } else if (mark.size > 0 && (inner = find_last(data, begin, stop, mark)) >= 0) {
            if (!options->marked.skip_corrupt) {
                answer->memo = memo_of(scanned);
                return judge(answer, at);
            }
            answer->skipped++;
        } else if (deliver(input, answer, at, data + begin, stop - begin) < 0) {
            return FAILED;
        }
        scanned = 0;
        if (inner >= 0) {
            at = inner;
        } else if (stop < 0) {
            at += bound - longest + 1;
            scanned = DISCARDING;
        } else {
            at = stop + width;
            if (answer->count == input->limit && input->limit) {
                return stopped(answer, at);
            }
        }
    }
}

const Kernel split_marked_kernel = {HOME, "split_marked", 5, read_marked, split_marked};
