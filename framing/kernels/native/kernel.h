/* What the files of the compiled twin share; framing/kernels/contract.py says what a kernel takes and gives.
 *
 * A kernel here knows the good path, over plain C numbers that cannot overflow. Whatever it will not judge (a frame that
 * breaks the rule, a number that is no C integer, an argument of a type that it does not expect) it leaves to the
 * reference of the same name, from the frame where it stopped. So there is one place where each fault is worded, and the two
 * cannot differ in it.
 *
 * A rule for all that is written here: an index is compared as a difference (`size - at < width`), never as a sum that might
 * overflow.
 */
#ifndef FRAMING_KERNEL_H
#define FRAMING_KERNEL_H

#define Py_LIMITED_API 0x030B0000 /* one binary for CPython 3.11 and later */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#pragma GCC visibility push(hidden) /* our names are no one else's */
#endif

/* A memo: None (count 0), a number (1) or a tuple of three (3). */
typedef struct {
    int count;
    Py_ssize_t value[3];
} Memo;

/* The options of each kernel, read once; bytes in them are borrowed from the caller's objects. */
typedef struct {
    const unsigned char *bytes;
    Py_ssize_t size;
} Span;

#define MOST_DELIMITERS 8 /* beyond these the reference searches */

typedef union {
    struct {
        Py_ssize_t width, counted, min_frame, max_frame;
        int little;
    } prefixed;
    struct {
        Py_ssize_t min_frame, max_frame;
    } varint;
    struct {
        Py_ssize_t width, offset, adjust, min_frame, max_frame; /* width 0 is a varint */
        Span prefix, trailer;
        int little;
    } field;
    struct {
        Py_ssize_t width;
    } fixed;
    struct {
        Py_ssize_t max_frame, max_fragments;
    } records;
    struct {
        Span trailer;
        Py_ssize_t max_digits, max_frame;
        int zero_allowed;
        unsigned char terminator;
    } decimal;
    struct {
        Py_ssize_t max_header, max_frame;
    } content_length;
    struct {
        Span delimiter;
        Py_ssize_t max_frame;
        int cr_allowed, skip;
    } delimited;
    struct {
        Span delimiters[MOST_DELIMITERS], mark;
        Py_ssize_t count, longest, max_frame;
        int skip_oversize, skip_corrupt;
    } marked;
    struct {
        Py_ssize_t width, max_frame; /* the width, in bits, is that of HDLC's check sequence */
        int skip;
    } stuffed;
} Options;

typedef struct {
    const unsigned char *data;
    Py_ssize_t size, start, limit;
    Memo memo;
    int mutable; /* the data is a bytearray, and so the payloads are */
} Input;

/* The payloads, in order. They become a list when their number is known: to grow one costs twice as much for each. */
#define FEW 128

typedef struct {
    PyObject **items; /* `few`, or memory of its own where they are more */
    Py_ssize_t count, room;
    PyObject *few[FEW];
} Payloads;

/* What a kernel answers. All is zero when the kernel is called; `fault`, and what is no C integer, are the reference's alone
 * to say. */
typedef struct {
    Payloads *payloads;
    Py_ssize_t count; /* of the payloads that this kernel delivered */
    Py_ssize_t frame; /* where the frame of the last of them begins */
    Py_ssize_t used, need, skipped;
    Memo memo;
    /* Where in the incomplete frame at `used` its payload will lie, where that is known; both zero where it is not. Such
     * a frame has `need` bytes, and is right if it ends in `trailer`. */
    Py_ssize_t begin, end;
    Span trailer;
    PyObject *fault, *large_need, *large_memo;
} Answer;

/* GIVEN: the answer is whole. JUDGE: the reference is to go on at `used`, with `memo`; what was found stays.
 * FAILED: an exception is set. */
typedef enum { FAILED = -1, GIVEN = 0, JUDGE = 1 } Outcome;

#define MOST_OPTIONS 12

typedef struct {
    const char *module, *name; /* where the reference is */
    Py_ssize_t options;        /* how many come before `data` */
    int (*read)(PyObject *const *args, Options *options); /* 0 where they are not as expected; sets no exception */
    Outcome (*split)(const Options *options, const Input *input, Answer *answer);
} Kernel;

/* kernel.c */
PyObject *call_kernel(const Kernel *kernel, PyObject *const *args, Py_ssize_t count);
PyObject *call_reference(const char *module, const char *name, PyObject *const *args, Py_ssize_t count);

PyObject *attribute(PyObject *object, const char *name);
PyObject *memo_object(const Memo *memo);
void begin_answer(Answer *answer, Payloads *payloads); /* `payloads` as they are; what has begun must be ended */
void end_answer(Answer *answer);

void begin_payloads(Payloads *payloads); /* what has begun must be ended */
void end_payloads(Payloads *payloads);
int grow_payloads(Payloads *payloads);         /* room for more of them; -1 with an exception */
PyObject *payloads_list(Payloads *payloads); /* which has none from then on; NULL with an exception */

/* Let the reference go on where a kernel said JUDGE, and put the two answers together; -1 with an exception. `args` are the
 * options as Python has them. `data` is what the kernel was called with; where it is NULL the reference gets a copy. */
int ask_reference(const Kernel *kernel, PyObject *const *args, PyObject *data, const Input *input, Answer *answer);

int read_number(PyObject *object, Py_ssize_t *number); /* exactly an int, from 0 on; 0 where it is none, with no exception set */
int read_signed(PyObject *object, Py_ssize_t *number);
int read_span(PyObject *object, Span *span); /* exactly bytes */
int read_flag(PyObject *object, int *flag);  /* exactly True or False */

/* Add the payload of the frame at `at`, taking the reference; -1 with an exception where it is NULL, or there is no memory. */
static inline int deliver_object(Answer *answer, Py_ssize_t at, PyObject *payload) {
    if (payload == NULL) {
        return -1;
    }
    Payloads *payloads = answer->payloads;
    if (payloads->count == payloads->room && grow_payloads(payloads) < 0) {
        Py_DECREF(payload);
        return -1;
    }
    payloads->items[payloads->count++] = payload;
    answer->count++;
    answer->frame = at;
    return 0;
}

static inline int deliver(const Input *input, Answer *answer, Py_ssize_t at, const unsigned char *bytes, Py_ssize_t size) {
    return deliver_object(answer, at,
                          input->mutable ? PyByteArray_FromStringAndSize((const char *)bytes, size)
                                         : PyBytes_FromStringAndSize((const char *)bytes, size));
}

/* The frame at `at` is not complete: `need` bytes of it, at the least, tell more. */
static inline Outcome incomplete(Answer *answer, Py_ssize_t at, Py_ssize_t need) {
    answer->used = at;
    answer->need = need;
    return GIVEN;
}

static inline Outcome judge(Answer *answer, Py_ssize_t at) {
    answer->used = at;
    return JUDGE;
}

/* The same of a frame whose payload will lie from `begin` to `end` of its `need` bytes. */
static inline Outcome promised(Answer *answer, Py_ssize_t at, Py_ssize_t need, Py_ssize_t begin, Py_ssize_t end) {
    answer->begin = begin;
    answer->end = end;
    return incomplete(answer, at, need);
}

/* As many payloads as were asked for: what is at `at` was not looked at. */
static inline Outcome stopped(Answer *answer, Py_ssize_t at) {
    answer->used = at;
    return GIVEN;
}

static inline Memo memo_of(Py_ssize_t number) {
    Memo memo = {1, {number, 0, 0}};
    return memo;
}

/* Memos that are no count of bytes; contract.py says what they mean. */
#define DISCARDING (-1)
#define HUNTING (-2)

/* How far the search of a frame that `memo` is about has come, or one of these; less than all where it tells no such thing. */
static inline Py_ssize_t scanned_of(Memo memo) {
    return memo.count == 0 ? 0 : memo.count == 1 ? memo.value[0] : PY_SSIZE_T_MIN;
}

/* The sum of two numbers from 0 on, or the largest number where that is less. */
static inline Py_ssize_t sum_of(Py_ssize_t one, Py_ssize_t other) {
    return one > PY_SSIZE_T_MAX - other ? PY_SSIZE_T_MAX : one + other;
}

/* `at + by`, or `size` where that is less; `at` is at most `size`. */
static inline Py_ssize_t within(Py_ssize_t at, Py_ssize_t by, Py_ssize_t size) {
    return by < size - at ? at + by : size;
}

static inline Py_ssize_t larger(Py_ssize_t one, Py_ssize_t other) {
    return one > other ? one : other;
}

/* checksums.c */
void prepare_checksums(void);
void check_sequence(int width, const unsigned char *bytes, Py_ssize_t size, unsigned char *sequence); /* of 0, 2, 4 bytes */

/* carry.c */
extern PyType_Spec carry_spec;
typedef struct Bound Bound;
void release_bound(Bound *bound);
/* `last` is what the last carry has, for the next one to share; NULL, and no exception, where the options do not fit. */
PyObject *new_carry(PyTypeObject *type, Bound **last, const Kernel *kernel, PyObject *args);

/* outbox.c */
extern PyType_Spec outbox_spec;

/* lengths.c */
extern const Kernel split_prefixed_kernel, split_varint_kernel, split_field_kernel, split_fixed_kernel, split_records_kernel;

/* decimals.c */
extern const Kernel split_decimal_kernel, split_content_length_kernel;

/* delimiters.c */
extern const Kernel split_delimited_kernel, split_marked_kernel;

/* unstuffing.c */
extern const Kernel split_cobs_kernel, split_slip_kernel, split_hdlc_kernel;

/* Every other function, as Python calls it: audit.c, checksums.c, joins.c and stuffing.c; of several arguments … */
#define FUNCTIONS(EACH)                                                                                      \
    EACH(arrives)                                                                                            \
    EACH(cbor_sound)                                                                                         \
    EACH(fcs)                                                                                                \
    EACH(is_plain)                                                                                           \
    EACH(join_cobs)                                                                                          \
    EACH(join_delimited)                                                                                     \
    EACH(join_hdlc)                                                                                          \
    EACH(join_prefixed)                                                                                      \
    EACH(join_slip)                                                                                          \
    EACH(join_varint)                                                                                        \
    EACH(json_sound)                                                                                         \
    EACH(json_within)                                                                                        \
    EACH(msgpack_sound)                                                                                      \
    EACH(msgpack_within)                                                                                     \
    EACH(stuff_hdlc)

/* … and of one. */
#define FUNCTIONS_OF_ONE(EACH)                                                                               \
    EACH(crc16_kermit)                                                                                       \
    EACH(crc16_modbus)                                                                                       \
    EACH(crc16_x25)                                                                                          \
    EACH(crc32c)                                                                                             \
    EACH(stuff_cobs)                                                                                         \
    EACH(stuff_slip)

#define DECLARE(name) PyObject *call_##name(PyObject *module, PyObject *const *args, Py_ssize_t count);
#define DECLARE_OF_ONE(name) PyObject *call_##name(PyObject *module, PyObject *argument);
FUNCTIONS(DECLARE)
FUNCTIONS_OF_ONE(DECLARE_OF_ONE)

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
