/* The module that Python loads: cffi's, and beside it the checksum functions, and sending one frame, as plain
 * builtins.
 *
 * They are the exception to the rule that only cffi knows of Python. Packets that are built one by one ask for
 * sums of 20 to 1500 octets, which take 5 to 40 ns; a call by way of cffi costs 150 ns more than a builtin's, most
 * of it for letting go of the interpreter lock and taking it again, and for counting the octets in Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "rk.h"

#undef PyInit__native
PyMODINIT_FUNC PyInit__native(void);
PyMODINIT_FUNC rk_cffi_module(void); /* cffi's PyInit__native, by the name that meson.build gives it */

#define LET_GO_LEN 65536 /* from here on other threads may run meanwhile */

/* An unsigned number of so many bits; false with an exception set for anything else. */
static bool get_number(PyObject *object, unsigned bits, uint32_t *out)
{
    unsigned long value = PyLong_AsUnsignedLong(object);
    if (value == (unsigned long)-1 && PyErr_Occurred())
        return false;
    if (value >> bits != 0) {
        PyErr_Format(PyExc_OverflowError, "%lu needs more than %u bits", value, bits);
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

/* The sum that `add` makes of start and the octets of any buffer, as a Python integer. */
static PyObject *over(uint32_t (*add)(uint32_t, const uint8_t *, size_t), uint32_t start, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) != 0)
        return NULL;
    uint32_t sum;
    if (view.len < LET_GO_LEN) {
        sum = add(start, view.buf, (size_t)view.len);
    } else {
        Py_BEGIN_ALLOW_THREADS
        sum = add(start, view.buf, (size_t)view.len);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLong(sum);
}

static uint32_t complement(uint32_t start, const uint8_t *data, size_t len)
{
    return ~rk_csum_add(start, data, len) & 0xffff;
}

static bool is_count(Py_ssize_t n, Py_ssize_t wanted)
{
    if (n != wanted)
        PyErr_Format(PyExc_TypeError, "takes %zd arguments, not %zd", wanted, n);
    return n == wanted;
}

static PyObject *checksum(PyObject *module, PyObject *data)
{
    (void)module;
    return over(complement, 0, data);
}

static PyObject *checksum_add(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    uint32_t start;
    return is_count(n, 2) && get_number(args[0], 32, &start) ? over(rk_csum_add, start, args[1]) : NULL;
}

static PyObject *crc32c(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    uint32_t start;
    return is_count(n, 2) && get_number(args[0], 32, &start) ? over(rk_crc32c, start, args[1]) : NULL;
}

static PyObject *checksum_update(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    uint32_t numbers[3];
    if (!is_count(n, 3))
        return NULL;
    for (int i = 0; i < 3; i++)
        if (!get_number(args[i], 16, &numbers[i]))
            return NULL;
    return PyLong_FromUnsignedLong(
        rk_csum_update((uint16_t)numbers[0], (uint16_t)numbers[1], (uint16_t)numbers[2]));
}

/* Send octets on the socket whose descriptor the first argument, a buffer of an int, holds, without waiting: 0, or
 * the error number. The descriptor is read here, with the interpreter lock held until it was used, so that a
 * thread that closes the socket can put -1 in its place. The lock stays held: it is about as expensive as the
 * call, which cannot block. */
static PyObject *send_now(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    Py_buffer place, data;
    if (!is_count(n, 2) || PyObject_GetBuffer(args[0], &place, PyBUF_SIMPLE) != 0)
        return NULL;
    int fd = -1;
    if ((size_t)place.len >= sizeof fd)
        memcpy(&fd, place.buf, sizeof fd);
    PyBuffer_Release(&place);
    if (PyObject_GetBuffer(args[1], &data, PyBUF_SIMPLE) != 0)
        return NULL;
    int error = send(fd, data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
    PyBuffer_Release(&data);
    return PyLong_FromLong(error);
}

/* The places of a header's fields, from a buffer of as many 32-bit numbers as struct rk_bulk has. */
static bool get_bulk(PyObject *object, struct rk_bulk *bulk)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) != 0)
        return false;
    bool fits = view.len == sizeof *bulk;
    if (fits)
        memcpy(bulk, view.buf, sizeof *bulk);
    PyBuffer_Release(&view);
    fits = fits && rk_bulk_check(bulk) == 0;
    if (!fits)
        PyErr_SetString(PyExc_ValueError, "these are no places of fields in a header");
    return fits;
}

/* The octets of the packet in row i of a list of (octets, flow, ECN codepoint), which all are borrowed. */
static bool get_row(PyObject *rows, Py_ssize_t i, char **octets, Py_ssize_t *len, PyObject **flow, PyObject **ecn)
{
    PyObject *row = PyList_GetItem(rows, i);
    if (!row)
        return false;
    if (!PyTuple_Check(row)) {
        PyErr_SetString(PyExc_TypeError, "rows are tuples");
        return false;
    }
    PyObject *packet = PyTuple_GetItem(row, 0);
    *flow = packet ? PyTuple_GetItem(row, 1) : NULL;
    *ecn = *flow ? PyTuple_GetItem(row, 2) : NULL;
    return *ecn && PyBytes_AsStringAndSize(packet, octets, len) == 0;
}

static PyObject *coalesce(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct rk_bulk bulk;
    if (!is_count(n, 3) || !get_bulk(args[2], &bulk))
        return NULL;
    if (!PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "rows are a list");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]), rows_n = PyList_Size(args[0]), end;
    if (PyErr_Occurred())
        return NULL;
    char *first, *next;
    Py_ssize_t first_len, next_len, octets = 0;
    PyObject *flow, *ecn, *next_flow, *next_ecn;
    if (!get_row(args[0], start, &first, &first_len, &flow, &ecn))
        return NULL;
    for (end = start + 1; end < rows_n; end++) {
        if (!get_row(args[0], end, &next, &next_len, &next_flow, &next_ecn))
            return NULL;
        /* Carriers give one object for one flow, and small integers are one object each. */
        if (next_flow != flow || next_ecn != ecn ||
            !rk_bulk_follows(&bulk, (const uint8_t *)first, (size_t)first_len, (uint64_t)octets,
                             (const uint8_t *)next, (size_t)next_len))
            break;
        if (octets == 0)
            octets = first_len - bulk.header_len;
        octets += next_len - bulk.header_len;
    }
    if (octets == 0)
        return Py_BuildValue("iy#", 1, "", (Py_ssize_t)0);
    PyObject *payload = PyBytes_FromStringAndSize(NULL, octets);
    char *to = payload ? PyBytes_AsString(payload) : NULL;
    if (!to)
        return NULL;
    for (Py_ssize_t i = start; i < end; i++) {
        if (!get_row(args[0], i, &next, &next_len, &next_flow, &next_ecn)) {
            Py_DECREF(payload);
            return NULL;
        }
        memcpy(to, next + bulk.header_len, (size_t)next_len - bulk.header_len);
        to += next_len - bulk.header_len;
    }
    return Py_BuildValue("nN", end - start, payload);
}

static PyObject *cut(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    struct rk_bulk bulk;
    if (!is_count(n, 4) || !get_bulk(args[3], &bulk))
        return NULL;
    char *header, *payload;
    Py_ssize_t header_len, payload_len, size = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred() || PyBytes_AsStringAndSize(args[0], &header, &header_len) != 0 ||
        PyBytes_AsStringAndSize(args[1], &payload, &payload_len) != 0)
        return NULL;
    if (size < 1 || header_len < (Py_ssize_t)bulk.header_len) {
        PyErr_SetString(PyExc_ValueError, "pieces of no size, or a header that is too short");
        return NULL;
    }
    PyObject *packets = PyList_New(0);
    for (Py_ssize_t at = 0; packets && at < payload_len; at += size) {
        Py_ssize_t piece = payload_len - at < size ? payload_len - at : size;
        PyObject *packet = PyBytes_FromStringAndSize(NULL, bulk.header_len + piece);
        char *out = packet ? PyBytes_AsString(packet) : NULL;
        int error = 0;
        if (out)
            error = rk_bulk_cut(&bulk, (const uint8_t *)header, (uint64_t)at, (const uint8_t *)payload + at,
                                (size_t)piece, (uint8_t *)out);
        if (error != 0)
            PyErr_SetString(PyExc_OverflowError, "a piece is longer than the length field can tell");
        if (!out || error != 0 || PyList_Append(packets, packet) != 0)
            Py_CLEAR(packets);
        Py_XDECREF(packet);
    }
    return packets;
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

/* The signatures are those that inspect and help() read. */
static PyMethodDef functions[] = {
    {"checksum", checksum, METH_O,
     "checksum($module, data, /)\n--\n\n"
     "The Internet checksum of `data` (RFC 1071): the complement of its sum as big-endian 16-bit words.\n\n"
     "An odd last octet is padded with zero on the right.\n\n"
     "Raises:\n"
     "    TypeError: `data` is no buffer.\n"
     "    BufferError: it is not contiguous."},
    {"checksum_add", FAST(checksum_add),
     "checksum_add($module, sum, data, /)\n--\n\n"
     "One's complement sum of `data`, not complemented, added to `sum` (0 or an earlier result).\n\n"
     "A block that is followed by another must have even length.\n\n"
     "Raises:\n"
     "    TypeError, BufferError: as `checksum`.\n"
     "    OverflowError: `sum` is negative or needs more than 32 bits."},
    {"checksum_update", FAST(checksum_update),
     "checksum_update($module, checksum, old_word, new_word, /)\n--\n\n"
     "The checksum after one 16-bit word changed from `old_word` to `new_word` (RFC 1624, equation 3).\n\n"
     "Equals a fresh calculation, except that data which is now all zero gives 0 where a fresh one gives\n"
     "0xffff.\n\n"
     "Raises:\n"
     "    OverflowError: an argument is negative or needs more than 16 bits."},
    {"crc32c", FAST(crc32c),
     "crc32c($module, crc, data, /)\n--\n\n"
     "CRC32c (RFC 9260 appendix A) of `data`, continuing from `crc` (0 at the start).\n\n"
     "Raises:\n"
     "    TypeError, BufferError: as `checksum`.\n"
     "    OverflowError: `crc` is negative or needs more than 32 bits."},
    {"coalesce", FAST(coalesce),
     "coalesce($module, rows, start, places, /)\n--\n\n"
     "How many of `rows`, tuples (octets, flow, ECN codepoint), from `start` on follow each other, and what\n"
     "stands behind their headers, one behind the other; (1, b\"\") when the second does not follow the first.\n\n"
     "Raises:\n"
     "    TypeError, IndexError, ValueError: the arguments make no sense."},
    {"cut", FAST(cut),
     "cut($module, header, payload, size, places, /)\n--\n\n"
     "Packets with `header` and `size` octets of `payload` each, seq, length and checksum filled in.\n\n"
     "Raises:\n"
     "    TypeError, ValueError, OverflowError: the arguments make no sense."},
    {"send_now", FAST(send_now),
     "send_now($module, place, octets, /)\n--\n\n"
     "Send octets on the socket whose descriptor `place`, a buffer of one C int, holds; do not wait.\n\n"
     "Returns 0, or the error number.\n\n"
     "Raises:\n"
     "    TypeError, BufferError: no such buffers."},
    {NULL, NULL, 0, NULL},
};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = rk_cffi_module();
    if (module && PyModule_AddFunctions(module, functions) != 0)
        Py_CLEAR(module);
    return module;
}
