/* The extension module framing.kernels._native: one function for each kernel that has a compiled twin. */
#include "kernel.h"

/* Every splitter: `<name>_kernel` is what kernel.h declares, `<name>` its function in Python. */
#define SPLITTERS(EACH)                                                                                      \
    EACH(split_prefixed)                                                                                     \
    EACH(split_varint)                                                                                       \
    EACH(split_field)                                                                                        \
    EACH(split_fixed)                                                                                        \
    EACH(split_records)                                                                                      \
    EACH(split_decimal)                                                                                      \
    EACH(split_content_length)                                                                               \
    EACH(split_delimited)                                                                                    \
    EACH(split_marked)                                                                                       \
    EACH(split_cobs)                                                                                         \
    EACH(split_slip)                                                                                         \
    EACH(split_hdlc)

#define FUNCTION(name)                                                                                       \
    static PyObject *call_##name(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {     \
        return call_kernel(&name##_kernel, args, count);                                                     \
    }
#define METHOD(name) {#name, (PyCFunction)(void (*)(void))call_##name, METH_FASTCALL, NULL},
#define METHOD_OF_ONE(name) {#name, call_##name, METH_O, NULL},

#define KERNEL(name) {(PyCFunction)(void (*)(void))call_##name, &name##_kernel},

SPLITTERS(FUNCTION)

static const struct {
    PyCFunction function;
    const Kernel *kernel;
} kernels[] = {SPLITTERS(KERNEL)};

static const Kernel *kernel_of(PyObject *function) {
    if (PyCFunction_Check(function)) {
        const PyCFunction called = PyCFunction_GetFunction(function);
        for (size_t index = 0; index < sizeof kernels / sizeof *kernels; index++) {
            if (kernels[index].function == called) {
                return kernels[index].kernel;
            }
        }
    }
    return NULL;
}

typedef struct {
    PyObject *carry, *partial; /* types: ours, and functools' */
    Bound *last;               /* the options of the last carry */
} State;

/* A compiled carry for a compiled kernel with its options bound by `functools.partial`; for anything else the reference. */
static PyObject *carry_for(PyObject *module, PyObject *split) {
    State *state = PyModule_GetState(module);
    if ((PyObject *)Py_TYPE(split) == state->partial) {
        PyObject *function = attribute(split, "func");
        PyObject *args = attribute(split, "args");
        PyObject *keywords = attribute(split, "keywords");
        PyObject *carry = NULL;
        if (function != NULL && args != NULL && keywords != NULL && kernel_of(function) != NULL &&
            PyObject_Size(keywords) == 0) {
            carry = new_carry((PyTypeObject *)state->carry, &state->last, kernel_of(function), args);
        }
        Py_XDECREF(function);
        Py_XDECREF(args);
        Py_XDECREF(keywords);
        if (carry != NULL || PyErr_Occurred()) {
            return carry;
        }
    }
    return call_reference("framing.kernels.carry", "carry_for", &split, 1);
}

static PyMethodDef methods[] = {
    SPLITTERS(METHOD) FUNCTIONS(METHOD) FUNCTIONS_OF_ONE(METHOD_OF_ONE){"carry_for", carry_for, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

/* A checksum of the files that this was compiled from, which setup.py gives; 0 where nobody did. */
#ifndef FRAMING_SOURCES
#define FRAMING_SOURCES 0
#endif

static int fill_module(PyObject *module) {
    State *state = PyModule_GetState(module);
    PyObject *sources = PyLong_FromUnsignedLong(FRAMING_SOURCES);
    const int stamped = sources != NULL ? PyModule_AddObjectRef(module, "SOURCES", sources) : -1;
    Py_XDECREF(sources);
    if (stamped < 0) {
        return -1;
    }
    prepare_checksums();
    PyObject *functools = PyImport_ImportModule("functools");
    state->carry = PyType_FromModuleAndSpec(module, &carry_spec, NULL);
    state->partial = functools != NULL ? attribute(functools, "partial") : NULL;
    Py_XDECREF(functools);
    PyObject *outbox = PyType_FromModuleAndSpec(module, &outbox_spec, NULL);
    const int added = outbox != NULL ? PyModule_AddObjectRef(module, "Outbox", outbox) : -1;
    Py_XDECREF(outbox);
    return state->carry != NULL && state->partial != NULL ? added : -1;
}

static int traverse_module(PyObject *module, visitproc visit, void *arg) {
    const State *state = PyModule_GetState(module);
    Py_VISIT(state->carry);
    Py_VISIT(state->partial);
    return 0;
}

static int clear_module(PyObject *module) {
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->carry);
    Py_CLEAR(state->partial);
    release_bound(state->last);
    state->last = NULL;
    return 0;
}

static void free_module(void *module) {
    clear_module(module);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill_module}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "framing.kernels._native",
    .m_doc = "The compiled twin of the kernels.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse_module,
    .m_clear = clear_module,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&definition);
}
