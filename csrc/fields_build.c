/* fields_build.c: from headers to octets, lengths, numbers and sums included. */
#include "fields.h"

#define MAX_PARTS 64
#define LENGTH 65536 /* LENGTH of rawkit/wire/field.py */

/* A header that is being packed. Its last field is kept from when lengths were added up: Python may run, and change
 * the header, before the octets are written. */
struct part {
    struct header *header;
    PyObject *kept;      /* what `rest` points into */
    const uint8_t *rest;
    size_t rest_len, len;
};

static void drop_part(struct part *part)
{
    Py_CLEAR(part->header);
    Py_CLEAR(part->kept);
}

/* What the table says of neighbours, which was not known yet when the class was made. */
static void complete(struct table *table)
{
    PyObject *cls = (PyObject *)table->cls, *value;
    if ((value = PyObject_GetAttrString(cls, "numbers")) && PyDict_Check(value))
        table->numbers = Py_NewRef(value);
    Py_XDECREF(value);
    if ((value = PyObject_GetAttrString(cls, "_has_pseudo_header")))
        table->has_pseudo = PyObject_IsTrue(value) == 1;
    Py_XDECREF(value);
    if ((value = PyObject_GetAttrString(cls, "reroutes")))
        table->reroutes = PyObject_IsTrue(value) == 1;
    Py_XDECREF(value);
    if ((value = PyObject_GetAttrString(cls, "_head")) && PyBytes_CheckExact(value) && PyBytes_Size(value) > 0)
        table->head = Py_NewRef(value);
    Py_XDECREF(value);
    PyErr_Clear(); /* options have no neighbours, headers no head */
    table->complete = 1;
}

/* False, without an exception, for a header that cannot be packed here. */
static bool prepare(struct part *part, PyObject *object)
{
    *part = (struct part){0};
    if (!PyObject_TypeCheck(object, fields_header_type))
        return false;
    struct header *header = (struct header *)object;
    struct table *table = header->table;
    if (!table || !table->packs || !(header->values || header->octets))
        return false;
    if (!table->complete)
        complete(table);
    part->len = table->fixed_len;
    if (table->rest >= 0) {
        PyObject *rest = header->values ? header->values[table->rest] : NULL;
        if (rest) {
            if (!PyBytes_CheckExact(rest))
                return false;
            part->kept = Py_NewRef(rest);
            part->rest = (const uint8_t *)PyBytes_AsString(rest);
            part->rest_len = (size_t)PyBytes_Size(rest);
        } else if (header->octets) {
            Py_ssize_t len;
            part->kept = Py_NewRef(header->octets);
            part->rest = fields_place(header, &table->fields[table->rest], &len);
            part->rest_len = (size_t)len;
        } else {
            return false;
        }
        part->len += part->rest_len;
    }
    part->header = (struct header *)Py_NewRef(object);
    return true;
}

/* The number of `upper` over this class; false without an exception where the reference must say. */
static bool number_of(const struct table *table, PyObject *upper, uint64_t *number)
{
    PyObject *found = table->numbers ? PyDict_GetItemWithError(table->numbers, upper) : NULL;
    if (found)
        Py_INCREF(found);
    else
        found = PyObject_CallMethodObjArgs((PyObject *)table->cls, fields_name_number_of, upper, NULL);
    *number = found && PyLong_Check(found) ? PyLong_AsUnsignedLongLong(found) : (uint64_t)-1;
    Py_XDECREF(found);
    PyErr_Clear();
    return *number != (uint64_t)-1;
}

/* The value of a field left at AUTO; a sum is put in later. */
static bool compute(const struct table *table, const struct field *field, size_t header_len, size_t payload_len,
                    PyObject *upper, uint64_t *value)
{
    switch ((enum rule)field->rule) {
    case NONE:
        return false;
    case ZERO:
    case CHECKSUM:
    case CRC32C:
        *value = 0;
        return true;
    case HEADER_LEN:
        *value = (header_len + field->unit - 1) / field->unit - (uint64_t)(int64_t)field->bias;
        return true;
    case TOTAL_LEN:
        *value = header_len + payload_len;
        return true;
    case PAYLOAD_LEN:
        *value = payload_len;
        return true;
    case UPPER:
        return number_of(table, upper, value);
    case ETHER_TYPE:
        if (!number_of(table, upper, value))
            return false;
        if (*value == LENGTH)
            *value = payload_len;
        return true;
    }
    return false;
}

/* Put the sums left at AUTO into the header at `out`, in front of its payload. */
static bool sum_up(const struct part *part, uint8_t *out, size_t payload_len, PyObject *outer)
{
    const struct table *table = part->header->table;
    for (Py_ssize_t i = 0; i < table->n; i++) {
        const struct field *field = &table->fields[i];
        bool is_sum = field->rule == CHECKSUM || field->rule == CRC32C;
        if (!is_sum || !part->header->values || part->header->values[i] != fields_auto)
            continue;
        size_t len = part->len + (field->payload ? payload_len : 0);
        if (field->rule == CRC32C) {
            uint32_t crc = rk_crc32c(0, out, len);
            put_bits(out, field->at, 32, __builtin_bswap32(crc));
            continue;
        }
        uint32_t sum = 0;
        if (field->pseudo) {
            if (outer == Py_None)
                continue; /* without addresses there is nothing to compute: the field stays 0 */
            uint64_t number;
            struct table *below = ((struct header *)outer)->table;
            if (!number_of(below, (PyObject *)table->cls, &number))
                return false;
            PyObject *a = PyLong_FromUnsignedLongLong(number), *b = PyLong_FromSize_t(len), *pseudo = NULL;
            if (a && b)
                pseudo = PyObject_CallMethodObjArgs(outer, fields_name_pseudo_header, a, b, NULL);
            Py_XDECREF(a);
            Py_XDECREF(b);
            bool is_usual = pseudo && PyBytes_CheckExact(pseudo) && PyBytes_Size(pseudo) % 2 == 0;
            if (is_usual)
                sum = rk_csum_add(0, (const uint8_t *)PyBytes_AsString(pseudo), (size_t)PyBytes_Size(pseudo));
            Py_XDECREF(pseudo);
            PyErr_Clear();
            if (!is_usual)
                return false;
        }
        sum = ~rk_csum_add(sum, out, len) & 0xffff;
        put_bits(out, field->at, 16, sum ? sum : field->zero);
    }
    return true;
}

/* Write the header to `out`, which the payload follows; false without an exception for what is not usual. */
static bool write_part(const struct part *part, uint8_t *out, size_t payload_len, PyObject *outer, PyObject *upper)
{
    struct header *header = part->header;
    const struct table *table = header->table;
    if (header->octets)
        memcpy(out, PyBytes_AsString(header->octets) + header->at, table->fixed_len);
    else
        memset(out, 0, table->fixed_len);
    if (part->rest_len)
        memcpy(out + table->fixed_len, part->rest, part->rest_len);
    if (!header->values)
        return true;
    bool sums = false;
    for (Py_ssize_t i = 0; i < table->n; i++) {
        const struct field *field = &table->fields[i];
        PyObject *value = header->values[i];
        if (!value && !header->octets)
            return false;
        if (!value || field->kind == REST)
            continue;
        uint64_t number;
        if (value == fields_auto) {
            if (!compute(table, field, part->len, payload_len, upper, &number))
                return false;
            sums |= field->rule == CHECKSUM || field->rule == CRC32C;
            if (field->kind == OCTETS) {
                memset(out + field->at / 8, 0, field->width / 8);
                continue;
            }
        } else if (field->kind == OCTETS) {
            if (!PyBytes_CheckExact(value) || PyBytes_Size(value) != field->width / 8)
                return false;
            memcpy(out + field->at / 8, PyBytes_AsString(value), field->width / 8);
            continue;
        } else {
            if (!PyLong_Check(value))
                return false;
            number = PyLong_AsUnsignedLongLong(value);
            if (number == (uint64_t)-1 && PyErr_Occurred()) {
                PyErr_Clear();
                return false;
            }
        }
        if (field->width < 64 && number >> field->width)
            return false;
        put_bits(out, field->at, field->width, number);
    }
    return !sums || sum_up(part, out, payload_len, outer);
}

static PyObject *pack_by_reference(PyObject *self, PyObject *const *args)
{
    struct table *table = ((struct header *)self)->table;
    PyObject *function = table ? fields_reference(table, "_pack") : NULL;
    if (!function) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a class without a table needs a _pack of its own");
        return NULL;
    }
    PyObject *octets = PyObject_CallFunctionObjArgs(function, self, args[0], args[1], args[2], NULL);
    Py_DECREF(function);
    return octets;
}

/* header._pack(payload, outer, upper) */
PyObject *fields_pack(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 3)
        return PyErr_Format(PyExc_TypeError, "_pack takes 3 arguments, not %zd", n);
    PyObject *payload = args[0], *outer = args[1], *octets = NULL;
    struct part part;
    bool outer_has_table = PyObject_TypeCheck(outer, fields_header_type) && ((struct header *)outer)->table;
    bool is_usual = PyBytes_CheckExact(payload) && (outer == Py_None || outer_has_table);
    if (!is_usual || !prepare(&part, self))
        return pack_by_reference(self, args);
    size_t payload_len = (size_t)PyBytes_Size(payload);
    PyObject *whole = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(part.len + payload_len));
    if (whole) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(whole);
        memcpy(out + part.len, PyBytes_AsString(payload), payload_len);
        if (!write_part(&part, out, payload_len, outer, args[2]))
            octets = pack_by_reference(self, args);
        else if (payload_len)
            octets = PyBytes_FromStringAndSize((const char *)out, (Py_ssize_t)part.len);
        else
            octets = Py_NewRef(whole);
        Py_DECREF(whole);
    }
    drop_part(&part);
    return octets;
}

/* fields_build(layers, payload, trailer): the octets of a packet, None for one that the reference must build. */
PyObject *fields_build(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    if (n != 3 || !PyList_Check(args[0]) || !PyBytes_Check(args[1]) || !PyBytes_Check(args[2]))
        return PyErr_Format(PyExc_TypeError, "build takes a list of headers, payload and trailer");
    struct part parts[MAX_PARTS];
    Py_ssize_t layers_n = PyList_Size(args[0]), done = 0;
    if (layers_n > MAX_PARTS)
        Py_RETURN_NONE;
    size_t payload_len = (size_t)PyBytes_Size(args[1]), trailer_len = (size_t)PyBytes_Size(args[2]), len = 0;
    PyObject *whole = NULL;
    for (; done < layers_n; done++) {
        if (!prepare(&parts[done], PyList_GetItem(args[0], done)))
            goto out;
        if (parts[done].header->table->reroutes) {
            done++;
            goto out;
        }
        len += parts[done].len;
    }
    whole = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(len + payload_len + trailer_len));
    if (!whole)
        goto out;
    uint8_t *at = (uint8_t *)PyBytes_AsString(whole) + len;
    memcpy(at, PyBytes_AsString(args[1]), payload_len);
    memcpy(at + payload_len, PyBytes_AsString(args[2]), trailer_len);
    PyObject *upper = Py_None;
    for (Py_ssize_t i = layers_n - 1; i >= 0; i--) {
        PyObject *outer = Py_None;
        for (Py_ssize_t below = i - 1; below >= 0 && outer == Py_None; below--)
            if (parts[below].header->table->has_pseudo)
                outer = (PyObject *)parts[below].header;
        at -= parts[i].len;
        if (!write_part(&parts[i], at, payload_len, outer, upper)) {
            Py_CLEAR(whole);
            break;
        }
        payload_len += parts[i].len;
        upper = (PyObject *)Py_TYPE(OBJECT(parts[i].header));
    }
out:
    for (Py_ssize_t i = 0; i < done; i++)
        drop_part(&parts[i]);
    if (!whole && !PyErr_Occurred())
        Py_RETURN_NONE;
    return whole;
}

/* fields_join(options, family): their octets one after the other, None where the reference must make them. */
PyObject *fields_join(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    if (n != 2 || !PyTuple_Check(args[0]) || !PyType_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "join takes a tuple of options and their family");
    uint8_t octets[256], *at = octets;
    for (Py_ssize_t i = 0; i < PyTuple_Size(args[0]); i++) {
        PyObject *option = PyTuple_GetItem(args[0], i);
        struct part part;
        if (!PyObject_TypeCheck(option, (PyTypeObject *)args[1]) || !prepare(&part, option))
            Py_RETURN_NONE;
        PyObject *head = part.header->table->head;
        size_t head_len = head ? (size_t)PyBytes_Size(head) : 0;
        bool fits = head && head_len + part.len <= sizeof octets - (size_t)(at - octets)
                    && write_part(&part, at + head_len, 0, Py_None, Py_None);
        if (fits) {
            memcpy(at, PyBytes_AsString(head), head_len);
            at += head_len + part.len;
        }
        drop_part(&part);
        if (!fits)
            Py_RETURN_NONE;
    }
    return PyBytes_FromStringAndSize((const char *)octets, at - octets);
}
