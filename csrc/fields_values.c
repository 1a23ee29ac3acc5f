/* fields_values.c: where a header's values are, and how they are read, set and made from arguments. */
#include "fields.h"

#define MAX_TEXTS 4096

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

/* ---- tables by class ---------------------------------------------------------------------------------- */

/* An attribute of a class costs 40 ns to find, which is too much for every header that is made. A table leaves the
 * cache before its class can go. */
#define TABLES_N 256
static struct table *tables[TABLES_N];

static size_t table_place(const PyTypeObject *cls)
{
    return ((uintptr_t)cls >> 4 ^ (uintptr_t)cls >> 12) % TABLES_N;
}

void fields_forget(struct table *table)
{
    size_t place = table_place(table->cached_for);
    if (tables[place] == table)
        tables[place] = NULL;
}

/* The table of a class, borrowed; NULL without an exception for a class without. */
struct table *fields_table_of(PyTypeObject *cls)
{
    struct table *table = tables[table_place(cls)];
    if (table && table->cls == cls)
        return table;
    PyObject *found = PyObject_GetAttr((PyObject *)cls, fields_name_table);
    if (!found) {
        PyErr_Clear();
        return NULL;
    }
    bool is_own = Py_TYPE(found) == fields_table_type && ((struct table *)found)->cls == cls;
    Py_DECREF(found); /* the class has it */
    if (!is_own)
        return NULL;
    tables[table_place(cls)] = (struct table *)found;
    return (struct table *)found;
}

/* ---- values ------------------------------------------------------------------------------------------- */

struct header *fields_new(PyTypeObject *cls)
{
    struct header *header = (struct header *)PyType_GenericAlloc(cls, 0);
    if (header) {
        header->table = fields_table_of(cls);
        Py_XINCREF(OBJECT(header->table));
    }
    return header;
}

static PyObject *header_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs)
{
    (void)args, (void)kwargs;
    return (PyObject *)fields_new(cls);
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
const uint8_t *fields_place(const struct header *header, const struct field *field, Py_ssize_t *len)
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
    const uint8_t *place = fields_place(header, field, &len);
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
    PyObject *function = fields_reference(header->table, "__init__");
    if (!function)
        return -1;
    PyObject *self = PyTuple_Pack(1, OBJECT(header));
    PyObject *all = self ? PySequence_Concat(self, args) : NULL;
    PyObject *result = all ? PyObject_Call(function, all, kwargs) : NULL;
    Py_XDECREF(self);
    Py_XDECREF(all);
    Py_DECREF(function);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* ---- attributes --------------------------------------------------------------------------------------- */

static struct header *header_with(PyObject *object, Py_ssize_t index)
{
    if (PyObject_TypeCheck(object, fields_header_type)) {
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
    bool is_cache = attribute->read && Py_TYPE(attribute->read) == fields_cache_type;
    PyObject *kept = header->values ? header->values[attribute->index] : NULL;
    if (is_cache && !kept && header->octets) {
        Py_ssize_t len;
        return cached((struct cache *)attribute->read,
                      fields_place(header, &header->table->fields[attribute->index], &len));
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

/* ---- types -------------------------------------------------------------------------------------------- */

static PyMethodDef header_methods[] = {
    {"_pack", FAST(fields_pack), "The header's octets in front of payload: _pack(payload, outer, upper)."},
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
PyType_Spec fields_header_spec = {
    "rawkit._fields.Fields", sizeof(struct header), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, header_slots};

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
PyType_Spec fields_attribute_spec = {
    "rawkit._fields.Attribute", sizeof(struct attribute), 0, Py_TPFLAGS_DEFAULT, attribute_slots};

static PyType_Slot cache_slots[] = {
    {Py_tp_new, cache_new},
    {Py_tp_dealloc, cache_dealloc},
    {Py_tp_doc, "Cache(read, size): what `read` gave for so many octets."},
    {0, NULL},
};
PyType_Spec fields_cache_spec = {"rawkit._fields.Cache", sizeof(struct cache), 0, Py_TPFLAGS_DEFAULT, cache_slots};
