/* rk_dissect.c: finding headers in frames, and fields in headers, from a table.
 *
 * The table is compiled from the header classes' own field tables (how long a header is, which field says
 * what follows, where the payload ends), so a class declared by a user is walked like any other.  The rules
 * are those of the generated parsers in rawkit/wire/layout.py, which are the reference this is tested
 * against: a header that is cut off or whose lengths contradict the octets ends the walk. */
#include "rk.h"

#include <errno.h>

#include "rk_internal.h"

#define ETHERTYPES_FROM 1536 /* IEEE 802.3 clause 3.2.6: smaller numbers are lengths */

_Static_assert(sizeof(struct rk_header) == 132, "read from Python");
_Static_assert(sizeof(struct rk_part) == 40, "read from Python");
_Static_assert(sizeof(struct rk_number) == 16, "read from Python");
_Static_assert(sizeof(struct rk_column) == 40, "read from Python");

/* Whether a field can be read from a header that has its fixed part. */
static inline bool bits_ok(struct rk_bits field, uint32_t fixed_len)
{
    return field.width <= 64 && rk_range_ok(field.at, field.width, (uint64_t)fixed_len * 8);
}

/* A table whose indices all lie inside it, so that the walk need not look. */
static bool table_ok(const struct rk_dissector *table)
{
    for (uint32_t i = 0; i < table->headers_n; i++) {
        const struct rk_header *h = &table->headers[i];
        if (h->next >= 0 && (uint32_t)h->next >= table->headers_n)
            return false;
        if (!bits_ok(h->length, h->min_len) || !bits_ok(h->end, h->min_len) || !bits_ok(h->opaque, h->min_len) ||
            !bits_ok(h->variant, h->min_len) || h->select_n > RK_SELECTORS)
            return false;
        for (uint32_t s = 0; s < h->select_n; s++) {
            if (!bits_ok(h->select[s], h->min_len))
                return false;
        }
        if (!rk_range_ok(h->parts, h->parts_n, table->parts_n) || (h->at_least > 0 && h->longer >= table->headers_n))
            return false;
        for (uint32_t k = 0; k < h->parts_n; k++) {
            const struct rk_part *part = &table->parts[h->parts + k];
            if (!bits_ok(part->when, h->min_len) || !bits_ok(part->count, h->min_len))
                return false;
        }
        if (!rk_range_ok(h->variants, h->variants_n, table->numbers_n) ||
            !rk_range_ok(h->uppers, h->uppers_n, table->numbers_n) ||
            !rk_range_ok(h->columns, h->columns_n, table->wanted_n))
            return false;
    }
    for (uint32_t i = 0; i < table->numbers_n; i++) {
        if (table->numbers[i].header >= table->headers_n)
            return false;
    }
    return true;
}

/* The integer in the bits of a field that lies inside octets; at most 64 bits wide. */
static inline uint64_t bits_at(const uint8_t *octets, uint32_t at, uint32_t width)
{
    const uint8_t *first = octets + at / 8;
    uint32_t skip = at % 8, span = skip + width;
    uint64_t mask = width < 64 ? (1ull << width) - 1 : UINT64_MAX;
    if (span <= 8)
        return width > 0 ? first[0] >> (8 - span) & mask : 0;
    if (span <= 16)
        return rk_load_be16(first) >> (16 - span) & mask;
    uint64_t value = 0;
    uint32_t have = 0;
    if (skip == 0 && width >= 32) {
        value = rk_load_be32(first);
        have = 32;
        first += 4;
    }
    while (have < width) {
        uint32_t take = 8 - skip < width - have ? 8 - skip : width - have;
        value = value << take | (*first >> (8 - skip - take) & ((1u << take) - 1));
        have += take;
        skip = 0;
        first++;
    }
    return value;
}

static inline uint64_t field(const uint8_t *octets, struct rk_bits bits)
{
    return bits_at(octets, bits.at, bits.width);
}

/* The header registered for a number in rows [first, first + n), which are sorted; -1 for none. */
static inline int64_t look_up(const struct rk_number *rows, uint32_t first, uint32_t n, uint64_t number)
{
    uint32_t low = first, high = first + n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (rows[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < first + n && rows[low].number == number ? (int64_t)rows[low].header : -1;
}

/* (value + bias) * unit octets; false where that is no length. */
static inline bool scaled(uint64_t value, int32_t bias, uint32_t unit, uint64_t *len)
{
    /* 64 bits hold the product of any 32-bit numbers; larger ones are no lengths. */
    int64_t count = value <= UINT32_MAX ? (int64_t)value + bias : -1;
    if (count < 0 || count > UINT32_MAX)
        return false;
    *len = (uint64_t)count * unit;
    return true;
}

static inline bool is_there(const struct rk_part *part, const uint8_t *here)
{
    if (part->when.width == 0)
        return true;
    uint64_t value = field(here, part->when);
    return part->any ? value != 0 : value == part->equals;
}

/* Where the first n parts of a header end, in octets from its start; false where one passes the limit. */
static bool parts_end(const struct rk_dissector *table, const struct rk_header *h, const uint8_t *here, uint32_t n,
                      uint64_t limit, uint64_t *end)
{
    uint64_t at = h->min_len;
    for (uint32_t k = 0; k < n; k++) {
        const struct rk_part *part = &table->parts[h->parts + k];
        if (!is_there(part, here))
            continue;
        uint64_t len = part->unit;
        if (part->count.width > 0 && !scaled(field(here, part->count), part->bias, part->unit, &len))
            return false;
        if (at > limit || len > limit - at)
            return false;
        at += len;
    }
    *end = at;
    return true;
}

/* The walk over one frame: the header to come, and where it stands. */
struct walk {
    const struct rk_dissector *table;
    const uint8_t *octets;
    int64_t next; /* row, -1: none */
    uint32_t at;
    uint32_t end;
    bool quoted;
};

/* Take the next header: *layer becomes where it is, and the walk stands behind it.  False where there is none
 * or it is damaged, which ends the walk. */
static inline __attribute__((always_inline)) bool take(struct walk *walk, struct rk_layer *layer)
{
    if (walk->next < 0)
        return false;
    const struct rk_dissector *table = walk->table;
    const struct rk_header *h = &table->headers[walk->next];
    const uint8_t *here = walk->octets + walk->at;
    uint64_t have = walk->end - walk->at;
    if (h->variants_n > 0 && have * 8 >= (uint64_t)h->variant.at + h->variant.width) {
        int64_t variant = look_up(table->numbers, h->variants, h->variants_n, field(here, h->variant));
        if (variant >= 0)
            h = &table->headers[variant];
    }
    if (h->at_least > 0 && have >= h->at_least)
        h = &table->headers[h->longer];
    if (have < h->min_len)
        return false;

    uint64_t length = h->fills ? have : h->min_len, claim = field(here, h->end);
    if (claim > UINT32_MAX)
        claim = UINT32_MAX;
    if (h->length.width > 0 && (!scaled(field(here, h->length), h->length_bias, h->length_unit, &length) ||
                                length < h->min_len || length > have))
        return false;
    uint64_t filled = h->min_len;
    if (h->parts_n > 0) {
        if (!parts_end(table, h, here, h->parts_n, h->fills ? length : have, &filled))
            return false;
        if (!h->fills)
            length = filled;
    }
    if (h->fills && h->length.width == 0 && h->end_kind == RK_END_TOTAL) {
        length = claim > 0 && claim < have ? claim : have;
        if (length < filled)
            return false;
    }
    uint64_t total = have;
    if (h->end_kind == RK_END_HEADER) {
        total = length;
    } else if (h->end_kind != 0) {
        if (h->end_kind == RK_END_TOTAL)
            total = claim > 0 ? claim : have;
        else if (h->end_kind == RK_END_PAYLOAD || claim < ETHERTYPES_FROM)
            total = length + claim;
        if (total > have)
            total = have; /* the capture cut it */
        if (total < length)
            return false;
    }
    *layer = (struct rk_layer){
        .header = (uint32_t)(h - table->headers),
        .offset = walk->at,
        .header_end = walk->at + (uint32_t)length,
        .end = walk->at + (uint32_t)total,
    };

    walk->at = layer->header_end;
    if (!walk->quoted) { /* a quoted length says what there had been, not what is here */
        walk->end = layer->end;
        walk->quoted = h->quotes;
    }
    return true;
}

/* Find out which header follows the one taken last, where anything does. */
static inline void follow(struct walk *walk, const struct rk_layer *last)
{
    const struct rk_dissector *table = walk->table;
    const struct rk_header *h = &table->headers[last->header];
    const uint8_t *here = walk->octets + last->offset;
    walk->next = -1;
    if (walk->at >= walk->end || (h->opaque.width > 0 && field(here, h->opaque) != 0))
        return;
    walk->next = h->next;
    for (uint32_t s = 0; walk->next < 0 && s < h->select_n; s++) {
        uint64_t number = field(here, h->select[s]);
        walk->next = look_up(table->numbers, h->uppers, h->uppers_n, number < h->lengths_below ? RK_LENGTHS : number);
    }
}

int rk_dissect(const struct rk_dissector *table, uint32_t first, const uint8_t *octets, uint32_t len,
               struct rk_layer *layers, uint32_t layers_n)
{
    if (!table_ok(table) || first >= table->headers_n || layers_n > INT32_MAX)
        return -EINVAL;
    struct walk walk = {.table = table, .octets = octets, .next = first, .end = len};
    uint32_t n = 0;
    for (; n < layers_n && take(&walk, &layers[n]); n++)
        follow(&walk, &layers[n]);
    return (int)n;
}

/* Where the field of a column is, counted from its header's start; false where it is absent. */
static inline bool place(const struct rk_dissector *table, const struct rk_layer *layer, const uint8_t *here,
                         const struct rk_column *column, uint64_t *at)
{
    *at = 0;
    if (column->part == 0)
        return true;
    const struct rk_header *h = &table->headers[layer->header];
    return is_there(&table->parts[h->parts + column->part - 1], here) &&
           parts_end(table, h, here, column->part - 1, layer->header_end - layer->offset, at);
}

/* Write the value of one field into row i of its column. */
static inline void store(const struct rk_column *column, uint64_t i, const uint8_t *header)
{
    if (column->octets_n > 0) {
        memcpy((uint8_t *)column->values + i * column->octets_n, header + column->field.at / 8, column->octets_n);
        return;
    }
    uint64_t value = field(header, column->field);
    switch (column->item_len) {
    case 1:
        ((uint8_t *)column->values)[i] = (uint8_t)value;
        break;
    case 2:
        ((uint16_t *)column->values)[i] = (uint16_t)value;
        break;
    case 4:
        ((uint32_t *)column->values)[i] = (uint32_t)value;
        break;
    default:
        ((uint64_t *)column->values)[i] = value;
        break;
    }
}

/* Whether each column has a known shape, and lies in the fixed part of every header that is asked for it. */
static bool columns_ok(const struct rk_dissector *table, const struct rk_column *columns, uint32_t columns_n)
{
    for (uint32_t i = 0; i < columns_n; i++) {
        const struct rk_column *c = &columns[i];
        bool ok = c->octets_n > 0
                      ? c->field.at % 8 == 0 && c->field.width == c->octets_n * 8ull
                      : (c->item_len == 1 || c->item_len == 2 || c->item_len == 4 || c->item_len == 8) &&
                            c->field.width >= 1 && c->field.width <= c->item_len * 8;
        if (!ok || c->values == NULL || c->present == NULL)
            return false;
    }
    for (uint32_t row = 0; row < table->headers_n; row++) {
        const struct rk_header *h = &table->headers[row];
        for (uint32_t k = 0; k < h->columns_n; k++) {
            uint32_t i = table->wanted[h->columns + k];
            if (i >= columns_n || columns[i].part > h->parts_n)
                return false;
            uint64_t len = h->min_len;
            if (columns[i].part > 0) {
                const struct rk_part *part = &table->parts[h->parts + columns[i].part - 1];
                len = part->count.width == 0 ? part->unit : 0;
            }
            if (!rk_range_ok(columns[i].field.at, columns[i].field.width, len * 8))
                return false;
        }
    }
    return true;
}

/* Fill row `row` of the columns from one frame; returns how many columns had a value. */
static uint32_t extract_frame(const struct rk_dissector *table, uint32_t first_header, const uint8_t *octets,
                              uint32_t len, const struct rk_column *columns, uint32_t columns_n, uint64_t row)
{
    struct walk walk = {.table = table, .octets = octets, .next = first_header, .end = len};
    struct rk_layer layer;
    uint32_t left = columns_n;
    for (uint32_t depth = 0; left > 0 && depth < RK_MAX_LAYERS && take(&walk, &layer); depth++) {
        const struct rk_header *h = &table->headers[layer.header];
        for (uint32_t k = 0; k < h->columns_n; k++) {
            const struct rk_column *c = &columns[table->wanted[h->columns + k]];
            const uint8_t *here = walk.octets + layer.offset;
            uint64_t at;
            if (c->present[row] || !place(table, &layer, here, c, &at))
                continue; /* the outermost header of the kind is meant */
            c->present[row] = 1;
            store(c, row, here + at);
            left--;
        }
        if (left > 0)
            follow(&walk, &layer);
    }
    return columns_n - left;
}

int rk_extract(const struct rk_dissector *table, uint32_t first_header, const struct rk_batch *batch, uint32_t first,
               uint32_t n, const struct rk_column *columns, uint32_t columns_n, uint64_t row)
{
    if (!table_ok(table) || first_header >= table->headers_n || !columns_ok(table, columns, columns_n))
        return -EINVAL;
    if (!rk_range_ok(first, n, batch->n) || n > INT32_MAX)
        return -EINVAL;
    for (uint32_t f = first; f < first + n; f++, row++) {
        const struct rk_frame *frame = &batch->frames[f];
        if (!rk_range_ok(frame->offset, frame->cap_len, batch->arena_len))
            return -EINVAL;
        extract_frame(table, first_header, batch->arena + frame->offset, frame->cap_len, columns, columns_n, row);
    }
    return (int)n;
}

uint32_t rk_pick(const struct rk_dissector *table, uint32_t first_header, const uint8_t *octets, uint32_t len,
                 const struct rk_column *columns, uint32_t columns_n)
{
    for (uint32_t i = 0; i < columns_n; i++)
        columns[i].present[0] = 0;
    return extract_frame(table, first_header, octets, len, columns, columns_n, 0);
}

/* The row of a chain of headers, found or made; NULL when all rows are others. */
static struct rk_chain *chain_of(struct rk_chain *chains, uint32_t chains_n, const uint32_t *headers, uint32_t n)
{
    uint64_t hash = n;
    for (uint32_t i = 0; i < n; i++)
        hash = rk_hash(hash, headers[i]);
    for (uint32_t i = 0; i < chains_n; i++) {
        struct rk_chain *chain = &chains[(hash + i) % chains_n];
        if (chain->packets == 0) {
            chain->headers_n = n;
            memcpy(chain->headers, headers, n * sizeof *headers);
            return chain;
        }
        if (chain->headers_n == n && memcmp(chain->headers, headers, n * sizeof *headers) == 0)
            return chain;
    }
    return NULL;
}

int rk_count_chains(const struct rk_dissector *table, uint32_t first_header, const struct rk_batch *batch,
                    struct rk_chain *chains, uint32_t chains_n)
{
    if (!table_ok(table) || first_header >= table->headers_n)
        return -EINVAL;
    int left_out = 0;
    for (uint32_t f = 0; f < batch->n; f++) {
        const struct rk_frame *frame = &batch->frames[f];
        if (!rk_range_ok(frame->offset, frame->cap_len, batch->arena_len))
            return -EINVAL;
        struct walk walk = {
            .table = table, .octets = batch->arena + frame->offset, .next = first_header, .end = frame->cap_len};
        struct rk_layer layer;
        uint32_t headers[RK_CHAIN_LEN], n = 0;
        for (; n < RK_CHAIN_LEN && take(&walk, &layer); n++) {
            headers[n] = layer.header;
            follow(&walk, &layer);
        }
        struct rk_chain *chain = chain_of(chains, chains_n, headers, n);
        if (!chain) {
            left_out++;
            continue;
        }
        chain->packets++;
        chain->octets += frame->wire_len;
    }
    return left_out;
}
