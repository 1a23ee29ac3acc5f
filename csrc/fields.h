/* fields.h: what the files of rawkit._fields share; see fields_module.c. */
#ifndef FIELDS_H
#define FIELDS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <string.h>
#include <structmember.h>

#include "rk.h"
#include "rk_internal.h"

#define OBJECT(pointer) ((PyObject *)(pointer))
#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL

/* The numbers of these are written down in rawkit/wire/storage.py too. */
enum kind { NUMBER, OCTETS, REST }; /* REST: all octets up to the header's end */
enum rule { NONE, ZERO, HEADER_LEN, TOTAL_LEN, PAYLOAD_LEN, UPPER, ETHER_TYPE, CHECKSUM, CRC32C };
enum bound { NO_BOUND, TOTAL, PAYLOAD, IEEE8023 };

struct field {
    PyObject *name;
    PyObject *default_value; /* NULL: the field must be given */
    PyObject *convert;       /* convert(value, where): what is kept for a value that was given */
    PyObject *where;         /* "IPv4.ttl" */
    PyObject *texts;         /* what is kept for texts met before, or NULL */
    uint32_t at, width;      /* bits from the header's start; width 0 for REST */
    uint8_t kind, rule;
    uint8_t unit;            /* of a header length, (value + bias) * unit octets */
    int8_t bias;
    uint16_t zero;           /* of CHECKSUM: sent where the sum comes out as 0 */
    uint8_t payload, pseudo; /* of CHECKSUM: covers what follows, and a pseudo-header */
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

/* The types, AUTO of rawkit/wire/field.py, and names that are looked up often (fields_module.c). */
extern PyTypeObject *fields_header_type, *fields_table_type, *fields_cache_type;
extern PyObject *fields_auto, *fields_name_table, *fields_name_pseudo_header, *fields_name_number_of;

/* A function that generate.py makes of the table: "__init__", "_parse" or "_pack". */
PyObject *fields_reference(struct table *table, const char *name);

/* Headers and their attributes (fields_values.c). */
extern PyType_Spec fields_header_spec, fields_attribute_spec, fields_cache_spec;

/* A header whose fields are still to be set. */
struct header *fields_new(PyTypeObject *cls);

/* Where the octets of a field of a parsed header are; for one that stands in its octets. */
const uint8_t *fields_place(const struct header *header, const struct field *field, Py_ssize_t *len);

/* No table may be found any more under its class. */
void fields_forget(struct table *table);

/* From headers to octets (fields_build.c): header._pack, build and join. */
PyObject *fields_pack(PyObject *self, PyObject *const *args, Py_ssize_t n);
PyObject *fields_build(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *fields_join(PyObject *module, PyObject *const *args, Py_ssize_t n);

/* From octets to headers (fields_parse.c): table.parse and table.walk. */
PyObject *fields_parse(struct table *table, PyObject *const *args, Py_ssize_t n);
PyObject *fields_walk(struct table *table, PyObject *const *args, Py_ssize_t n);

/* ---- numbers in octets -------------------------------------------------------------------------------- */

static inline uint64_t get_bits(const uint8_t *octets, uint32_t at, uint32_t width)
{
    const uint8_t *from = octets + at / 8, *to = octets + (at + width + 7) / 8;
    uint64_t value = 0;
    while (from < to)
        value = value << 8 | *from++;
    value >>= -(at + width) & 7;
    return width < 64 ? value & (((uint64_t)1 << width) - 1) : value;
}

static inline void put_bits(uint8_t *octets, uint32_t at, uint32_t width, uint64_t value)
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

#endif
