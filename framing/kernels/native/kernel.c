/* The way between Python and a kernel: arguments in, the six answers out, and the reference where a kernel will not judge. */
#include "kernel.h"

int read_signed(PyObject *object, Py_ssize_t *number) {
    if (!PyLong_CheckExact(object)) {
        return 0;
    }
    *number = PyLong_AsSsize_t(object);
    if (*number == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

int read_number(PyObject *object, Py_ssize_t *number) {
    return read_signed(object, number) && *number >= 0;
}

int read_span(PyObject *object, Span *span) {
    if (!PyBytes_CheckExact(object)) {
        return 0;
    }
    span->bytes = (const unsigned char *)PyBytes_AsString(object);
    span->size = PyBytes_Size(object);
    return 1;
}

int read_flag(PyObject *object, int *flag) {
    *flag = object == Py_True;
    return object == Py_True || object == Py_False;
}

static int read_memo(PyObject *object, Memo *memo) {
    memset(memo, 0, sizeof *memo);
    if (object == Py_None) {
        return 1;
    }
    if (PyLong_CheckExact(object)) {
        memo->count = 1;
        return read_signed(object, &memo->value[0]);
    }
    if (!PyTuple_CheckExact(object) || PyTuple_Size(object) != 3) {
        return 0;
    }
    memo->count = 3;
    for (Py_ssize_t index = 0; index < 3; index++) {
        if (!read_signed(PyTuple_GetItem(object, index), &memo->value[index])) {
            return 0;
        }
    }
    return 1;
}

PyObject *memo_object(const Memo *memo) {
    if (memo->count == 0) {
        return Py_NewRef(Py_None);
    }
    if (memo->count == 1) {
        return PyLong_FromSsize_t(memo->value[0]);
    }
    return Py_BuildValue("(nnn)", memo->value[0], memo->value[1], memo->value[2]);
}

PyObject *attribute(PyObject *object, const char *name) {
    /* Interned: a new string each time would be one entry more in the interpreter's cache of attributes. */
    PyObject *word = PyUnicode_InternFromString(name);
    PyObject *value = word != NULL ? PyObject_GetAttr(object, word) : NULL;
    Py_XDECREF(word);
    return value;
}

PyObject *call_reference(const char *module, const char *name, PyObject *const *args, Py_ssize_t count) {
    PyObject *home = PyImport_ImportModule(module);
    PyObject *function = home != NULL ? attribute(home, name) : NULL;
    PyObject *all = function != NULL ? PyTuple_New(count) : NULL;
    PyObject *answer = NULL;
    if (all != NULL) {
        for (Py_ssize_t index = 0; index < count; index++) {
            PyTuple_SetItem(all, index, Py_NewRef(args[index]));
        }
        answer = PyObject_Call(function, all, NULL);
    }
    Py_XDECREF(all);
    Py_XDECREF(function);
    Py_XDECREF(home);
    return answer;
}

void begin_payloads(Payloads *payloads) {
    payloads->items = payloads->few;
    payloads->count = 0;
    payloads->room = FEW;
}

void end_payloads(Payloads *payloads) {
    while (payloads->count > 0) {
        Py_DECREF(payloads->items[--payloads->count]);
    }
    if (payloads->items != payloads->few) {
        PyMem_Free(payloads->items);
    }
}

int grow_payloads(Payloads *payloads) {
    const int first = payloads->items == payloads->few;
    /* Each is an object of several words: eight times as many pointers overflow no number. */
    const size_t room = (size_t)payloads->room * 8;
    PyObject **items = PyMem_Realloc(first ? NULL : payloads->items, room * sizeof *items);
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (first) {
        memcpy(items, payloads->few, sizeof payloads->few);
    }
    payloads->items = items;
    payloads->room = (Py_ssize_t)room;
    return 0;
}

PyObject *payloads_list(Payloads *payloads) {
    const Py_ssize_t count = payloads->count;
    PyObject *list = PyList_New(count);
    if (list != NULL) {
        payloads->count = 0;
        for (Py_ssize_t index = 0; index < count; index++) {
            PyList_SetItem(list, index, payloads->items[index]);
        }
    }
    return list;
}

void begin_answer(Answer *answer, Payloads *payloads) {
    /* One by one: to clear all of it costs more, and this is done for each chunk. */
    answer->payloads = payloads;
    answer->count = answer->frame = answer->used = answer->need = answer->skipped = answer->begin = answer->end = 0;
    answer->memo.count = 0;
    answer->trailer.size = 0;
    answer->fault = answer->large_need = answer->large_memo = NULL;
}

void end_answer(Answer *answer) {
    Py_CLEAR(answer->fault);
    Py_CLEAR(answer->large_need);
    Py_CLEAR(answer->large_memo);
}

/* What the reference says of `data` from `start` on. */
static PyObject *ask(const Kernel *kernel, PyObject *const *args, PyObject *data, Py_ssize_t start, const Memo *memo,
                     Py_ssize_t limit) {
    PyObject *all[MOST_OPTIONS + 4];
    const Py_ssize_t options = kernel->options;
    PyObject *said = NULL;
    memcpy(all, args, (size_t)options * sizeof *args);
    all[options] = data;
    all[options + 1] = PyLong_FromSsize_t(start);
    all[options + 2] = memo_object(memo);
    all[options + 3] = PyLong_FromSsize_t(limit);
    if (all[options + 1] != NULL && all[options + 2] != NULL && all[options + 3] != NULL) {
        said = call_reference(kernel->module, kernel->name, all, options + 4);
    }
    for (Py_ssize_t index = options + 1; index < options + 4; index++) {
        Py_XDECREF(all[index]);
    }
    if (said != NULL && !(PyTuple_CheckExact(said) && PyTuple_Size(said) == 6)) {
        Py_CLEAR(said);
        PyErr_SetString(PyExc_SystemError, "a kernel answers with six things");
    }
    return said;
}

/* Add to the answer what the reference said of the rest. */
static int merge(Answer *answer, PyObject *said, Py_ssize_t shift) {
    Py_ssize_t skipped = 0;
    PyObject *found = PyTuple_GetItem(said, 0);
    PyObject *need = PyTuple_GetItem(said, 2);
    const Py_ssize_t count = PyList_Size(found);
    for (Py_ssize_t index = 0; index < count; index++) {
        if (deliver_object(answer, 0, Py_XNewRef(PyList_GetItem(found, index))) < 0) {
            return -1;
        }
    }
    if (!read_number(PyTuple_GetItem(said, 1), &answer->used) || !read_number(PyTuple_GetItem(said, 4), &skipped)) {
        PyErr_SetString(PyExc_SystemError, "the reference answers with what is no answer");
        return -1;
    }
    if (!read_memo(PyTuple_GetItem(said, 3), &answer->memo)) {
        answer->large_memo = Py_NewRef(PyTuple_GetItem(said, 3));
    }
    answer->used += shift;
    answer->skipped += skipped;
    if (!read_number(need, &answer->need)) {
        answer->need = PY_SSIZE_T_MAX;
        answer->large_need = Py_NewRef(need);
    }
    if (PyTuple_GetItem(said, 5) != Py_None) {
        answer->fault = Py_NewRef(PyTuple_GetItem(said, 5));
    }
    return 0;
}

int ask_reference(const Kernel *kernel, PyObject *const *args, PyObject *data, const Input *input, Answer *answer) {
    const Py_ssize_t from = answer->used;
    const Memo memo = answer->memo;
    const Py_ssize_t limit = input->limit > 0 ? input->limit - answer->count : input->limit;
    if (data != NULL) {
        PyObject *said = ask(kernel, args, data, from, &memo, limit);
        const int merged = said == NULL ? -1 : merge(answer, said, 0);
        Py_XDECREF(said);
        return merged;
    }
    PyObject *rest = PyBytes_FromStringAndSize((const char *)input->data + from, input->size - from);
    PyObject *said = rest != NULL ? ask(kernel, args, rest, 0, &memo, limit) : NULL;
    int merged = said == NULL ? -1 : merge(answer, said, from);
    if (merged == 0 && limit == 1 && answer->count > 0) {
        /* Without its last byte the frame is incomplete, and then the reference says where it begins. */
        PyObject *part = PySequence_GetSlice(rest, 0, answer->used - from - 1);
        PyObject *again = part != NULL ? ask(kernel, args, part, 0, &memo, 1) : NULL;
        merged = again != NULL && read_number(PyTuple_GetItem(again, 1), &answer->frame) ? 0 : -1;
        answer->frame += from;
        Py_XDECREF(again);
        Py_XDECREF(part);
    }
    Py_XDECREF(said);
    Py_XDECREF(rest);
    return merged;
}

/* The six answers; NULL with an exception where there is no memory. */
static PyObject *answer_object(const Answer *answer) {
    PyObject *items[6] = {
        payloads_list(answer->payloads),
        PyLong_FromSsize_t(answer->used),
        answer->large_need != NULL ? Py_NewRef(answer->large_need) : PyLong_FromSsize_t(answer->need),
        answer->large_memo != NULL ? Py_NewRef(answer->large_memo) : memo_object(&answer->memo),
        PyLong_FromSsize_t(answer->skipped),
        Py_NewRef(answer->fault != NULL ? answer->fault : Py_None),
    };
    PyObject *tuple = PyTuple_New(6);
    for (Py_ssize_t index = 0; index < 6; index++) {
        if (tuple != NULL && items[index] == NULL) {
            Py_CLEAR(tuple);
        }
        if (tuple != NULL) {
            PyTuple_SetItem(tuple, index, items[index]);
        } else {
            Py_XDECREF(items[index]);
        }
    }
    return tuple;
}

PyObject *call_kernel(const Kernel *kernel, PyObject *const *args, Py_ssize_t count) {
    const Py_ssize_t options = kernel->options;
    Options read;
    Input input;
    if (count != options + 4 || !kernel->read(args, &read) || !read_number(args[options + 1], &input.start) ||
        !read_memo(args[options + 2], &input.memo) || !read_number(args[options + 3], &input.limit)) {
        return call_reference(kernel->module, kernel->name, args, count);
    }
    PyObject *data = args[options];
    Py_buffer view = {.obj = NULL};
    input.size = -1;
    input.mutable = PyByteArray_Check(data);
    if (PyBytes_Check(data)) {
        input.data = (const unsigned char *)PyBytes_AsString(data);
        input.size = PyBytes_Size(data);
    } else if (input.mutable) {
        /* As long as it is borrowed it cannot be resized. */
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        input.data = view.buf;
        input.size = view.len;
    }
    PyObject *result = NULL;
    if (input.start > input.size) {
        result = call_reference(kernel->module, kernel->name, args, count);
    } else {
        Payloads payloads;
        Answer answer;
        begin_payloads(&payloads);
        begin_answer(&answer, &payloads);
        const Outcome outcome = kernel->split(&read, &input, &answer);
        if (outcome == GIVEN || (outcome == JUDGE && ask_reference(kernel, args, data, &input, &answer) == 0)) {
            result = answer_object(&answer);
        }
        end_answer(&answer);
        end_payloads(&payloads);
    }
    if (view.obj != NULL) {
        PyBuffer_Release(&view);
    }
    return result;
}
