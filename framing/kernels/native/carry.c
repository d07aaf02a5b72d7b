/* The carry of an incomplete frame; framing/kernels/carry.py is its reference, and says what each method does.
 *
 * What is held is in one of two places. The `store` is a plain buffer, for headers and for frames whose end is searched
 * for. Where the kernel promises where the payload of the frame will lie, that payload is filled in the bytes object that
 * will be returned, the `landing`: none of its bytes is copied twice. Behind a landing the store has the frame's
 * other bytes, its header and then its trailer.
 *
 * A landing is made when half of the payload has come, until then it is in the store: memory follows what was received, and
 * not what was announced.
 */
#include "kernel.h"
#include "structmember.h"

enum { HEAD_BYTES = 16, SEARCHED_BYTES = 1 << 9, LENT_BYTES = 1 << 16, LEAST_ROOM = 64, KEPT_ROOM = 1 << 12, SMALL_PAYLOAD = 1 << 12 };

typedef struct {
    unsigned char *bytes;
    Py_ssize_t start, size, room; /* what is held begins at `start` */
} Store;

typedef struct {
    Py_ssize_t begin, end; /* where in the frame the payload is; both 0 where that is not known */
    Span trailer;
    PyObject *payload; /* a bytes object of that size, which nobody else has seen; NULL while too little has come */
    Py_ssize_t filled;
} Landing;

/* A kernel with its options, which all the carries of one wire have in common: they are most of what one would take. */
struct Bound {
    Py_ssize_t users;
    const Kernel *kernel;
    Options options;
    PyObject *args; /* the options as Python has them, whose bytes `options` borrows */
};

typedef struct {
    PyObject_HEAD
    Bound *bound;
    Store store;
    Landing landing;
    Memo memo;
    Py_ssize_t need;
    PyObject *large_need; /* where it is no C integer */
    long long offset;
    Py_ssize_t skipped;
    PyObject *fault, *head;
    char in_place, lending, busy;
    Py_ssize_t exports; /* of the room that was lent */
    Py_ssize_t lent;    /* how much of that room has not been filled */
    long long begun;    /* where in the stream the frame began of the payload that was taken singly */
    struct {
        Py_ssize_t at, count, skipped;
        long long offset;
        int known;
    } taken;
} Carry;

/* ---- the store */

static unsigned char nothing[1]; /* where an empty store begins: a pointer to no byte, and not NULL */

static unsigned char *store_bytes(const Store *store) {
    return store->bytes != NULL ? store->bytes + store->start : nothing;
}

#ifdef EXACT_ROOM /* for the sanitizers, which see a step beyond what is held only where the memory ends there */
static int has_room(const Store *store, Py_ssize_t count) {
    return store->room - store->start - store->size == count;
}

static Py_ssize_t with_spare(Py_ssize_t room) {
    return room;
}
#else
static int has_room(const Store *store, Py_ssize_t count) {
    return store->room - store->start - store->size >= count;
}

static Py_ssize_t with_spare(Py_ssize_t room) {
    room += room / 2;
    return room < LEAST_ROOM ? LEAST_ROOM : room;
}
#endif

/* Room for `count` bytes behind those held. */
static int store_reserve(Store *store, Py_ssize_t count) {
    if (!has_room(store, count) && store->start > store->room / 2 && store->room - store->size >= count) {
        memmove(store->bytes, store_bytes(store), (size_t)store->size);
        store->start = 0;
    }
    if (has_room(store, count)) {
        return 0;
    }
    if (count > PY_SSIZE_T_MAX / 4 - store->size - store->start) {
        PyErr_NoMemory();
        return -1;
    }
    const Py_ssize_t room = with_spare(store->start + store->size + count);
    unsigned char *bytes = PyMem_Realloc(store->bytes, (size_t)room);
    if (bytes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    store->bytes = bytes;
    store->room = room;
    return 0;
}

static int store_append(Store *store, const unsigned char *bytes, Py_ssize_t count) {
    if (count == 0) {
        return 0;
    }
    if (store_reserve(store, count) < 0) {
        return -1;
    }
    memcpy(store_bytes(store) + store->size, bytes, (size_t)count);
    store->size += count;
    return 0;
}

/* Forget the first `count` bytes held. */
static void store_drop(Store *store, Py_ssize_t count) {
    store->start += count;
    store->size -= count;
    if (store->size == 0) {
        store->start = 0;
        if (store->room > KEPT_ROOM) {
            PyMem_Free(store->bytes);
            store->bytes = NULL;
            store->room = 0;
        }
    }
}

/* ---- the landing */

static unsigned char *landing_bytes(const Landing *landing) {
    return (unsigned char *)PyBytes_AsString(landing->payload);
}

static Py_ssize_t landing_missing(const Landing *landing) {
    return landing->end - landing->begin - landing->filled;
}

static Py_ssize_t buffered(const Carry *self) {
    return self->store.size + (self->landing.payload != NULL ? self->landing.filled : 0);
}

/* Give the bytes that come behind those held to the landing and, behind the payload, to the store: how many were taken. */
static Py_ssize_t landing_take(Carry *self, const unsigned char *bytes, Py_ssize_t size) {
    Landing *landing = &self->landing;
    Py_ssize_t part = landing_missing(landing);
    if (part > size) {
        part = size;
    }
    if (part > 0) {
        memcpy(landing_bytes(landing) + landing->filled, bytes, (size_t)part);
        landing->filled += part;
    }
    if (landing_missing(landing) > 0) {
        return part;
    }
    Py_ssize_t rest = self->need - buffered(self);
    if (rest > size - part) {
        rest = size - part;
    }
    return store_append(&self->store, bytes + part, rest) < 0 ? -1 : part + rest;
}

static void landing_end(Carry *self) {
    Py_CLEAR(self->landing.payload);
    self->landing.begin = self->landing.end = self->landing.filled = 0;
}

/* Whether the whole frame ends as it has to. */
static int landing_is_right(const Carry *self) {
    const Landing *landing = &self->landing;
    const Span trailer = landing->trailer;
    if (trailer.size == 0) {
        return 1;
    }
    const unsigned char *last = NULL;
    if (trailer.size <= self->need - landing->end) {
        last = store_bytes(&self->store) + self->store.size - trailer.size;
    } else if (self->need == landing->end && trailer.size <= landing->filled) {
        last = landing_bytes(landing) + landing->filled - trailer.size;
    }
    return last != NULL && memcmp(last, trailer.bytes, (size_t)trailer.size) == 0;
}

/* Put what the landing has into its place in the store. */
static int flatten(Carry *self) {
    Store *store = &self->store;
    const Landing *landing = &self->landing;
    if (landing->payload != NULL && landing->filled > 0) {
        if (store_reserve(store, landing->filled) < 0) {
            return -1;
        }
        unsigned char *place = store_bytes(store) + landing->begin;
        memmove(place + landing->filled, place, (size_t)(store->size - landing->begin));
        memcpy(place, landing_bytes(landing), (size_t)landing->filled);
        store->size += landing->filled;
    }
    landing_end(self);
    return 0;
}

/* Begin to fill the payload that was promised, if with `coming` bytes more half of it will have come, or it is small. */
static int land_early(Carry *self, Py_ssize_t coming) {
    Landing *landing = &self->landing;
    Store *store = &self->store;
    const Py_ssize_t total = landing->end - landing->begin;
    const Py_ssize_t come = store->size - landing->begin;
    if (landing->end == 0 || landing->payload != NULL || come < 0 ||
        (total > SMALL_PAYLOAD && coming < total - come - come)) {
        return 0;
    }
    landing->payload = PyBytes_FromStringAndSize(NULL, total);
    if (landing->payload == NULL) {
        return -1;
    }
    landing->filled = come < total ? come : total;
    if (landing->filled > 0) {
        unsigned char *place = store_bytes(store) + landing->begin;
        memcpy(landing_bytes(landing), place, (size_t)landing->filled);
        memmove(place, place + landing->filled, (size_t)(come - landing->filled));
        store->size -= landing->filled;
    }
    return 0;
}

/* Keep in mind where the kernel promises the payload of the incomplete frame that is held. */
static void promise(Carry *self, const Answer *answer) {
    self->landing.begin = answer->begin;
    self->landing.end = answer->end;
    self->landing.trailer = answer->trailer;
}

/* Hold an incomplete frame, where nothing is held. */
static int hold(Carry *self, const unsigned char *bytes, Py_ssize_t size, const Answer *answer) {
    const Py_ssize_t begin = answer->begin;
    if (answer->end == 0 || size < begin || size == 0) {
        return store_append(&self->store, bytes, size);
    }
    if (store_append(&self->store, bytes, begin) < 0) {
        return -1;
    }
    promise(self, answer);
    if (land_early(self, size - begin) < 0) {
        return -1;
    }
    return self->landing.payload != NULL ? (landing_take(self, bytes + begin, size - begin) < 0 ? -1 : 0)
                                         : store_append(&self->store, bytes + begin, size - begin);
}

/* ---- what the kernel says of it */

static void set_need(Carry *self, Py_ssize_t need, PyObject *large) {
    self->need = need;
    if (self->large_need != NULL || large != NULL) {
        Py_CLEAR(self->large_need);
        self->large_need = Py_XNewRef(large);
    }
}

static void drop(Carry *self) {
    store_drop(&self->store, self->store.size);
    landing_end(self);
    set_need(self, 0, NULL);
    self->memo.count = 0;
    self->in_place = 0;
}

/* Take over what the answer says of the stream behind its payloads, which begins at `bytes + answer->used`. */
static int settle(Carry *self, Answer *answer, const unsigned char *bytes, Py_ssize_t size) {
    self->offset += answer->used;
    self->skipped += answer->skipped;
    self->memo = answer->memo;
    set_need(self, answer->need, answer->large_need);
    if (answer->fault == NULL) {
        return 0;
    }
    Py_ssize_t seen = PyLong_AsSsize_t(PyTuple_GetItem(answer->fault, 4));
    if (seen == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        seen = HEAD_BYTES;
    }
    seen = seen > HEAD_BYTES ? HEAD_BYTES : seen;
    seen = seen > size - answer->used ? size - answer->used : seen;
    PyObject *head = PyBytes_FromStringAndSize((const char *)bytes + answer->used, seen);
    if (head == NULL) {
        return -1;
    }
    Py_DECREF(self->head);
    self->head = head;
    Py_DECREF(self->fault);
    self->fault = Py_NewRef(answer->fault);
    drop(self);
    return 0;
}

static int run(Carry *self, const unsigned char *bytes, Py_ssize_t size, Py_ssize_t limit, Answer *answer) {
    Input input = {bytes, size, 0, limit, self->memo, 0};
    end_answer(answer);
    begin_answer(answer, answer->payloads);
    const Kernel *kernel = self->bound->kernel;
    const Outcome outcome = kernel->split(&self->bound->options, &input, answer);
    if (outcome != JUDGE) {
        return outcome == FAILED ? -1 : 0;
    }
    PyObject *options[MOST_OPTIONS];
    for (Py_ssize_t index = 0; index < kernel->options; index++) {
        options[index] = PyTuple_GetItem(self->bound->args, index);
    }
    if (ask_reference(kernel, options, NULL, &input, answer) < 0) {
        return -1;
    }
    if (answer->large_memo != NULL) {
        PyErr_SetString(PyExc_SystemError, "a memo of its own making is too large for a kernel");
        return -1;
    }
    return 0;
}

/* The frames of a chunk behind which nothing is held. */
static int take_chunk(Carry *self, const unsigned char *bytes, Py_ssize_t size, Answer *answer) {
    if (run(self, bytes, size, 0, answer) < 0) {
        return -1;
    }
    const Py_ssize_t used = answer->used;
    if (settle(self, answer, bytes, size) < 0) {
        return -1;
    }
    return answer->fault != NULL ? 0 : hold(self, bytes + used, size - used, answer);
}

/* The landing is complete: 1 where its payload was delivered, 0 where the kernel is to look at the frame; -1 for an error. */
static int land(Carry *self, Answer *answer) {
    if (!landing_is_right(self)) {
        return flatten(self);
    }
    if (deliver_object(answer, 0, Py_NewRef(self->landing.payload)) < 0) {
        return -1;
    }
    self->begun = self->offset;
    self->offset += self->need;
    store_drop(&self->store, self->store.size);
    landing_end(self);
    set_need(self, 0, NULL);
    self->memo.count = 0;
    return 1;
}

/* Run the kernel over the held bytes, for `limit` payloads: how many came, or -1. What is behind them stays. */
static Py_ssize_t take_store(Carry *self, Py_ssize_t limit, Answer *answer) {
    Store *store = &self->store;
    const long long offset = self->offset;
    landing_end(self);
    if (run(self, store_bytes(store), store->size, limit, answer) < 0 ||
        settle(self, answer, store_bytes(store), store->size) < 0) {
        return -1;
    }
    self->begun = offset + answer->frame;
    if (answer->fault == NULL) {
        store_drop(store, answer->used);
        promise(self, answer);
    }
    return answer->count;
}

/* Add to the held bytes no more of the chunk than the frame under way needs; take the rest where it is. */
static int finish(Carry *self, const unsigned char *bytes, Py_ssize_t size, Answer *answer) {
    Py_ssize_t step = SEARCHED_BYTES;
    Py_ssize_t at = 0;
    int found = 0;
    while (at < size && !found) {
        if (land_early(self, size - at) < 0) {
            return -1;
        }
        if (self->landing.payload != NULL) {
            const Py_ssize_t part = landing_take(self, bytes + at, size - at);
            if (part < 0) {
                return -1;
            }
            at += part;
            if (buffered(self) < self->need) {
                return 0;
            }
            found = land(self, answer);
            if (found < 0) {
                return -1;
            }
            if (found) {
                break;
            }
        } else {
            Py_ssize_t part = self->need - self->store.size;
            part = part > 1 ? part : 1;
            if (self->memo.count) {
                part = part > step ? part : step;
                step = step > PY_SSIZE_T_MAX / 4 ? step : step * 2;
            }
            part = part < size - at ? part : size - at;
            if (store_append(&self->store, bytes + at, part) < 0) {
                return -1;
            }
            at += part;
            if (self->store.size < self->need) {
                return 0;
            }
        }
        const Py_ssize_t count = take_store(self, 1, answer);
        if (count < 0) {
            return -1;
        }
        if (answer->fault != NULL) {
            return 0;
        }
        if (count > 0) {
            /* What is held behind the frame came out of the chunk: there it is taken from again. */
            at -= self->store.size;
            store_drop(&self->store, self->store.size);
            found = 1;
        }
    }
    if (!found) {
        return 0;
    }
    self->taken.known = 1;
    self->taken.at = at;
    self->taken.offset = self->offset;
    self->taken.count = 1;
    self->taken.skipped = self->skipped;
    return at < size ? take_chunk(self, bytes + at, size - at, answer) : 0;
}

/* Hold all of the chunk, then take `limit` payloads (0: all) out of what is held. */
static int take_held(Carry *self, const unsigned char *bytes, Py_ssize_t size, Py_ssize_t limit, Answer *answer) {
    Py_ssize_t at = 0;
    Py_ssize_t before = 0;
    if (land_early(self, size) < 0) {
        return -1;
    }
    if (self->landing.payload != NULL) {
        at = landing_take(self, bytes, size);
        if (at < 0) {
            return -1;
        }
        if (buffered(self) < self->need) {
            return 0;
        }
        before = land(self, answer);
        if (before < 0) {
            return -1;
        }
    }
    if (store_append(&self->store, bytes + at, size - at) < 0) {
        return -1;
    }
    if (self->store.size < self->need || (before && (limit == 1 || !self->store.size))) {
        return 0;
    }
    return take_store(self, limit > 0 ? limit - before : 0, answer) < 0 ? -1 : 0;
}

/* ---- methods */

/* The bytes of any contiguous buffer, or of a copy of one that is not; 0 with an exception where there is none. */
typedef struct {
    const unsigned char *bytes;
    Py_ssize_t size;
    PyObject *copy;
    Py_buffer view;
} Chunk;

static int open_chunk(PyObject *data, Chunk *chunk) {
    chunk->copy = NULL;
    chunk->view.obj = NULL;
    if (!PyBytes_Check(data)) {
        if (PyObject_GetBuffer(data, &chunk->view, PyBUF_SIMPLE) == 0) {
            chunk->bytes = chunk->view.len ? chunk->view.buf : nothing;
            chunk->size = chunk->view.len;
            return 1;
        }
        PyErr_Clear();
        PyObject *view = PyMemoryView_FromObject(data);
        chunk->copy = view != NULL ? PyBytes_FromObject(view) : NULL;
        Py_XDECREF(view);
        if (chunk->copy == NULL) {
            return 0;
        }
        data = chunk->copy;
    }
    chunk->bytes = (const unsigned char *)PyBytes_AsString(data);
    chunk->size = PyBytes_Size(data);
    return 1;
}

static void close_chunk(Chunk *chunk) {
    Py_XDECREF(chunk->copy);
    if (chunk->view.obj != NULL) {
        PyBuffer_Release(&chunk->view);
    }
}

/* Whether the held bytes may be moved: not while they are worked on (a reference that is asked is Python code, and may be
 * interrupted by another thread), nor while somebody has a view of the room that was lent. */
static int may_move(const Carry *self) {
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "a decoder serves one thread at a time");
        return 0;
    }
    if (self->exports) {
        PyErr_SetString(PyExc_BufferError, "a view of the buffer that was lent is still there: release it first");
        return 0;
    }
    return 1;
}

static int count_is(const char *name, Py_ssize_t count, Py_ssize_t least, Py_ssize_t most) {
    if (count < least || count > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd to %zd arguments, not %zd", name, least, most, count);
        return 0;
    }
    return 1;
}

static PyObject *carry_take(Carry *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t limit = 0;
    Chunk chunk;
    Payloads payloads;
    Answer answer;
    int failed = -1;
    if (!count_is("take", count, 1, 2)) {
        return NULL;
    }
    if (count == 2) {
        limit = PyNumber_AsSsize_t(args[1], NULL); /* a number that is too large becomes the largest */
        if (limit == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (!open_chunk(args[0], &chunk)) {
        return NULL;
    }
    begin_payloads(&payloads);
    begin_answer(&answer, &payloads);
    if (may_move(self)) {
        const Py_ssize_t held = buffered(self);
        self->busy = 1;
        self->in_place = 0;
        self->taken.known = 0;
        if (limit || (held && held >= self->need)) {
            failed = take_held(self, chunk.bytes, chunk.size, limit, &answer);
        } else if (held) {
            failed = finish(self, chunk.bytes, chunk.size, &answer);
        } else {
            self->taken.known = 1;
            self->taken.at = self->taken.count = 0;
            self->taken.offset = self->offset;
            self->taken.skipped = self->skipped;
            failed = take_chunk(self, chunk.bytes, chunk.size, &answer);
        }
        self->busy = 0;
    }
    close_chunk(&chunk);
    PyObject *list = failed < 0 ? NULL : payloads_list(&payloads);
    end_answer(&answer);
    end_payloads(&payloads);
    return list;
}

/* There is nothing here to be forgotten: `begun` and `taken` are numbers. */
static PyObject *carry_settle(Carry *self, PyObject *Py_UNUSED(none)) {
    return PyBool_FromLong(buffered(self) == 0 && self->memo.count == 0);
}

static PyObject *carry_keep(Carry *self, PyObject *data) {
    Chunk chunk;
    if (!open_chunk(data, &chunk)) {
        return NULL;
    }
    int failed = -1;
    if (may_move(self)) {
        self->in_place = 0;
        failed = flatten(self) < 0 || store_append(&self->store, chunk.bytes, chunk.size) < 0;
    }
    close_chunk(&chunk);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *carry_begun(Carry *self, PyObject *Py_UNUSED(none)) {
    return PyLong_FromLongLong(self->begun);
}

static PyObject *carry_go_back(Carry *self, PyObject *const *args, Py_ssize_t count) {
    Chunk chunk;
    if (!count_is("go_back", count, 3, 3)) {
        return NULL;
    }
    const long long offset = PyLong_AsLongLong(args[0]);
    const Py_ssize_t skipped = PyErr_Occurred() ? 0 : PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred() || !open_chunk(args[2], &chunk)) {
        return NULL;
    }
    int failed = -1;
    if (may_move(self)) {
        drop(self);
        self->offset = offset;
        self->skipped = skipped;
        Py_DECREF(self->fault);
        self->fault = Py_NewRef(Py_None);
        failed = store_append(&self->store, chunk.bytes, chunk.size);
    }
    close_chunk(&chunk);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *carry_drop(Carry *self, PyObject *Py_UNUSED(none)) {
    if (!may_move(self)) {
        return NULL;
    }
    drop(self);
    return Py_NewRef(Py_None);
}

static PyObject *carry_held(Carry *self, PyObject *Py_UNUSED(none)) {
    const Store *store = &self->store;
    const Landing *landing = &self->landing;
    PyObject *held = PyBytes_FromStringAndSize(NULL, buffered(self));
    if (held == NULL || buffered(self) == 0) {
        return held;
    }
    char *place = PyBytes_AsString(held);
    const Py_ssize_t before = landing->payload != NULL ? landing->begin : store->size;
    memcpy(place, store_bytes(store), (size_t)before);
    if (landing->payload != NULL) {
        memcpy(place + before, landing_bytes(landing), (size_t)landing->filled);
        memcpy(place + before + landing->filled, store_bytes(store) + before, (size_t)(store->size - before));
    }
    return held;
}

/* How much is lent of the room in the store: no more than is needed, nor than has come, or a read takes. */
static Py_ssize_t store_room(const Carry *self) {
    const Py_ssize_t had = self->store.size;
    const Py_ssize_t most = had > LENT_BYTES ? had : LENT_BYTES;
    const Py_ssize_t missing = self->need > had ? self->need - had : 0;
    return missing < most ? missing : most;
}

static PyObject *carry_lend(Carry *self, PyObject *Py_UNUSED(none)) {
    Landing *landing = &self->landing;
    if (!may_move(self) || land_early(self, store_room(self)) < 0) {
        return NULL;
    }
    if ((landing->payload == NULL || landing_missing(landing) == 0) &&
        (flatten(self) < 0 || store_reserve(&self->store, store_room(self)) < 0)) {
        return NULL;
    }
    self->in_place = self->lending = 1;
    PyObject *view = PyMemoryView_FromObject((PyObject *)self);
    self->lending = 0;
    return view;
}

static PyObject *carry_fill(Carry *self, PyObject *number) {
    Landing *landing = &self->landing;
    const Py_ssize_t count = PyLong_AsSsize_t(number);
    if (count == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (!self->in_place || count < 0 || count > self->lent) {
        PyErr_SetString(PyExc_ValueError, "more bytes than the room that was lent");
        return NULL;
    }
    self->lent -= count;
    if (landing->payload != NULL) {
        landing->filled += count;
        self->in_place = landing_missing(landing) > 0;
    } else {
        self->store.size += count;
        self->in_place = self->store.size < self->need;
    }
    return Py_NewRef(Py_None);
}

static int carry_getbuffer(Carry *self, Py_buffer *view, int flags) {
    if (!self->lending) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "a carry lends its room by lend()");
        return -1;
    }
    const Landing *landing = &self->landing;
    unsigned char *place;
    Py_ssize_t size;
    if (landing->payload != NULL) {
        place = landing_bytes(landing) + landing->filled;
        size = landing_missing(landing);
    } else {
        place = store_bytes(&self->store) + self->store.size;
        size = store_room(self);
    }
    /* What was in the room before is not wiped: of what is lent, only what a read has filled is ever looked at. */
    if (PyBuffer_FillInfo(view, (PyObject *)self, place, size, 0, flags) < 0) {
        return -1;
    }
    self->exports++;
    self->lent = size;
    return 0;
}

static void carry_releasebuffer(Carry *self, Py_buffer *Py_UNUSED(view)) {
    self->exports--;
}

void release_bound(Bound *bound) {
    if (bound != NULL && --bound->users == 0) {
        Py_DECREF(bound->args);
        PyMem_Free(bound);
    }
}

/* What has these options, from now on the caller's too; NULL where they do not fit, or with an exception. */
static Bound *bind_options(Bound **last, const Kernel *kernel, PyObject *args) {
    PyObject *items[MOST_OPTIONS];
    Options options;
    if (*last != NULL && (*last)->args == args && (*last)->kernel == kernel) {
        (*last)->users++;
        return *last;
    }
    if (PyTuple_Size(args) != kernel->options) {
        return NULL;
    }
    for (Py_ssize_t index = 0; index < kernel->options; index++) {
        items[index] = PyTuple_GetItem(args, index);
    }
    if (!kernel->read(items, &options)) {
        return NULL;
    }
    Bound *bound = PyMem_Malloc(sizeof *bound);
    if (bound == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    bound->users = 2; /* the caller, and who asks for the same next */
    bound->kernel = kernel;
    bound->options = options;
    bound->args = Py_NewRef(args);
    Bound *before = *last;
    *last = bound;
    release_bound(before);
    return bound;
}

static void carry_dealloc(Carry *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyMem_Free(self->store.bytes);
    Py_XDECREF(self->landing.payload);
    Py_XDECREF(self->large_need);
    Py_XDECREF(self->fault);
    Py_XDECREF(self->head);
    release_bound(self->bound);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *get_need(Carry *self, void *Py_UNUSED(closure)) {
    return self->large_need != NULL ? Py_NewRef(self->large_need) : PyLong_FromSsize_t(self->need);
}

static PyObject *get_memo(Carry *self, void *Py_UNUSED(closure)) {
    return memo_object(&self->memo);
}

static PyObject *get_buffered(Carry *self, void *Py_UNUSED(closure)) {
    return PyLong_FromSsize_t(buffered(self));
}

static PyObject *get_taken(Carry *self, void *Py_UNUSED(closure)) {
    if (!self->taken.known) {
        return Py_NewRef(Py_None);
    }
    return Py_BuildValue("(nLnn)", self->taken.at, self->taken.offset, self->taken.count, self->taken.skipped);
}

static PyGetSetDef getters[] = {
    {"need", (getter)get_need, NULL, NULL, NULL},
    {"memo", (getter)get_memo, NULL, NULL, NULL},
    {"buffered", (getter)get_buffered, NULL, NULL, NULL},
    {"taken", (getter)get_taken, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"fault", T_OBJECT_EX, offsetof(Carry, fault), READONLY, NULL},
    {"head", T_OBJECT_EX, offsetof(Carry, head), READONLY, NULL},
    {"in_place", T_BOOL, offsetof(Carry, in_place), READONLY, NULL},
    {"offset", T_LONGLONG, offsetof(Carry, offset), READONLY, NULL},
    {"skipped", T_PYSSIZET, offsetof(Carry, skipped), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL

static PyMethodDef methods[] = {
    {"take", FAST(carry_take), NULL},
    {"settle", (PyCFunction)carry_settle, METH_NOARGS, NULL},
    {"keep", (PyCFunction)carry_keep, METH_O, NULL},
    {"begun", (PyCFunction)carry_begun, METH_NOARGS, NULL},
    {"go_back", FAST(carry_go_back), NULL},
    {"drop", (PyCFunction)carry_drop, METH_NOARGS, NULL},
    {"held", (PyCFunction)carry_held, METH_NOARGS, NULL},
    {"lend", (PyCFunction)carry_lend, METH_NOARGS, NULL},
    {"fill", (PyCFunction)carry_fill, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, carry_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, getters},
    {Py_bf_getbuffer, carry_getbuffer},
    {Py_bf_releasebuffer, carry_releasebuffer},
    {0, NULL},
};

PyType_Spec carry_spec = {
    "framing.kernels._native.Carry",
    sizeof(Carry),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};

PyObject *new_carry(PyTypeObject *type, Bound **last, const Kernel *kernel, PyObject *args) {
    Bound *bound = bind_options(last, kernel, args);
    if (bound == NULL) {
        return NULL;
    }
    Carry *self = (Carry *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self == NULL) {
        release_bound(bound);
    } else {
        self->bound = bound;
        self->fault = Py_NewRef(Py_None);
        self->head = PyBytes_FromStringAndSize(NULL, 0);
    }
    return (PyObject *)self;
}
