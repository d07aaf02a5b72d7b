/* What the benchmarks need compiled: the floor of decoding, and the load of the end-to-end cases.
 *
 * objects() makes the bytes objects of frames whose places are known, and does nothing else.
 * flood() sends a pattern of frames over some connections, keeps a window of bytes in flight, and compares every byte
 * that comes back. ping() sends one frame, waits until all of it is back, and notes how long that took, again and again.
 * All run the same way against every server, whatever it is written in.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

enum { MOST_CONNECTIONS = 1024, READ_BYTES = 1 << 18, STALLED_MS = 20000 };

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* objects(data, spans, first, last): spans is (begin, size) pairs of int64 in one bytes object. */
static PyObject *objects(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    (void)self;
    if (nargs != 4 || !PyBytes_CheckExact(args[0]) || !PyBytes_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "objects(data, spans, first, last)");
        return NULL;
    }
    const char *data = PyBytes_AS_STRING(args[0]);
    const int64_t *span = (const int64_t *)PyBytes_AS_STRING(args[1]);
    Py_ssize_t first = PyLong_AsSsize_t(args[2]), last = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred()) return NULL;
    if (first < 0 || last < first || last * 16 > PyBytes_GET_SIZE(args[1])) {
        PyErr_SetString(PyExc_ValueError, "no such spans");
        return NULL;
    }
    PyObject *list = PyList_New(last - first);
    if (list == NULL) return NULL;
    for (Py_ssize_t i = first; i < last; i++) {
        PyObject *one = PyBytes_FromStringAndSize(data + span[2 * i], span[2 * i + 1]);
        if (one == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, i - first, one);
    }
    return list;
}

static int same(const char *got, size_t count, const char *pattern, size_t size, uint64_t at) {
    while (count) {
        size_t from = at % size, part = size - from < count ? size - from : count;
        if (memcmp(got, pattern + from, part)) return 0;
        got += part, at += part, count -= part;
    }
    return 1;
}

/* flood(fds, pattern, frame, window, seconds): pattern is whole frames of `frame` bytes; returns (frames, wall ns). */
static PyObject *flood(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *list;
    Py_buffer pattern;
    Py_ssize_t frame, window;
    double seconds;
    if (!PyArg_ParseTuple(args, "O!y*nnd", &PyList_Type, &list, &pattern, &frame, &window, &seconds)) return NULL;
    static struct pollfd fds[MOST_CONNECTIONS];
    static uint64_t sent[MOST_CONNECTIONS], back[MOST_CONNECTIONS];
    static char scratch[READ_BYTES];
    Py_ssize_t n = PyList_GET_SIZE(list);
    if (n < 1 || n > MOST_CONNECTIONS || frame < 1 || pattern.len % frame || window < frame) {
        PyBuffer_Release(&pattern);
        PyErr_SetString(PyExc_ValueError, "no such load");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        fds[i].fd = (int)PyLong_AsLong(PyList_GET_ITEM(list, i));
        sent[i] = back[i] = 0;
    }
    const char *fault = NULL;
    uint64_t began = now_ns(), until = began + (uint64_t)(seconds * 1e9), all = 0;
    Py_ssize_t busy = n;
    int stopping = 0;
    Py_BEGIN_ALLOW_THREADS;
    while (busy && !fault) {
        if (!stopping && now_ns() >= until) stopping = 1;
        busy = 0;
        for (Py_ssize_t i = 0; i < n; i++) {
            uint64_t flying = sent[i] - back[i], room = flying < (uint64_t)window ? window - flying : 0;
            /* The last frame is sent whole; and half a window at a time, or each little read would cause a little send. */
            if (stopping) room = sent[i] % frame ? frame - sent[i] % frame : 0;
            else if (room < (uint64_t)window / 2) room = 0;
            while (room) {
                size_t from = sent[i] % pattern.len, part = pattern.len - from < room ? pattern.len - from : room;
                ssize_t count = send(fds[i].fd, (char *)pattern.buf + from, part, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (count < 0) {
                    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) fault = "the server broke the connection";
                    break;
                }
                sent[i] += count, room -= count;
            }
            fds[i].events = room ? POLLIN | POLLOUT : POLLIN;
            if (sent[i] != back[i] || !stopping) busy++;
        }
        if (!busy || fault) break;
        int ready = poll(fds, n, STALLED_MS);
        if (ready == 0) fault = "the server has stopped answering";
        for (Py_ssize_t i = 0; i < n && ready > 0; i++) {
            if (!(fds[i].revents & ~POLLOUT)) continue;
            ssize_t count = recv(fds[i].fd, scratch, READ_BYTES, MSG_DONTWAIT);
            if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) continue;
            if (count <= 0) fault = "the server closed the connection";
            else if (back[i] + count > sent[i] || !same(scratch, count, pattern.buf, pattern.len, back[i]))
                fault = "what came back is not what was sent";
            if (fault) break;
            back[i] += count;
        }
    }
    Py_END_ALLOW_THREADS;
    uint64_t wall = now_ns() - began;
    for (Py_ssize_t i = 0; i < n; i++) all += back[i];
    PyBuffer_Release(&pattern);
    if (fault) {
        PyErr_SetString(PyExc_RuntimeError, fault);
        return NULL;
    }
    return Py_BuildValue("KK", (unsigned long long)(all / frame), (unsigned long long)wall);
}

/* ping(fd, frame, count): a list of nanoseconds, one a round trip. */
static PyObject *ping(PyObject *self, PyObject *args) {
    (void)self;
    int fd;
    Py_buffer frame;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "iy*n", &fd, &frame, &count)) return NULL;
    static char scratch[READ_BYTES];
    PyObject *list = frame.len <= READ_BYTES ? PyList_New(count) : NULL;
    if (list == NULL) {
        PyBuffer_Release(&frame);
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the frame is too large");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t got = 0;
        uint64_t began = 0, ended = 0;
        int broken = 0;
        Py_BEGIN_ALLOW_THREADS;
        began = now_ns();
        broken = send(fd, frame.buf, frame.len, MSG_NOSIGNAL) != frame.len;
        while (!broken && got < frame.len) {
            ssize_t part = recv(fd, scratch + got, frame.len - got, 0);
            if (part <= 0) broken = 1;
            else got += part;
        }
        ended = now_ns();
        Py_END_ALLOW_THREADS;
        PyObject *took = broken || memcmp(scratch, frame.buf, frame.len) ? NULL : PyLong_FromUnsignedLongLong(ended - began);
        if (took == NULL) {
            Py_DECREF(list);
            PyBuffer_Release(&frame);
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, "the frame did not come back");
            return NULL;
        }
        PyList_SET_ITEM(list, i, took);
    }
    PyBuffer_Release(&frame);
    return list;
}

static PyMethodDef methods[] = {
    {"objects", (PyCFunction)(void (*)(void))objects, METH_FASTCALL, NULL},
    {"flood", flood, METH_VARARGS, NULL},
    {"ping", ping, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "framing_benchmarks_native", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_framing_benchmarks_native(void) { return PyModule_Create(&definition); }
