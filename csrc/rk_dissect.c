/* rk_dissect.c: finding headers in frames, and fields in headers, from a table.
 *
 * The table is compiled from the header classes' own field tables (how long a header is, which field says
 * what follows, where the payload ends), so a class declared by a user is walked like any other.  The rules
 * are those of the generated parsers in rawkit/wire/layout.py, which are the reference this is tested
 * against: a header that is cut off or whose lengths contradict the octets ends the walk. */
#include "rk.h"

#include <errno.h>

#include "rk_internal.h"

/* A table whose indices all lie inside it, so that the walk need not look. */
static bool table_ok(const struct rk_dissector *table)
{
    for (uint32_t i = 0; i < table->headers_n; i++) {
        const struct rk_header *h = &table->headers[i];
        uint64_t bits = (uint64_t)h->min_len * 8;
        if (h->next >= (int32_t)table->headers_n || !rk_range_ok(h->variants, h->variants_n, table->numbers_n))
            return false;
        if (!rk_range_ok(h->length.at, h->length.width, bits) || h->length.width > 32 ||
            !rk_range_ok(h->end.at, h->end.width, bits) || h->end.width > 32 ||
            !rk_range_ok(h->opaque.at, h->opaque.width, bits) || h->opaque.width > 32 ||
            !rk_range_ok(h->variant.at, h->variant.width, bits) || h->variant.width > 32)
            return false;
        for (int s = 0; s < RK_SELECTORS; s++) {
            if (!rk_range_ok(h->select[s].at, h->select[s].width, bits) || h->select[s].width > 32)
                return false;
        }
        if (!rk_range_ok(h->uppers, h->uppers_n, table->numbers_n) ||
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
    if (at % 8 == 0) {
        switch (width) {
        case 8:
            return first[0];
        case 16:
            return rk_load_be16(first);
        case 32:
            return rk_load_be32(first);
        case 64:
            return rk_load_be64(first);
        default:
            break;
        }
    }
    uint32_t skip = at % 8;
    uint64_t value = 0;
    for (uint32_t have = 0; have < width;) {
        uint32_t take = 8 - skip < width - have ? 8 - skip : width - have;
        uint64_t part = (uint64_t)(*first >> (8 - skip - take)) & ((1u << take) - 1);
        value = value << take | part;
        have += take;
        skip = 0;
        first++;
    }
    return value;
}

static inline uint32_t field(const uint8_t *octets, struct rk_bits bits)
{
    return (uint32_t)bits_at(octets, bits.at, bits.width);
}

/* The header registered for a number in rows [first, first + n), which are sorted; -1 for none. */
static inline int32_t look_up(const struct rk_number *rows, uint32_t first, uint32_t n, uint32_t number)
{
    uint32_t low = first, high = first + n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (rows[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < first + n && rows[low].number == number ? (int32_t)rows[low].header : -1;
}

/* The header at octets + at, which is the last look at [at, end) that is taken.  Returns the number of its
 * row, or -1 where it is damaged; *header_end and *payload_end become where it and its content end. */
static inline int32_t one_header(const struct rk_dissector *table, int32_t row, const uint8_t *octets,
                                 uint32_t at, uint32_t end, uint32_t *header_end, uint32_t *payload_end)
{
    const struct rk_header *h = &table->headers[row];
    const uint8_t *here = octets + at;
    uint32_t have = end - at;
    if (h->variants_n > 0 && have * 8ull >= (uint64_t)h->variant.at + h->variant.width) {
        int32_t variant = look_up(table->numbers, h->variants, h->variants_n, field(here, h->variant));
        if (variant >= 0) {
            row = variant;
            h = &table->headers[row];
        }
    }
    if (have < h->min_len)
        return -1;

    uint64_t length = h->min_len;
    if (h->length.width > 0) {
        length = ((uint64_t)field(here, h->length) + h->length_bias) * h->length_unit;
        if (length < h->min_len || length > have)
            return -1;
    } else if (h->fills) {
        length = have;
    }
    *header_end = at + (uint32_t)length;
    *payload_end = end;
    if (h->end.width > 0) {
        uint64_t value = field(here, h->end);
        uint64_t total = h->end_kind == RK_END_PAYLOAD ? length + value : value;
        if (total == 0 || total > have)
            total = have; /* not filled in, or cut by the capture */
        if (total < length)
            return -1;
        *payload_end = at + (uint32_t)total;
    }
    return row;
}

/* Which header follows one of row h at here; -1 when none is known. */
static inline int32_t following(const struct rk_dissector *table, const struct rk_header *h, const uint8_t *here)
{
    if (h->opaque.width > 0 && field(here, h->opaque) != 0)
        return -1;
    if (h->next >= 0)
        return h->next;
    for (int s = 0; s < RK_SELECTORS && h->select[s].width > 0; s++) {
        int32_t row = look_up(table->numbers, h->uppers, h->uppers_n, field(here, h->select[s]));
        if (row >= 0)
            return row;
    }
    return -1;
}

int rk_dissect(const struct rk_dissector *table, uint32_t first, const uint8_t *octets, uint32_t len,
               struct rk_layer *layers, uint32_t layers_n)
{
    if (!table_ok(table) || first >= table->headers_n)
        return -EINVAL;
    uint32_t n = 0, at = 0, end = len;
    for (int32_t row = (int32_t)first; row >= 0 && n < layers_n;) {
        uint32_t header_end, payload_end;
        row = one_header(table, row, octets, at, end, &header_end, &payload_end);
        if (row < 0)
            break;
        layers[n++] = (struct rk_layer){.header = (uint32_t)row, .offset = at, .header_end = header_end, .end = payload_end};
        if (header_end >= payload_end)
            break;
        row = following(table, &table->headers[row], octets + at);
        at = header_end;
        end = payload_end;
    }
    return (int)n;
}

/* Write the value of one field into row i of its column. */
static inline void store(const struct rk_column *column, uint64_t i, const uint8_t *header, uint32_t at)
{
    if (column->octets_n > 0) {
        memcpy((uint8_t *)column->values + i * column->octets_n, header + at / 8, column->octets_n);
        return;
    }
    uint64_t value = bits_at(header, at, column->width);
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

/* Whether every field that a header is asked for lies in its fixed part, and its column has a known shape. */
static bool columns_ok(const struct rk_dissector *table, const struct rk_column *columns, uint32_t columns_n)
{
    for (uint32_t i = 0; i < columns_n; i++) {
        const struct rk_column *c = &columns[i];
        bool shaped = c->octets_n > 0 ? c->at % 8 == 0 && c->width == c->octets_n * 8u
                                      : c->width >= 1 && c->width <= c->item_len * 8u;
        bool sized = c->octets_n > 0 || c->item_len == 1 || c->item_len == 2 || c->item_len == 4 || c->item_len == 8;
        if (!shaped || !sized || c->values == NULL || c->present == NULL)
            return false;
    }
    for (uint32_t row = 0; row < table->headers_n; row++) {
        const struct rk_header *h = &table->headers[row];
        for (uint32_t k = h->columns; k < h->columns + h->columns_n; k++) {
            uint32_t i = table->wanted[k];
            if (i >= columns_n || !rk_range_ok(columns[i].at, columns[i].width, (uint64_t)h->min_len * 8))
                return false;
        }
    }
    return true;
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
        const uint8_t *octets = batch->arena + frame->offset;
        uint32_t at = 0, end = frame->cap_len, left = columns_n;
        int32_t header = (int32_t)first_header;
        for (uint32_t depth = 0; header >= 0 && depth < RK_MAX_LAYERS && left > 0; depth++) {
            uint32_t header_end, payload_end;
            header = one_header(table, header, octets, at, end, &header_end, &payload_end);
            if (header < 0)
                break;
            const struct rk_header *h = &table->headers[header];
            for (uint32_t k = h->columns; k < h->columns + h->columns_n; k++) {
                const struct rk_column *c = &columns[table->wanted[k]];
                if (c->present[row])
                    continue; /* the outermost header of the kind is meant */
                c->present[row] = 1;
                store(c, row, octets + at, c->at);
                left--;
            }
            if (header_end >= payload_end)
                break;
            header = following(table, h, octets + at);
            at = header_end;
            end = payload_end;
        }
    }
    return (int)n;
}
