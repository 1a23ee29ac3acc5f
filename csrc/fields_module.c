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
#include "fields.h"

static PyTypeObject *attribute_type;
PyTypeObject *fields_header_type, *fields_table_type, *fields_cache_type;
PyObject *fields_auto, *fields_name_table, *fields_name_pseudo_header, *fields_name_number_of;

PyObject *fields_reference(struct table *table, const char *name)
{
    return PyObject_CallFunction(table->reference, "Os", table->cls, name);
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
    fields_forget(table);
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
        bool summed = field->rule == CHECKSUM ? field->width == 16 : field->rule != CRC32C || field->width == 32;
        bool last = field->kind != REST || (i == table->n - 1 && end == (uint64_t)table->fixed_len * 8);
        if (!spans || !whole || !summed || !last || end > (uint64_t)table->fixed_len * 8
            || (field->rule == HEADER_LEN && field->unit == 0))
            return false;
    }
    int32_t numbers[] = {table->length, table->bound_by, table->selector, table->opaque};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i] < -1 || numbers[i] >= table->n
            || (numbers[i] >= 0 && table->fields[numbers[i]].kind != NUMBER))
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
    if (!PyType_Check(cls) || !PyType_IsSubtype((PyTypeObject *)cls, fields_header_type))
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
        if (Py_TYPE(next) != fields_table_type)
            return PyErr_Format(PyExc_TypeError, "only tables can follow");
        table->followers[table->followers_n++] = (struct follower){value, (struct table *)Py_NewRef(next)};
    }
    Py_RETURN_NONE;
}

static PyMethodDef table_methods[] = {
    {"parse", FAST(fields_parse), "parse(octets, offset, end): the header, its end, the end of what it carries."},
    {"walk", FAST(fields_walk), "walk(octets, end, layers): add headers; where they end, and what they carry."},
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

/* ---- the module --------------------------------------------------------------------------------------- */

/* blank(cls): a header whose fields are still to be set. */
static PyObject *blank(PyObject *module, PyObject *cls)
{
    (void)module;
    if (!PyType_Check(cls) || !PyType_IsSubtype((PyTypeObject *)cls, fields_header_type))
        return PyErr_Format(PyExc_TypeError, "need a class of headers");
    return (PyObject *)fields_new((PyTypeObject *)cls);
}

/* use(AUTO): the object that stands for a value that is computed. */
static PyObject *use(PyObject *module, PyObject *object)
{
    (void)module;
    PyObject *old = fields_auto;
    fields_auto = Py_NewRef(object);
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"blank", blank, METH_O, "blank(cls): a header whose fields are still to be set."},
    {"build", FAST(fields_build), "build(layers, payload, trailer): octets, None where the reference must build."},
    {"join", FAST(fields_join), "join(options, family): their octets, None where the reference must make them."},
    {"use", use, METH_O, "use(AUTO): the object that stands for a value that is computed."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "rawkit._fields", "Where headers keep their values.", -1, functions,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__fields(void)
{
    PyObject *module = PyModule_Create(&definition);
    struct {
        PyType_Spec *spec;
        PyTypeObject **type;
        const char *name;
    } types[] = {
        {&fields_header_spec, &fields_header_type, "Fields"},
        {&table_spec, &fields_table_type, "Table"},
        {&fields_attribute_spec, &attribute_type, "Attribute"},
        {&fields_cache_spec, &fields_cache_type, "Cache"},
    };
    for (size_t i = 0; module && i < sizeof types / sizeof *types; i++) {
        PyObject *type = PyType_FromSpec(types[i].spec);
        *types[i].type = (PyTypeObject *)type;
        if (!type || PyModule_AddObjectRef(module, types[i].name, type) != 0)
            Py_CLEAR(module);
    }
    if (module) {
        fields_name_table = PyUnicode_InternFromString("_table");
        fields_name_pseudo_header = PyUnicode_InternFromString("pseudo_header");
        fields_name_number_of = PyUnicode_InternFromString("_number_of");
        fields_auto = Py_NewRef(Py_None);
        if (!fields_name_table || !fields_name_pseudo_header || !fields_name_number_of)
            Py_CLEAR(module);
    }
    return module;
}
