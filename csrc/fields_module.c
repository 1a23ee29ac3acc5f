/* The compiled half of rawkit.wire: where headers keep their values, and what is usual done without Python.
 *
 * A header that was parsed holds a reference to the octets and its place in them; a value is made when it is read,
 * and not kept. A header that was made, or changed, holds an array of values. `Table` is the field table of a class;
 * making, parsing and packing run by it.
 *
 * Only what is usual and right is done here. All else (another type, a value that does not fit, an unknown keyword,
 * damaged octets) is handed to the functions that rawkit/wire/generate.py makes of the same table, which are the
 * reference, work on these objects as on any, and say what is wrong.
 *
 * Everything runs with the interpreter lock held, over single packets. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <structmember.h>

#include "rk.h"
#include "rk_internal.h"

enum kind { NUMBER, OCTETS, REST }; /* REST: all octets up to the header's end */
enum rule { NONE, ZERO, HEADER_LEN, TOTAL_LEN, PAYLOAD_LEN, UPPER, ETHER_TYPE, CHECKSUM, CRC32C };
enum bound { NO_BOUND, TOTAL, PAYLOAD, IEEE8023 };

#define OBJECT(pointer) ((PyObject *)(pointer))
#define MAX_PARTS 64
#define MAX_PACKET (1 << 24) /* octets */
#define MAX_WALK 8 /* headers found in one go */
#define MAX_TEXTS 4096
#define LENGTH 65536 /* LENGTH of rawkit/wire/field.py */

struct field {
    PyObject *name;
    PyObject *default_value; /* NULL: the field must be given */
    PyObject *convert;       /* convert(value, where): what is kept for a value that was given */
    PyObject *where;         /* "IPv4.ttl" */
    PyObject *texts;         /* what is kept for texts met before, or NULL */
    uint32_t at, width;      /* bits from the header's start; width 0 for REST */
    uint8_t kind, rule;
    uint8_t unit;             /* of a header length, (value + bias) * unit octets */
    int8_t bias;
    uint16_t zero;            /* of CHECKSUM: sent where the sum comes out as 0 */
    uint8_t payload, pseudo;  /* of CHECKSUM: covers what follows, and a pseudo-header */
};

struct follower {
    unsigned long long number;
    struct table *table;
};

struct table {
    PyObject_HEAD
    PyTypeObject *cls;
    PyTypeObject *cached_for; /* as cls, for the cache's sake; not a reference */
    PyObject *reference;      /* reference(cls, name): a function of generate.py's */
    PyObject *numbers;        /* cls.numbers, NULL for classes without */
    PyObject *head;           /* cls._head: kind and length of an option that has always the same, or NULL */
    struct field *fields;
    struct follower *followers;
    Py_ssize_t n, followers_n;
    uint32_t fixed_len;
    int32_t rest, length, bound_by, selector, opaque; /* field numbers, -1 for none */
    uint8_t bound, ends_packet, positional, packs, has_pseudo, reroutes, complete;
};

/* A header; `values` is NULL until one is set, and so is each value that stands in `octets` alone. */
struct header {
    PyObject_HEAD
    struct table *table; /* NULL for a class that keeps its values in Python's slots */
    PyObject *octets;    /* bytes, or NULL for a header that was made */
    uint32_t at, len;
    PyObject **values;
};

/* Objects for octets: a call of `read` costs much more than finding what it gave the last time. */
#define CACHE_N 1024
struct cache {
    PyObject_HEAD
    PyObject *read;
    size_t size;
    struct {
        uint8_t key[16];
        PyObject *value;
    } entries[CACHE_N];
};

/* A field as an attribute. */
struct attribute {
    PyObject_HEAD
    PyObject *name, *read; /* read(octets): what is shown of them, a struct cache, or NULL */
    Py_ssize_t index;
    uint8_t converts;
};

static PyTypeObject *fields_type, *table_type, *cache_type, *attribute_type;
static PyObject *AUTO, *name_table, *name_pseudo_header, *name_number_of;

/* ---- numbers in octets -------------------------------------------------------------------------------- */

static uint64_t get_bits(const uint8_t *octets, uint32_t at, uint32_t width)
{
    const uint8_t *from = octets + at / 8, *to = octets + (at + width + 7) / 8;
    uint64_t value = 0;
    while (from < to)
        value = value << 8 | *from++;
    value >>= -(at + width) & 7;
    return width < 64 ? value & (((uint64_t)1 << width) - 1) : value;
}

static void put_bits(uint8_t *octets, uint32_t at, uint32_t width, uint64_t value)
{
    uint8_t *octet = octets + (at + width - 1) / 8;
    uint32_t shift = -(at + width) & 7;
    while (width > 0) {
        uint32_t room = 8 - shift, bits = width < room ? width : room;
        uint8_t mask = (uint8_t)(((1u << bits) - 1) << shift);
        *octet = (uint8_t)((*octet & ~mask) | ((value << shift) & mask));
        value >>= bits;
        width -= bits;
        shift = 0;
        octet--;
    }
}

/* ---- tables by class ---------------------------------------------------------------------------------- */

/* An attribute of a class costs 40 ns to find, which is too much for every header that is made. A table leaves the
 * cache before its class can go. */
#define TABLES_N 256
static struct table *tables[TABLES_N];

static size_t table_place(const PyTypeObject *cls)
{
    return ((uintptr_t)cls >> 4 ^ (uintptr_t)cls >> 12) % TABLES_N;
}

static void forget(struct table *table)
{
    size_t place = table_place(table->cached_for);
    if (tables[place] == table)
        tables[place] = NULL;
}

/* The table of a class, borrowed; NULL without an exception for a class without. */
static struct table *table_of(PyTypeObject *cls)
{
    struct table *table = tables[table_place(cls)];
    if (table && table->cls == cls)
        return table;
    PyObject *found = PyObject_GetAttr((PyObject *)cls, name_table);
    if (!found) {
        PyErr_Clear();
        return NULL;
    }
    bool is_own = Py_TYPE(found) == table_type && ((struct table *)found)->cls == cls;
    Py_DECREF(found); /* the class has it */
    if (!is_own)
        return NULL;
    tables[table_place(cls)] = (struct table *)found;
    return (struct table *)found;
}

static PyObject *reference(struct table *table, const char *name)
{
    return PyObject_CallFunction(table->reference, "Os", table->cls, name);
}

/* ---- values ------------------------------------------------------------------------------------------- */

static struct header *new_header(PyTypeObject *cls)
{
    struct header *header = (struct header *)PyType_GenericAlloc(cls, 0);
    if (header) {
        header->table = table_of(cls);
        Py_XINCREF(OBJECT(header->table));
    }
    return header;
}

static PyObject *header_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs)
{
    (void)args, (void)kwargs;
    return (PyObject *)new_header(cls);
}

static void header_dealloc(struct header *header)
{
    PyTypeObject *cls = Py_TYPE(OBJECT(header));
    if (header->values) {
        for (Py_ssize_t i = 0; i < header->table->n; i++)
            Py_XDECREF(header->values[i]);
        PyMem_Free(header->values);
    }
    Py_XDECREF(header->octets);
    Py_XDECREF(OBJECT(header->table));
    freefunc release = (freefunc)PyType_GetSlot(cls, Py_tp_free);
    release(header);
    Py_DECREF(OBJECT(cls));
}

static bool make_values(struct header *header)
{
    if (!header->values) {
        header->values = PyMem_Calloc((size_t)header->table->n + 1, sizeof *header->values);
        if (!header->values)
            PyErr_NoMemory();
    }
    return header->values;
}

/* Where the octets of field i of a parsed header are; call only for one that stands in its octets. */
static const uint8_t *place_of(const struct header *header, const struct field *field, Py_ssize_t *len)
{
    const uint8_t *octets = (const uint8_t *)PyBytes_AsString(header->octets) + header->at;
    uint32_t start = field->at / 8;
    *len = field->kind == REST ? header->len - start : field->width / 8;
    return octets + start;
}

/* What is kept in a field: a new reference. */
static PyObject *value_of(struct header *header, Py_ssize_t i)
{
    PyObject *value = header->values ? header->values[i] : NULL;
    if (value)
        return Py_NewRef(value);
    const struct field *field = &header->table->fields[i];
    if (!header->octets) {
        PyErr_SetObject(PyExc_AttributeError, field->name);
        return NULL;
    }
    Py_ssize_t len;
    const uint8_t *place = place_of(header, field, &len);
    if (field->kind == NUMBER)
        return PyLong_FromUnsignedLongLong(get_bits(place - field->at / 8, field->at, field->width));
    return PyBytes_FromStringAndSize((const char *)place, len);
}

/* What is to be kept for a value that was given: a new reference; NULL without an exception for what is not usual.
 * A list of options, and a text that was not met before, are converted here, and may raise. */
static PyObject *admit(const struct field *field, PyObject *value)
{
    if (value == field->default_value)
        return Py_NewRef(value); /* defaults were converted when the class was made */
    if (PyLong_CheckExact(value)) {
        if (field->kind != NUMBER)
            return NULL;
        unsigned long long number = PyLong_AsUnsignedLongLong(value);
        if (number == (unsigned long long)-1 && PyErr_Occurred()) {
            PyErr_Clear();
            return NULL;
        }
        return field->width == 64 || number >> field->width == 0 ? Py_NewRef(value) : NULL;
    }
    if (field->kind != NUMBER && PyBytes_CheckExact(value))
        return field->kind == REST || PyBytes_Size(value) == field->width / 8 ? Py_NewRef(value) : NULL;
    if (field->texts && PyUnicode_CheckExact(value)) {
        PyObject *known = PyDict_GetItemWithError(field->texts, value);
        if (known || PyErr_Occurred())
            return Py_XNewRef(known);
        PyObject *made = PyObject_CallFunctionObjArgs(field->convert, value, field->where, NULL);
        if (!made)
            return NULL;
        if (PyDict_Size(field->texts) >= MAX_TEXTS)
            PyDict_Clear(field->texts);
        if (PyDict_SetItem(field->texts, value, made) != 0)
            Py_CLEAR(made);
        return made;
    }
    if (field->kind == REST && (PyTuple_CheckExact(value) || PyList_CheckExact(value)))
        return PyObject_CallFunctionObjArgs(field->convert, value, field->where, NULL);
    return NULL;
}

/* The number of the field of this name, -1 without an exception when there is none. */
static Py_ssize_t find_field(const struct table *table, PyObject *name)
{
    for (Py_ssize_t i = 0; i < table->n; i++)
        if (table->fields[i].name == name)
            return i;
    for (Py_ssize_t i = 0; i < table->n; i++) /* a name that was not interned */
        if (PyUnicode_Compare(table->fields[i].name, name) == 0)
            return i;
    PyErr_Clear();
    return -1;
}

/* Whether all was usual; without it nothing, or an exception, was set. */
static bool init_usual(struct header *header, PyObject *args, PyObject *kwargs)
{
    const struct table *table = header->table;
    Py_ssize_t positional_n = PyTuple_Size(args);
    if (positional_n > (table->positional ? table->n : 0) || !make_values(header))
        return false;
    PyObject **values = header->values;
    for (Py_ssize_t i = 0; i < table->n; i++)
        Py_CLEAR(values[i]); /* made for the second time */
    for (Py_ssize_t i = 0; i < positional_n; i++)
        if (!(values[i] = admit(&table->fields[i], PyTuple_GetItem(args, i))))
            return false;
    Py_ssize_t at = 0;
    PyObject *name, *value;
    while (kwargs && PyDict_Next(kwargs, &at, &name, &value)) {
        Py_ssize_t i = find_field(table, name);
        if (i < 0 || values[i] || !(values[i] = admit(&table->fields[i], value)))
            return false;
    }
    for (Py_ssize_t i = 0; i < table->n; i++) {
        if (values[i])
            continue;
        if (!table->fields[i].default_value)
            return false;
        values[i] = Py_NewRef(table->fields[i].default_value);
    }
    return true;
}

static int header_init(struct header *header, PyObject *args, PyObject *kwargs)
{
    if (!header->table) {
        PyErr_SetString(PyExc_TypeError, "a class without a table needs an __init__ of its own");
        return -1;
    }
    Py_CLEAR(header->octets);
    if (init_usual(header, args, kwargs))
        return 0;
    /* The reference meets what is wrong in the fields' order, and says it. */
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Clear();
    PyObject *function = reference(header->table, "__init__");
    if (!function)
        return -1;
    PyObject *result = NULL, *self = PyTuple_Pack(1, OBJECT(header)), *all = self ? PySequence_Concat(self, args) : NULL;
    if (all)
        result = PyObject_Call(function, all, kwargs);
    Py_XDECREF(self);
    Py_XDECREF(all);
    Py_DECREF(function);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* ---- attributes --------------------------------------------------------------------------------------- */

static struct header *header_with(PyObject *object, Py_ssize_t index)
{
    if (PyObject_TypeCheck(object, fields_type)) {
        struct header *header = (struct header *)object;
        if (header->table && index < header->table->n)
            return header;
    }
    PyErr_SetString(PyExc_TypeError, "this object has no such field");
    return NULL;
}

static PyObject *cached(struct cache *cache, const uint8_t *octets)
{
    uint64_t mixed = 0;
    for (size_t i = 0; i < cache->size; i++)
        mixed = (mixed ^ octets[i]) * 0x9e3779b97f4a7c15;
    size_t place = (mixed >> 32) % CACHE_N;
    PyObject *value = cache->entries[place].value;
    if (value && memcmp(cache->entries[place].key, octets, cache->size) == 0)
        return Py_NewRef(value);
    value = PyObject_CallFunction(cache->read, "y#", octets, (Py_ssize_t)cache->size);
    if (!value)
        return NULL;
    PyObject *old = cache->entries[place].value;
    memcpy(cache->entries[place].key, octets, cache->size);
    cache->entries[place].value = Py_NewRef(value);
    Py_XDECREF(old);
    return value;
}

static PyObject *attribute_get(struct attribute *attribute, PyObject *object, PyObject *type)
{
    (void)type;
    if (!object || object == Py_None)
        return Py_NewRef(OBJECT(attribute));
    struct header *header = header_with(object, attribute->index);
    if (!header)
        return NULL;
    bool is_cache = attribute->read && Py_TYPE(attribute->read) == cache_type;
    PyObject *kept = header->values ? header->values[attribute->index] : NULL;
    if (is_cache && !kept && header->octets) {
        Py_ssize_t len;
        return cached((struct cache *)attribute->read,
                      place_of(header, &header->table->fields[attribute->index], &len));
    }
    PyObject *value = value_of(header, attribute->index);
    if (!value || !attribute->read || !PyBytes_CheckExact(value))
        return value;
    PyObject *shown;
    if (!is_cache)
        shown = PyObject_CallFunctionObjArgs(attribute->read, value, NULL);
    else if ((size_t)PyBytes_Size(value) == ((struct cache *)attribute->read)->size)
        shown = cached((struct cache *)attribute->read, (const uint8_t *)PyBytes_AsString(value));
    else
        shown = PyObject_CallFunctionObjArgs(((struct cache *)attribute->read)->read, value, NULL);
    Py_DECREF(value);
    return shown;
}

static int attribute_set(struct attribute *attribute, PyObject *object, PyObject *value)
{
    struct header *header = header_with(object, attribute->index);
    if (!header || !make_values(header))
        return -1;
    if (!value) {
        PyErr_SetString(PyExc_TypeError, "a header's field cannot be deleted");
        return -1;
    }
    PyObject *kept;
    if (attribute->converts) {
        const struct field *field = &header->table->fields[attribute->index];
        kept = admit(field, value);
        if (!kept && !PyErr_Occurred())
            kept = PyObject_CallFunctionObjArgs(field->convert, value, field->where, NULL);
        if (!kept)
            return -1;
    } else {
        kept = Py_NewRef(value);
    }
    PyObject *old = header->values[attribute->index];
    header->values[attribute->index] = kept;
    Py_XDECREF(old);
    return 0;
}

static PyObject *attribute_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    PyObject *name, *read;
    Py_ssize_t index;
    int converts;
    if (!PyArg_ParseTuple(args, "UnpO", &name, &index, &converts, &read))
        return NULL;
    struct attribute *attribute = (struct attribute *)PyType_GenericAlloc(cls, 0);
    if (!attribute)
        return NULL;
    attribute->name = Py_NewRef(name);
    attribute->index = index;
    attribute->converts = converts != 0;
    attribute->read = read == Py_None ? NULL : Py_NewRef(read);
    return (PyObject *)attribute;
}

static void attribute_dealloc(struct attribute *attribute)
{
    PyTypeObject *cls = Py_TYPE(OBJECT(attribute));
    Py_XDECREF(attribute->name);
    Py_XDECREF(attribute->read);
    ((freefunc)PyType_GetSlot(cls, Py_tp_free))(attribute);
    Py_DECREF(OBJECT(cls));
}

static PyObject *cache_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    PyObject *read;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "On", &read, &size))
        return NULL;
    if (size < 1 || size > 16)
        return PyErr_Format(PyExc_ValueError, "%zd octets do not fit", size);
    struct cache *cache = (struct cache *)PyType_GenericAlloc(cls, 0);
    if (!cache)
        return NULL;
    cache->read = Py_NewRef(read);
    cache->size = (size_t)size;
    return (PyObject *)cache;
}

static void cache_dealloc(struct cache *cache)
{
    PyTypeObject *cls = Py_TYPE(OBJECT(cache));
    Py_XDECREF(cache->read);
    for (size_t i = 0; i < CACHE_N; i++)
        Py_XDECREF(cache->entries[i].value);
    ((freefunc)PyType_GetSlot(cls, Py_tp_free))(cache);
    Py_DECREF(OBJECT(cls));
}

/* ---- packing ------------------------------------------------------------------------------------------ */

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
    if (!PyObject_TypeCheck(object, fields_type))
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
            part->rest = place_of(header, &table->fields[table->rest], &len);
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
        found = PyObject_CallMethodObjArgs((PyObject *)table->cls, name_number_of, upper, NULL);
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
        if (!is_sum || !part->header->values || part->header->values[i] != AUTO)
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
                pseudo = PyObject_CallMethodObjArgs(outer, name_pseudo_header, a, b, NULL);
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
        if (value == AUTO) {
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
    PyObject *function = table ? reference(table, "_pack") : NULL;
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
static PyObject *header_pack(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 3)
        return PyErr_Format(PyExc_TypeError, "_pack takes 3 arguments, not %zd", n);
    PyObject *payload = args[0], *outer = args[1], *octets = NULL;
    struct part part;
    bool is_usual = PyBytes_CheckExact(payload) && (outer == Py_None || PyObject_TypeCheck(outer, fields_type));
    if (is_usual && outer != Py_None && !((struct header *)outer)->table)
        is_usual = false;
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

/* build(layers, payload, trailer): the octets of a packet, None for one that the reference must build. */
static PyObject *build(PyObject *module, PyObject *const *args, Py_ssize_t n)
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

/* join(options, family): their octets one after the other, None where the reference must make them. */
static PyObject *join(PyObject *module, PyObject *const *args, Py_ssize_t n)
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

/* ---- parsing ------------------------------------------------------------------------------------------ */

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
static PyObject *table_parse(struct table *table, PyObject *const *args, Py_ssize_t n)
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
    PyObject *function = reference(table, "_parse");
    if (!function)
        return NULL;
    PyObject *result = PyObject_CallFunctionObjArgs(function, args[0], args[1], args[2], NULL);
    Py_DECREF(function);
    return result;
}

/* table.walk(octets, end, layers): as the functions of rawkit/wire/walk.py. */
static PyObject *table_walk(struct table *table, PyObject *const *args, Py_ssize_t n)
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

/* ---- tables ------------------------------------------------------------------------------------------- */

static int table_traverse(struct table *table, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(OBJECT(table)));
    Py_VISIT(OBJECT(table->cls));
    Py_VISIT(table->reference);
    Py_VISIT(table->numbers);
    Py_VISIT(table->head);
    for (Py_ssize_t i = 0; i < table->n; i++) {
        Py_VISIT(table->fields[i].default_value);
        Py_VISIT(table->fields[i].convert);
        Py_VISIT(table->fields[i].texts);
    }
    for (Py_ssize_t i = 0; i < table->followers_n; i++)
        Py_VISIT(OBJECT(table->followers[i].table));
    return 0;
}

static void drop_followers(struct table *table)
{
    struct follower *followers = table->followers;
    Py_ssize_t n = table->followers_n;
    table->followers = NULL;
    table->followers_n = 0;
    for (Py_ssize_t i = 0; i < n; i++)
        Py_DECREF(OBJECT(followers[i].table));
    PyMem_Free(followers);
}

static int table_clear(struct table *table)
{
    forget(table);
    drop_followers(table);
    Py_CLEAR(table->cls);
    Py_CLEAR(table->reference);
    Py_CLEAR(table->numbers);
    Py_CLEAR(table->head);
    return 0;
}

static void table_dealloc(struct table *table)
{
    PyTypeObject *type = Py_TYPE(OBJECT(table));
    PyObject_GC_UnTrack(table);
    table_clear(table);
    for (Py_ssize_t i = 0; i < table->n; i++) {
        struct field *field = &table->fields[i];
        Py_XDECREF(field->name);
        Py_XDECREF(field->default_value);
        Py_XDECREF(field->convert);
        Py_XDECREF(field->where);
        Py_XDECREF(field->texts);
    }
    PyMem_Free(table->fields);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(table);
    Py_DECREF(OBJECT(type));
}

static bool read_field(struct field *field, PyObject *row)
{
    PyObject *name, *default_value, *convert, *where, *texts;
    int required;
    short bias;
    if (!PyTuple_Check(row)) {
        PyErr_SetString(PyExc_TypeError, "a row of a table is a tuple");
        return false;
    }
    if (!PyArg_ParseTuple(row, "UOpOUO(IIbb)(bhHbb)", &name, &default_value, &required, &convert, &where, &texts,
                          &field->at, &field->width, &field->kind, &field->rule, &field->unit, &bias,
                          &field->zero, &field->payload, &field->pseudo))
        return false;
    field->bias = (int8_t)bias;
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    field->name = name;
    field->default_value = required ? NULL : Py_NewRef(default_value);
    field->convert = Py_NewRef(convert);
    field->where = Py_NewRef(where);
    field->texts = PyDict_Check(texts) ? Py_NewRef(texts) : NULL;
    return true;
}

/* Whether what the rows say of places keeps within the header's octets. */
static bool is_sound(const struct table *table)
{
    for (Py_ssize_t i = 0; i < table->n; i++) {
        const struct field *field = &table->fields[i];
        uint64_t end = (uint64_t)field->at + field->width;
        bool spans = field->kind != NUMBER || (field->width > 0 && field->width <= 64
                                               && (field->at % 8 + field->width + 7) / 8 <= 8);
        bool whole = field->kind == NUMBER || (field->at % 8 == 0 && field->width % 8 == 0);
        bool summed = (field->rule != CHECKSUM || field->width == 16) && (field->rule != CRC32C || field->width == 32);
        bool last = field->kind != REST || (i == table->n - 1 && end == (uint64_t)table->fixed_len * 8);
        if (!spans || !whole || !summed || !last || end > (uint64_t)table->fixed_len * 8
            || (field->rule == HEADER_LEN && field->unit == 0))
            return false;
    }
    int32_t numbers[] = {table->length, table->bound_by, table->selector, table->opaque};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i] < -1 || numbers[i] >= table->n || (numbers[i] >= 0 && table->fields[numbers[i]].kind != NUMBER))
            return false;
    if (table->length >= 0 && table->fields[table->length].unit == 0)
        return false;
    return table->rest >= -1 && table->rest < table->n;
}

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    PyObject *cls, *reference_of, *rows;
    uint32_t fixed_len;
    int length, bound_by, bound, ends_packet, positional, packs;
    if (!PyArg_ParseTuple(args, "OOO!I(iii)ppp", &cls, &reference_of, &PyTuple_Type, &rows, &fixed_len, &length,
                          &bound_by, &bound, &ends_packet, &positional, &packs))
        return NULL;
    if (!PyType_Check(cls) || !PyType_IsSubtype((PyTypeObject *)cls, fields_type))
        return PyErr_Format(PyExc_TypeError, "a table is for a class of headers");
    struct table *table = (struct table *)PyType_GenericAlloc(type, 0);
    if (!table)
        return NULL;
    table->cls = (PyTypeObject *)Py_NewRef(cls);
    table->cached_for = table->cls;
    table->reference = Py_NewRef(reference_of);
    table->fixed_len = fixed_len;
    table->length = length;
    table->bound_by = bound_by;
    table->bound = (uint8_t)bound;
    table->ends_packet = ends_packet != 0;
    table->positional = positional != 0;
    table->packs = packs != 0;
    table->rest = table->selector = table->opaque = -1;
    Py_ssize_t n = PyTuple_Size(rows);
    table->fields = PyMem_Calloc((size_t)n + 1, sizeof *table->fields);
    if (!table->fields) {
        Py_DECREF(OBJECT(table));
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (!read_field(&table->fields[i], PyTuple_GetItem(rows, i))) {
            Py_DECREF(OBJECT(table));
            return NULL;
        }
        table->n = i + 1;
        if (table->fields[i].kind == REST)
            table->rest = (int32_t)i;
    }
    if (!is_sound(table)) {
        Py_DECREF(OBJECT(table));
        return PyErr_Format(PyExc_ValueError, "a table whose fields are not where they can be");
    }
    return (PyObject *)table;
}

/* table.follow(selector, opaque, {number: table}): what `walk` goes on to. */
static PyObject *table_follow(struct table *table, PyObject *args)
{
    int selector, opaque;
    PyObject *followers, *number, *next;
    if (!PyArg_ParseTuple(args, "iiO!", &selector, &opaque, &PyDict_Type, &followers))
        return NULL;
    struct table copy = *table;
    copy.selector = selector;
    copy.opaque = opaque;
    if (!is_sound(&copy))
        return PyErr_Format(PyExc_ValueError, "no number of a field: %d, %d", selector, opaque);
    drop_followers(table);
    table->selector = selector;
    table->opaque = opaque;
    table->followers = PyMem_Calloc((size_t)PyDict_Size(followers) + 1, sizeof *table->followers);
    if (!table->followers)
        return PyErr_NoMemory();
    Py_ssize_t at = 0;
    while (PyDict_Next(followers, &at, &number, &next)) {
        unsigned long long value = PyLong_AsUnsignedLongLong(number);
        if (PyErr_Occurred())
            return NULL;
        if (Py_TYPE(next) != table_type)
            return PyErr_Format(PyExc_TypeError, "only tables can follow");
        table->followers[table->followers_n++] = (struct follower){value, (struct table *)Py_NewRef(next)};
    }
    Py_RETURN_NONE;
}

/* blank(cls): a header whose fields are still to be set. */
static PyObject *blank(PyObject *module, PyObject *cls)
{
    (void)module;
    if (!PyType_Check(cls) || !PyType_IsSubtype((PyTypeObject *)cls, fields_type))
        return PyErr_Format(PyExc_TypeError, "need a class of headers");
    return (PyObject *)new_header((PyTypeObject *)cls);
}

/* ---- the module --------------------------------------------------------------------------------------- */

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

static PyMethodDef header_methods[] = {
    {"_pack", FAST(header_pack), "The header's octets in front of payload: _pack(payload, outer, upper)."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot header_slots[] = {
    {Py_tp_new, header_new},
    {Py_tp_init, header_init},
    {Py_tp_dealloc, header_dealloc},
    {Py_tp_methods, header_methods},
    {Py_tp_doc, "Base of classes whose instances keep the values of fields."},
    {0, NULL},
};
/* No part of the cyclic garbage collection, which would take 16 octets a header: fields hold numbers and octets. */
static PyType_Spec header_spec = {
    "rawkit._fields.Fields", sizeof(struct header), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, header_slots};

static PyMethodDef table_methods[] = {
    {"parse", FAST(table_parse), "parse(octets, offset, end): the header, its end, the end of what it carries."},
    {"walk", FAST(table_walk), "walk(octets, end, layers): add headers; where they end, and what they carry."},
    {"follow", (PyCFunction)table_follow, METH_VARARGS, "follow(selector, opaque, {number: table})"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot table_slots[] = {
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_traverse, table_traverse},
    {Py_tp_clear, table_clear},
    {Py_tp_methods, table_methods},
    {Py_tp_doc, "The field table of a class."},
    {0, NULL},
};
static PyType_Spec table_spec = {
    "rawkit._fields.Table", sizeof(struct table), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, table_slots};

static PyMemberDef attribute_members[] = {
    {"__name__", T_OBJECT, offsetof(struct attribute, name), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot attribute_slots[] = {
    {Py_tp_new, attribute_new},
    {Py_tp_dealloc, attribute_dealloc},
    {Py_tp_descr_get, attribute_get},
    {Py_tp_descr_set, attribute_set},
    {Py_tp_members, attribute_members},
    {Py_tp_doc, "A field as an attribute."},
    {0, NULL},
};
static PyType_Spec attribute_spec = {
    "rawkit._fields.Attribute", sizeof(struct attribute), 0, Py_TPFLAGS_DEFAULT, attribute_slots};

static PyType_Slot cache_slots[] = {
    {Py_tp_new, cache_new},
    {Py_tp_dealloc, cache_dealloc},
    {Py_tp_doc, "Cache(read, size): what `read` gave for so many octets."},
    {0, NULL},
};
static PyType_Spec cache_spec = {"rawkit._fields.Cache", sizeof(struct cache), 0, Py_TPFLAGS_DEFAULT, cache_slots};

/* use(AUTO): the object that stands for a value that is computed. */
static PyObject *use(PyObject *module, PyObject *object)
{
    (void)module;
    PyObject *old = AUTO;
    AUTO = Py_NewRef(object);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"blank", blank, METH_O, "blank(cls): a header whose fields are still to be set."},
    {"build", FAST(build), "build(layers, payload, trailer): the octets, None where the reference must build."},
    {"join", FAST(join), "join(options, family): their octets, None where the reference must make them."},
    {"use", use, METH_O, "use(AUTO): the object that stands for a value that is computed."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "rawkit._fields", "Where headers keep their values.", -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__fields(void)
{
    PyObject *module = PyModule_Create(&definition);
    struct {
        PyType_Spec *spec;
        PyTypeObject **type;
        const char *name;
    } types[] = {
        {&header_spec, &fields_type, "Fields"},
        {&table_spec, &table_type, "Table"},
        {&attribute_spec, &attribute_type, "Attribute"},
        {&cache_spec, &cache_type, "Cache"},
    };
    for (size_t i = 0; module && i < sizeof types / sizeof *types; i++) {
        PyObject *type = PyType_FromSpec(types[i].spec);
        *types[i].type = (PyTypeObject *)type;
        if (!type || PyModule_AddObjectRef(module, types[i].name, type) != 0)
            Py_CLEAR(module);
    }
    if (module) {
        name_table = PyUnicode_InternFromString("_table");
        name_pseudo_header = PyUnicode_InternFromString("pseudo_header");
        name_number_of = PyUnicode_InternFromString("_number_of");
        AUTO = Py_NewRef(Py_None);
        if (!name_table || !name_pseudo_header || !name_number_of)
            Py_CLEAR(module);
    }
    return module;
}
