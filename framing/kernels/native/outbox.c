/* The outbox of a peer; framing/kernels/outbox.py is its reference, and says what it is for. */
#include "kernel.h"
#include "structmember.h"

enum { OVERHEAD = 16 };

typedef struct {
    PyObject_HEAD
    PyObject *payloads; /* a list, or None, or NULL */
    Py_ssize_t room;
    unsigned long thread;
} Outbox;

/* 1 where the payload was kept, 0 where there is no room for it, -1 with an exception. */
static int keep(Outbox *self, PyObject *payload) {
    const Py_ssize_t size = PyBytes_Size(payload);
    if (self->room < OVERHEAD || size > self->room - OVERHEAD || self->payloads == NULL ||
        !PyList_CheckExact(self->payloads)) {
        return 0;
    }
    if (PyList_Append(self->payloads, payload) < 0) {
        return -1;
    }
    self->room -= size + OVERHEAD;
    return 1;
}

static PyObject *outbox_send(PyObject *self, PyObject *message) {
    Outbox *outbox = (Outbox *)self;
    if (PyBytes_CheckExact(message) && outbox->thread == PyThread_get_thread_ident()) {
        const int kept = keep(outbox, message);
        if (kept != 0) {
            return kept < 0 ? NULL : Py_NewRef(Py_None);
        }
    }
    return PyObject_CallMethod(self, "_send", "(O)", message);
}

static PyObject *outbox_keep(PyObject *self, PyObject *payload) {
    const int kept = PyBytes_CheckExact(payload) ? keep((Outbox *)self, payload) : 0;
    return kept < 0 ? NULL : PyBool_FromLong(kept);
}

static int outbox_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Outbox *)self)->payloads);
    return 0;
}

static int outbox_clear(PyObject *self) {
    Py_CLEAR(((Outbox *)self)->payloads);
    return 0;
}

static void outbox_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    outbox_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"_payloads", T_OBJECT, offsetof(Outbox, payloads), 0, NULL},
    {"_room", T_PYSSIZET, offsetof(Outbox, room), 0, NULL},
    {"_thread", T_ULONG, offsetof(Outbox, thread), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods[] = {
    {"send", outbox_send, METH_O, PyDoc_STR("Keep the message, or have it sent.")},
    {"_keep", outbox_keep, METH_O, PyDoc_STR("Keep a payload, where it is one and there is room for it; whether it was kept.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, outbox_dealloc},
    {Py_tp_traverse, outbox_traverse},
    {Py_tp_clear, outbox_clear},
    {Py_tp_members, members},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec outbox_spec = {
    "framing.kernels._native.Outbox",
    sizeof(Outbox),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    slots,
};
