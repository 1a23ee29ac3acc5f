/* Any octets as frames over a table of real headers, and any octets as a table: rk_dissect and rk_extract must
 * read nothing outside the frame and write nothing outside the columns, or refuse the table.
 *
 * Layers must lie one behind the other inside the frame, and both functions must have met the same ones. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/rk_headers.h"

#define ROWS 3 /* of a random table's arrays, at most */
#define COLUMNS_N 5

struct input {
    const uint8_t *data;
    size_t size;
};

static uint8_t octet(struct input *in)
{
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

/* A number below n, or, one time in 256, any number. */
static uint32_t below(struct input *in, uint32_t n)
{
    uint8_t value = octet(in);
    if (value < 255)
        return value % n;
    uint32_t any = 0;
    for (int i = 0; i < 4; i++)
        any = any << 8 | octet(in);
    return any;
}

static struct rk_bits bits(struct input *in)
{
    struct rk_bits field = {0};
    uint8_t kind = octet(in);
    if (kind & 1) { /* whole octets, as most fields are */
        field.at = below(in, 12) * 8;
        field.width = kind & 2 ? 16 : 8;
    } else if (kind & 2) {
        field.at = below(in, 128);
        field.width = below(in, 66);
    }
    return field;
}

static void *exactly(const void *rows, size_t size)
{
    void *copy = malloc(size ? size : 1);
    memcpy(copy, rows, size);
    return copy;
}

static struct rk_header any_header(struct input *in)
{
    struct rk_header h = {.min_len = below(in, 24), .next = (int32_t)(below(in, ROWS + 1) - 1)};
    uint8_t has = octet(in);
    if (has & 1) {
        h.length = bits(in);
        h.length_bias = (int32_t)(below(in, 8) - 4);
        h.length_unit = below(in, 9);
    }
    h.end = bits(in);
    h.end_kind = (uint8_t)below(in, 6);
    h.fills = has >> 1 & 1;
    h.quotes = has >> 2 & 1;
    if (has & 8) {
        h.at_least = below(in, 30);
        h.longer = below(in, ROWS);
    }
    if (has & 16) {
        h.opaque = bits(in);
        h.lengths_below = below(in, 200);
    }
    if (has & 32) {
        h.variant = bits(in);
        h.variants = below(in, ROWS);
        h.variants_n = below(in, ROWS + 1);
    }
    h.select_n = below(in, RK_SELECTORS + 1);
    for (uint32_t i = 0; i < RK_SELECTORS; i++)
        h.select[i] = bits(in);
    h.uppers = below(in, ROWS);
    h.uppers_n = below(in, ROWS + 1);
    h.parts = below(in, ROWS);
    h.parts_n = below(in, ROWS + 1);
    h.columns = below(in, ROWS);
    h.columns_n = below(in, ROWS + 1);
    return h;
}

static struct rk_dissector any_table(struct input *in)
{
    struct rk_header rows[ROWS];
    struct rk_number pairs[ROWS];
    struct rk_part any_parts[ROWS];
    uint32_t any_wanted[ROWS];
    uint8_t n = octet(in);
    struct rk_dissector any = {.headers_n = 1 + n % ROWS, .numbers_n = n / 3 % (ROWS + 1),
                               .parts_n = n / 12 % (ROWS + 1), .wanted_n = n / 48 % (ROWS + 1)};
    for (uint32_t i = 0; i < any.headers_n; i++)
        rows[i] = any_header(in);
    for (uint32_t i = 0; i < any.numbers_n; i++)
        pairs[i] = (struct rk_number){.number = below(in, 20), .header = below(in, any.headers_n)};
    for (uint32_t i = 0; i < any.parts_n; i++) {
        any_parts[i] = (struct rk_part){.when = bits(in), .equals = below(in, 4), .count = bits(in),
                                        .bias = (int32_t)(below(in, 8) - 4), .unit = below(in, 9)};
        any_parts[i].any = any_parts[i].unit & 1;
    }
    for (uint32_t i = 0; i < any.wanted_n; i++)
        any_wanted[i] = below(in, COLUMNS_N);
    any.headers = exactly(rows, any.headers_n * sizeof *rows);
    any.numbers = exactly(pairs, any.numbers_n * sizeof *pairs);
    any.parts = exactly(any_parts, any.parts_n * sizeof *any_parts);
    any.wanted = exactly(any_wanted, any.wanted_n * sizeof *any_wanted);
    return any;
}

static struct rk_column any_column(struct input *in)
{
    struct rk_column c = {.field = bits(in), .part = below(in, ROWS)};
    uint8_t kind = octet(in);
    if (kind & 1)
        c.octets_n = c.field.width / 8 % 1024; /* room for huge columns takes most of the time otherwise */
    else
        c.item_len = 1u << (kind >> 1 & 3);
    return c;
}

static bool has_column(const struct rk_dissector *t, uint32_t row, uint32_t column)
{
    const struct rk_header *h = &t->headers[row];
    for (uint32_t k = 0; k < h->columns_n; k++)
        if (t->wanted[h->columns + k] == column)
            return true;
    return false;
}

static void run(const struct rk_dissector *t, uint32_t first, struct rk_column *columns, const uint8_t *octets,
                uint32_t len)
{
    uint8_t *frame = exactly(octets, len);
    struct rk_layer layers[RK_MAX_LAYERS];
    int n = rk_dissect(t, first, frame, len, layers, RK_MAX_LAYERS);
    if (n < 0 ? n != -EINVAL : n > RK_MAX_LAYERS)
        abort();
    uint32_t at = 0;
    for (int i = 0; i < n; i++) {
        const struct rk_layer *l = &layers[i];
        if (l->header >= t->headers_n || l->offset != at || l->header_end < l->offset || l->end < l->header_end ||
            l->end > len || l->header_end - l->offset < t->headers[l->header].min_len)
            abort();
        at = l->header_end;
    }

    struct rk_frame row = {.cap_len = len};
    struct rk_batch batch = {.arena = frame, .frames = &row, .arena_len = len, .capacity = 1, .n = 1};
    for (uint32_t i = 0; i < COLUMNS_N; i++) {
        size_t size = columns[i].octets_n ? columns[i].octets_n : columns[i].item_len;
        columns[i].values = malloc(size ? size : 1);
        columns[i].present = calloc(1, 1);
    }
    struct rk_chain chains[2] = {0};
    if (rk_count_chains(t, first, &batch, chains, 2) != (n < 0 ? -EINVAL : 0))
        abort();
    for (int i = 0; i < n && i < RK_CHAIN_LEN; i++)
        if (chains[chains[0].packets ? 0 : 1].headers[i] != layers[i].header)
            abort();
    int done = rk_extract(t, first, &batch, 0, 1, columns, COLUMNS_N, 0);
    if (done != 1 && done != -EINVAL)
        abort();
    if (n < 0 && done == 1)
        abort();
    for (uint32_t i = 0; i < COLUMNS_N; i++) {
        bool possible = false;
        for (int k = 0; k < n; k++)
            possible |= has_column(t, layers[k].header, i);
        /* A part may be absent from a header that is there. */
        if (columns[i].present[0] ? !possible : done == 1 && possible && columns[i].part == 0)
            abort();
        free(columns[i].values);
        free(columns[i].present);
    }
    free(frame);
}

/* The first octet says: bit 0 whether the table is made of what follows, the rest which row comes first. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rk_column real[COLUMNS_N] = {
        {.field = {0, 16}, .item_len = 2},  {.field = {16, 16}, .item_len = 8}, {.field = {96, 32}, .octets_n = 4},
        {.field = {128, 32}, .item_len = 4}, {.field = {0, 32}, .item_len = 4, .part = 2},
    };
    if (size < 1 || size > 2048)
        return 0;
    struct input in = {.data = data, .size = size};
    uint8_t choice = octet(&in);
    uint32_t first = choice >> 1;
    if (choice & 1) {
        struct rk_dissector any = any_table(&in);
        struct rk_column columns[COLUMNS_N];
        for (int i = 0; i < COLUMNS_N; i++)
            columns[i] = any_column(&in);
        run(&any, first % (ROWS + 1), columns, in.data, (uint32_t)in.size);
        free((void *)any.headers);
        free((void *)any.numbers);
        free((void *)any.parts);
        free((void *)any.wanted);
    } else {
        run(&table, first % (HEADERS + 1), real, in.data, (uint32_t)in.size);
    }
    return 0;
}
