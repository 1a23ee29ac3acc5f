/* fields_parse.c: from octets to headers, which keep a reference to them. */
#include "fields.h"

#define MAX_WALK 8 /* headers found in one go */
#define MAX_PACKET (1 << 24) /* octets */

struct extent {
    size_t header_end, payload_end;
};

/* Where a header at `offset` of `octets` ends, and what it carries; false for one that is damaged. */
static bool find_extent(const struct table *table, const uint8_t *octets, size_t offset, size_t end,
                        struct extent *found)
{
    if (end - offset < table->fixed_len)
        return false;
    const uint8_t *here = octets + offset;
    size_t header_len = table->fixed_len, room = end - offset, payload_end = end;
    bool fills = table->rest >= 0;
    if (table->length >= 0) {
        const struct field *field = &table->fields[table->length];
        uint64_t value = get_bits(here, field->at, field->width);
        int64_t claimed = value <= MAX_PACKET ? ((int64_t)value + field->bias) * field->unit : -1;
        if (claimed < table->fixed_len || (uint64_t)claimed > room)
            return false;
        header_len = (size_t)claimed;
    } else if (fills) {
        header_len = room;
    }
    if (table->bound_by >= 0) {
        const struct field *field = &table->fields[table->bound_by];
        uint64_t value = get_bits(here, field->at, field->width);
        size_t claimed = room;
        if (table->bound == TOTAL && value)
            claimed = value < room ? (size_t)value : room;
        if (table->bound == PAYLOAD || (table->bound == IEEE8023 && value < 1536))
            claimed = value < room - header_len ? header_len + (size_t)value : room;
        if (fills && table->length < 0 && table->bound == TOTAL)
            header_len = claimed < table->fixed_len ? 0 : claimed;
        if (claimed < header_len || header_len == 0)
            return false;
        payload_end = offset + claimed;
    } else if (table->ends_packet) {
        payload_end = offset + header_len;
    }
    found->header_end = offset + header_len;
    found->payload_end = payload_end;
    return true;
}

/* A header in bytes from `offset` on. */
static PyObject *view(struct table *table, PyObject *octets, size_t offset, size_t len)
{
    struct header *header = (struct header *)PyType_GenericAlloc(table->cls, 0);
    if (!header)
        return NULL;
    header->table = (struct table *)Py_NewRef(OBJECT(table));
    header->octets = Py_NewRef(octets);
    header->at = (uint32_t)offset;
    header->len = (uint32_t)len;
    return OBJECT(header);
}

/* The same with octets of its own, so that a header does not keep a whole file in memory. */
static PyObject *view_of_copy(struct table *table, PyObject *octets, size_t offset, size_t len)
{
    PyObject *copy = PyBytes_FromStringAndSize(PyBytes_AsString(octets) + offset, (Py_ssize_t)len);
    PyObject *header = copy ? view(table, copy, 0, len) : NULL;
    Py_XDECREF(copy);
    return header;
}

/* table.parse(octets, offset, end): what the class's _parse gives. */
PyObject *fields_parse(struct table *table, PyObject *const *args, Py_ssize_t n)
{
    if (n != 3)
        return PyErr_Format(PyExc_TypeError, "_parse takes 3 arguments, not %zd", n);
    Py_ssize_t offset = PyLong_AsSsize_t(args[1]), end = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    struct extent extent;
    if (PyBytes_CheckExact(args[0]) && offset >= 0 && end <= PyBytes_Size(args[0]) && end >= offset
        && find_extent(table, (const uint8_t *)PyBytes_AsString(args[0]), (size_t)offset, (size_t)end, &extent)) {
        size_t len = extent.header_end - (size_t)offset;
        bool is_packet = PyBytes_Size(args[0]) <= MAX_PACKET && len <= MAX_PACKET;
        PyObject *header = (is_packet ? view : view_of_copy)(table, args[0], (size_t)offset, len);
        if (!header)
            return NULL;
        return Py_BuildValue("Nnn", header, (Py_ssize_t)extent.header_end, (Py_ssize_t)extent.payload_end);
    }
    PyObject *function = fields_reference(table, "_parse");
    if (!function)
        return NULL;
    PyObject *result = PyObject_CallFunctionObjArgs(function, args[0], args[1], args[2], NULL);
    Py_DECREF(function);
    return result;
}

/* table.walk(octets, end, layers): as the functions of rawkit/wire/walk.py. */
PyObject *fields_walk(struct table *table, PyObject *const *args, Py_ssize_t n)
{
    if (n != 3 || !PyList_Check(args[2]))
        return PyErr_Format(PyExc_TypeError, "walk takes octets, their end, and a list");
    size_t offset = 0;
    Py_ssize_t given = PyLong_AsSsize_t(args[1]);
    if (given == -1 && PyErr_Occurred())
        return NULL;
    size_t end = (size_t)given;
    if (!PyBytes_CheckExact(args[0]) || given < 0 || given > PyBytes_Size(args[0]) || given > MAX_PACKET)
        return Py_BuildValue("nn", (Py_ssize_t)0, given);
    const uint8_t *octets = (const uint8_t *)PyBytes_AsString(args[0]);
    struct extent extent;
    for (int i = 0; table && i < MAX_WALK && find_extent(table, octets, offset, end, &extent); i++) {
        PyObject *header = view(table, args[0], offset, extent.header_end - offset);
        bool failed = !header || PyList_Append(args[2], header) != 0;
        Py_XDECREF(header);
        if (failed)
            return NULL;
        const uint8_t *here = octets + offset;
        offset = extent.header_end;
        end = extent.payload_end;
        const struct field *opaque = table->opaque >= 0 ? &table->fields[table->opaque] : NULL;
        if (table->selector < 0 || (opaque && get_bits(here, opaque->at, opaque->width)))
            break;
        const struct field *selector = &table->fields[table->selector];
        uint64_t number = get_bits(here, selector->at, selector->width);
        struct table *next = NULL;
        for (Py_ssize_t k = 0; k < table->followers_n && !next; k++)
            if (table->followers[k].number == number)
                next = table->followers[k].table;
        table = next;
    }
    return Py_BuildValue("nn", (Py_ssize_t)offset, (Py_ssize_t)end);
}
