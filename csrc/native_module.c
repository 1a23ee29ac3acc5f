/* The module that Python loads: cffi's, and beside it the checksum functions, and sending one frame, as plain
 * builtins.
 *
 * They are the exception to the rule that only cffi knows of Python. Packets that are built one by one ask for
 * sums of 20 to 1500 octets, which take 5 to 40 ns; a call by way of cffi costs 150 ns more than a builtin's, most
 * of it for letting go of the interpreter lock and taking it again, and for counting the octets in Python. */
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
