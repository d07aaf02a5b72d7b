/* What codecs ask of payloads and messages; framing/kernels/audit.py is the reference.
 *
 * Payloads are read as bytes and messages as the objects that they are; no Python code runs while one is looked at. Only
 * None, bool, int, float, str, bytes, list, tuple and dict themselves are judged here, and not their subclasses: where
 * anything else, or anything that nests deeper than MOST_DEPTH, has a say in the answer, the reference gives it.
 *
 * No message is walked through where a number from its payload answers already. A dict has as many keys as its map has
 * entries, unless one came twice; so if a payload has no more entries in all than the outermost dict has keys, each of
 * them is one of these keys, and all are different.
 */
#include "kernel.h"

#include <math.h>

#define HOME "framing.kernels.audit"
#define MOST_DEPTH 256 /* framing.codecs.base.MOST_MAX_DEPTH */

typedef enum { BROKEN = -1, NO = 0, YES = 1, UNKNOWN = 2 } Verdict;

static PyObject *answer_of(Verdict verdict, const char *name, PyObject *const *args, Py_ssize_t count) {
    if (verdict == UNKNOWN) {
        return call_reference(HOME, name, args, count);
    }
    return verdict == BROKEN ? NULL : PyBool_FromLong(verdict == YES);
}

/* One of a list of payloads; 0 where the list has become shorter, or holds something else there. */
static inline int read_payload(PyObject *payloads, Py_ssize_t index, Span *payload) {
    return index < PyList_Size(payloads) && read_span(PyList_GetItem(payloads, index), payload);
}

/* The verdict on a list of payloads, args[0]: whether none nests deeper than args[1]; `most_depth` is what the reader bears. */
static inline Verdict all_within(PyObject *const *args, Py_ssize_t count, Py_ssize_t most_depth,
                                 int (*nests_deeper)(Span payload, Py_ssize_t max_depth)) {
    Py_ssize_t max_depth;
    if (count != 2 || !PyList_CheckExact(args[0]) || !read_number(args[1], &max_depth) || max_depth > most_depth) {
        return UNKNOWN;
    }
    for (Py_ssize_t index = 0; index < PyList_Size(args[0]); index++) {
        Span payload;
        if (!read_payload(args[0], index, &payload)) {
            return UNKNOWN;
        }
        if (nests_deeper(payload, max_depth)) {
            return NO;
        }
    }
    return YES;
}

/* The verdict on payloads, args[0], and the messages made of them, args[1]: YES where `sound` says so of each. */
static inline Verdict all_sound(PyObject *const *args, Py_ssize_t count, Py_ssize_t most_depth,
                                Verdict (*sound)(Span payload, PyObject *message, Py_ssize_t max_depth, int unique_keys)) {
    Py_ssize_t max_depth;
    int unique_keys;
    if (count != 5 || !PyList_CheckExact(args[0]) || !PyList_CheckExact(args[1]) || !read_number(args[2], &max_depth) ||
        max_depth > most_depth || !read_flag(args[3], &unique_keys) || PyList_Size(args[0]) != PyList_Size(args[1])) {
        return UNKNOWN;
    }
    for (Py_ssize_t index = 0; index < PyList_Size(args[0]); index++) {
        Span payload;
        if (!read_payload(args[0], index, &payload)) {
            return UNKNOWN;
        }
        const Verdict verdict = sound(payload, PyList_GetItem(args[1], index), max_depth, unique_keys);
        if (verdict != YES) {
            return verdict;
        }
    }
    return YES;
}

/* The items of a list or a tuple; -1 of them in anything else. */
static inline Py_ssize_t count_items(PyObject *node) {
    return PyList_CheckExact(node) ? PyList_Size(node) : PyTuple_CheckExact(node) ? PyTuple_Size(node) : -1;
}

static inline PyObject *item_of(PyObject *node, Py_ssize_t index) {
    return PyList_CheckExact(node) ? PyList_GetItem(node, index) : PyTuple_GetItem(node, index);
}

/* Messages as a parser makes them. */

typedef struct {
    int64_t entries; /* of all dicts */
    int deepest;     /* how deep they, lists and tuples nest */
    int nan_key;     /* whether one of them has NaN for a key, or within a key */
} Census;

static int count_container(PyObject *node, int depth, int is_key, Census *census);

/* Adds what is in `node` to the census; 0 where it is not for us to judge. */
static inline int count_node(PyObject *node, int depth, int is_key, Census *census) {
    if (PyUnicode_CheckExact(node) || PyLong_CheckExact(node) || node == Py_None || PyBool_Check(node) ||
        PyBytes_CheckExact(node)) {
        return 1;
    }
    if (PyFloat_CheckExact(node)) {
        census->nan_key |= is_key && isnan(PyFloat_AsDouble(node));
        return 1;
    }
    return count_container(node, depth, is_key, census);
}

static int count_container(PyObject *node, int depth, int is_key, Census *census) {
    const Py_ssize_t size = count_items(node);
    if (depth == MOST_DEPTH || (size < 0 && !PyDict_CheckExact(node))) {
        return 0;
    }
    if (depth == census->deepest) {
        census->deepest = depth + 1;
    }
    if (size < 0) {
        PyObject *key, *value;
        Py_ssize_t at = 0;
        census->entries += PyDict_Size(node);
        while (PyDict_Next(node, &at, &key, &value)) {
            if (!count_node(key, depth + 1, 1, census) || !count_node(value, depth + 1, is_key, census)) {
                return 0;
            }
        }
    }
    for (Py_ssize_t index = 0; index < size; index++) {
        if (!count_node(item_of(node, index), depth + 1, is_key, census)) {
            return 0;
        }
    }
    return 1;
}

/* Whether it is certain that none of `entries` entries, which a payload has at the most, has the key of another one. */
static inline int has_keys_enough(PyObject *message, int64_t entries) {
    return entries == 0 || (PyDict_CheckExact(message) && PyDict_Size(message) == entries);
}

/* JSON */

#define COUNT(condition)                                                                                     \
    Py_ssize_t total = 0;                                                                                    \
    for (Py_ssize_t from = 0; from < payload.size; from += 255) { /* as many as one byte can count: fast */  \
        const Py_ssize_t end = within(from, 255, payload.size);                                              \
        unsigned char count = 0;                                                                             \
        for (Py_ssize_t at = from; at < end; at++) {                                                         \
            count = (unsigned char)(count + (condition));                                                    \
        }                                                                                                    \
        total += count;                                                                                      \
    }                                                                                                        \
    return total

static Py_ssize_t count_openings(Span payload) {
    COUNT((payload.bytes[at] | 0x20) == '{'); /* [ is { without that bit */
}

/* How many entries a JSON text has at the most: behind a name come its quote, and perhaps white space, and its colon. */
static Py_ssize_t most_entries(Span payload) {
    payload.bytes++; /* the first byte is no colon */
    payload.size--;
    COUNT((payload.bytes[at] == ':') & ((payload.bytes[at - 1] == '"') | (payload.bytes[at - 1] <= ' ')));
}

/* How deep brackets nest in a JSON text, and how many colons it has, both outside of its strings. */
static void read_json(Span payload, Py_ssize_t *deepest, Py_ssize_t *colons) {
    Py_ssize_t depth = 0;
    int quoted = 0;
    *deepest = *colons = 0;
    for (Py_ssize_t at = 0; at < payload.size; at++) {
        const unsigned char byte = payload.bytes[at];
        if (quoted) {
            quoted = byte != '"';
            at += byte == '\\'; /* whatever is behind it is no end */
        } else if (byte == '"') {
            quoted = 1;
        } else if (byte == ':') {
            ++*colons;
        } else if ((byte | 0x20) == '{') {
            *deepest = larger(*deepest, ++depth);
        } else if ((byte | 0x20) == '}') {
            depth--;
        }
    }
}

static int json_nests_deeper(Span payload, Py_ssize_t max_depth) {
    Py_ssize_t deepest, colons;
    if (payload.size / 2 <= max_depth || count_openings(payload) <= max_depth) {
        return 0; /* what is opened is closed */
    }
    read_json(payload, &deepest, &colons);
    return deepest > max_depth;
}

static Verdict json_names_differ(Span payload, PyObject *message) {
    const Py_ssize_t most = payload.size > 0 ? most_entries(payload) : 0;
    Census census = {0, 0, 0};
    Py_ssize_t deepest, colons;
    if (has_keys_enough(message, most)) {
        return YES;
    }
    if (!count_node(message, 0, 0, &census)) {
        return UNKNOWN;
    }
    if (census.entries == most) {
        return YES;
    }
    read_json(payload, &deepest, &colons);
    return colons == census.entries ? YES : NO;
}

static Verdict json_sound(Span payload, PyObject *message, Py_ssize_t max_depth, int unique_keys) {
    if (json_nests_deeper(payload, max_depth)) {
        return NO;
    }
    return unique_keys ? json_names_differ(payload, message) : YES;
}

PyObject *call_json_within(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    return answer_of(all_within(args, count, PY_SSIZE_T_MAX, json_nests_deeper), "json_within", args, count);
}

PyObject *call_json_sound(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    return answer_of(all_sound(args, count, PY_SSIZE_T_MAX, json_sound), "json_sound", args, count);
}

/* MessagePack */

#define TIMES_8(number) number, number, number, number, number, number, number, number
#define TIMES_16(number) TIMES_8(number), TIMES_8(number)

/* How many bytes an item takes that begins with this one, without what a length or a container holds. */
static const unsigned char sizes[256] = {
    TIMES_16(1), TIMES_16(1), TIMES_16(1), TIMES_16(1), TIMES_16(1), TIMES_16(1), TIMES_16(1), TIMES_16(1), /* 00 int */
    TIMES_16(1),                                                                                            /* 80 map */
    TIMES_16(1),                                                                                            /* 90 array */
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,                                                  /* A0 str */
    17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,                                         /* B0 str */
    1, 1, 1, 1,                                                                                             /* C0 nil, bool */
    2, 3, 5,                                                                                                /* C4 bin */
    3, 4, 6,                                                                                                /* C7 ext */
    5, 9,                                                                                                   /* CA float */
    2, 3, 5, 9,                                                                                             /* CC uint */
    2, 3, 5, 9,                                                                                             /* D0 int */
    3, 4, 6, 10, 18,                                                                                        /* D4 fixext */
    2, 3, 5,                                                                                                /* D9 str */
    3, 5,                                                                                                   /* DC array */
    3, 5,                                                                                                   /* DE map */
    TIMES_16(1), TIMES_16(1),                                                                               /* E0 int */
};

/* The big-endian number of `width` bytes at `at`, or of as many as there are. */
static int64_t read_length(Span payload, int64_t at, int width) {
    int64_t value = 0;
    for (; width > 0 && at < payload.size; width--, at++) {
        value = value << 8 | payload.bytes[at];
    }
    return value;
}

/* What begins at one place of a payload: where the next item begins, and of how many items and entries this one consists. */
typedef struct {
    int64_t behind, items, entries;
    int is_container, maybe_nan;
} Item;

static inline Item read_item(Span payload, int64_t at) {
    const unsigned char byte = payload.bytes[at];
    Item item = {at + sizes[byte], 0, 0, 0, 0};
    if (byte < 0x80 || (byte & 0xE0) == 0xA0 || byte >= 0xE0) {
        return item; /* a short int or str, as most are */
    }
    if (byte < 0xA0 || (byte >= 0xDC && byte <= 0xDF)) {
        const int64_t count = byte < 0xA0 ? byte & 0x0F : read_length(payload, at + 1, byte & 1 ? 4 : 2);
        const int is_map = byte < 0x90 || byte >= 0xDE;
        item.is_container = 1;
        item.items = is_map ? 2 * count : count;
        item.entries = is_map ? count : 0;
    } else if (byte == 0xCA || byte == 0xCB) {
        /* All bits of the exponent are set, as far as the second byte tells. */
        item.maybe_nan = payload.size - at > 2 && (payload.bytes[at + 1] & 0x7F) == 0x7F &&
                         payload.bytes[at + 2] >= (byte == 0xCA ? 0x80 : 0xF0);
    } else if ((byte >= 0xC4 && byte <= 0xC9) || (byte >= 0xD9 && byte <= 0xDB)) {
        const int width = byte < 0xC7 ? 1 << (byte - 0xC4) : byte < 0xD9 ? 1 << (byte - 0xC7) : 1 << (byte - 0xD9);
        item.behind += read_length(payload, at + 1, width);
    }
    return item;
}

/* Whether arrays and maps nest deeper than `max_depth`, which is MOST_DEPTH at the most. */
static int msgpack_nests_deeper(Span payload, Py_ssize_t max_depth) {
    int64_t waiting[MOST_DEPTH + 1]; /* for each open container, how many items of it are still to come */
    int64_t at = 0;
    Py_ssize_t depth = 0;
    if (payload.size <= max_depth) {
        return 0;
    }
    waiting[0] = 1;
    while (depth >= 0 && at < payload.size) {
        if (waiting[depth] == 0) {
            depth--;
            continue;
        }
        const Item item = read_item(payload, at);
        waiting[depth]--;
        at = item.behind;
        if (item.is_container) {
            if (depth == max_depth) {
                return 1;
            }
            waiting[++depth] = item.items;
        }
    }
    return 0;
}

static Verdict msgpack_sound(Span payload, PyObject *message, Py_ssize_t max_depth, int unique_keys) {
    int64_t entries = 0;
    Py_ssize_t containers = 0;
    int maybe_nan = 0;
    Census census = {0, 0, 0};
    for (int64_t at = 0; at < payload.size;) {
        const Item item = read_item(payload, at);
        at = item.behind;
        containers += item.is_container;
        entries += item.entries;
        maybe_nan |= item.maybe_nan;
    }
    if (containers > max_depth && msgpack_nests_deeper(payload, max_depth)) {
        return NO;
    }
    if (!maybe_nan && (!unique_keys || has_keys_enough(message, entries))) {
        return YES;
    }
    if (!count_node(message, 0, 0, &census)) {
        return UNKNOWN;
    }
    return census.nan_key || (unique_keys && entries != census.entries) ? NO : YES;
}

PyObject *call_msgpack_within(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    return answer_of(all_within(args, count, MOST_DEPTH, msgpack_nests_deeper), "msgpack_within", args, count);
}

PyObject *call_msgpack_sound(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    return answer_of(all_sound(args, count, MOST_DEPTH, msgpack_sound), "msgpack_sound", args, count);
}

/* CBOR */

PyObject *call_cbor_sound(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t max_depth;
    Census census = {0, 0, 0};
    Verdict verdict = UNKNOWN;
    if (count == 3 && PyBytes_CheckExact(args[0]) && read_number(args[2], &max_depth) &&
        count_node(args[1], 0, 0, &census)) {
        verdict = census.deepest > max_depth || census.nan_key ? NO : YES;
    }
    return answer_of(verdict, "cbor_sound", args, count);
}

/* Messages to send. */

/* What is plain. For JSON neither bytes are, nor NaN and infinities, nor keys that are no str; ints are where they have 64
 * bits, or where it is known that they have. */
typedef enum { ANY_INT = 1, NO_JSON = 2 } Plain;

static inline int is_plain_int(PyObject *node, Plain what) {
    int overflow = 0;
    return PyLong_CheckExact(node) &&
           ((what & ANY_INT) || (PyLong_AsLongLongAndOverflow(node, &overflow), overflow == 0));
}

static int is_plain_container(PyObject *node, Py_ssize_t depth, Plain what);

/* Whether `node` is made of nothing but what arrives as itself, and nests no deeper than `depth`. */
static inline int is_plain_node(PyObject *node, Py_ssize_t depth, Plain what) {
    return PyUnicode_CheckExact(node) || is_plain_int(node, what) || node == Py_None || PyBool_Check(node) ||
           (PyFloat_CheckExact(node) ? (what & NO_JSON) || isfinite(PyFloat_AsDouble(node))
            : PyBytes_CheckExact(node) ? (what & NO_JSON) != 0
                                       : is_plain_container(node, depth, what));
}

static int is_plain_container(PyObject *node, Py_ssize_t depth, Plain what) {
    const Py_ssize_t size = count_items(node);
    if (depth == 0 || (size < 0 && !PyDict_CheckExact(node))) {
        return 0;
    }
    if (size < 0) {
        PyObject *key, *value;
        Py_ssize_t at = 0;
        while (PyDict_Next(node, &at, &key, &value)) {
            if (!(PyUnicode_CheckExact(key) ||
                  ((what & NO_JSON) && (PyBytes_CheckExact(key) || is_plain_int(key, what)))) ||
                !is_plain_node(value, depth - 1, what)) {
                return 0;
            }
        }
    }
    for (Py_ssize_t index = 0; index < size; index++) {
        if (!is_plain_node(item_of(node, index), depth - 1, what)) {
            return 0;
        }
    }
    return 1;
}

PyObject *call_is_plain(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t max_depth;
    Verdict verdict = UNKNOWN;
    if (count == 2 && read_number(args[1], &max_depth) && max_depth <= MOST_DEPTH) {
        verdict = is_plain_node(args[0], max_depth, NO_JSON) ? YES : NO;
    }
    return answer_of(verdict, "is_plain", args, count);
}

/* Whether `message` is what `decode` makes of `payload`, asked of both. */
static Verdict comes_back(PyObject *message, PyObject *payload, PyObject *decode) {
    PyObject *arrived = PyObject_CallFunctionObjArgs(decode, payload, NULL);
    if (arrived == NULL) {
        return BROKEN;
    }
    int same = PyObject_RichCompareBool(arrived, message, Py_EQ);
    if (same == 0) {
        PyObject *pair[2] = {message, arrived};
        PyObject *path = call_reference(HOME, "find_difference", pair, 2);
        same = path == NULL ? -1 : path == Py_None;
        Py_XDECREF(path);
    }
    Py_DECREF(arrived);
    return same < 0 ? BROKEN : same ? YES : NO;
}

static Verdict arrives(PyObject *messages, PyObject *payloads, PyObject *decode, int is_json, int max_depth) {
    Verdict verdict = YES;
    for (Py_ssize_t index = 0; verdict == YES && index < PyList_Size(messages); index++) {
        PyObject *message = PyList_GetItem(messages, index);
        Span payload;
        /* An int that was written is within MessagePack's 64 bits; in JSON it may have more digits than can be read. */
        if (is_plain_node(message, max_depth, is_json ? 0 : NO_JSON | ANY_INT)) {
            continue;
        }
        if (!read_payload(payloads, index, &payload)) {
            return UNKNOWN;
        }
        if (is_json ? json_nests_deeper(payload, max_depth) : msgpack_nests_deeper(payload, max_depth)) {
            return NO;
        }
        /* Python code may run from here on, and take them out of the lists. */
        PyObject *held = Py_NewRef(PyList_GetItem(payloads, index));
        Py_INCREF(message);
        verdict = comes_back(message, held, decode);
        Py_DECREF(message);
        Py_DECREF(held);
    }
    return verdict;
}

PyObject *call_arrives(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t max_depth;
    int is_json;
    Verdict verdict = UNKNOWN;
    if (count == 5 && PyList_CheckExact(args[0]) && PyList_CheckExact(args[1]) && read_flag(args[3], &is_json) &&
        read_number(args[4], &max_depth) && max_depth <= MOST_DEPTH && PyList_Size(args[0]) == PyList_Size(args[1])) {
        verdict = arrives(args[0], args[1], args[2], is_json, (int)max_depth);
    }
    return answer_of(verdict, "arrives", args, count);
}
