/* Any octets as a template's program: rk_template_fill must read nothing outside the program's rows and write
 * nothing outside the arena.
 *
 * Octets 0..3 say how many fields, sums and terms there are and how long the base is; the rows follow as they
 * lie in memory, missing octets being zero. Numbers that would hardly ever fit are reduced, unless the first
 * bit of octet 4 asks for them as they are. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "rk.h"

#define FRAMES 5

static const uint8_t *input;
static size_t input_len;

/* A block of exactly len octets, taken from the input. */
static void *take(size_t len)
{
    uint8_t *block = calloc(1, len ? len : 1);
    size_t n = len < input_len ? len : input_len;
    if (n)
        memcpy(block, input, n);
    input += n;
    input_len -= n;
    return block;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 5)
        return 0;
    uint32_t fields_n = data[0] % 8, sums_n = data[1] % 8, terms_n = data[2] % 32, len = data[3];
    bool wild = data[4] & 1;
    uint64_t first = (uint64_t)data[4] << 56;
    input = data + 5;
    input_len = size - 5;
    struct rk_template_field *fields = take(fields_n * sizeof *fields);
    struct rk_template_sum *sums = take(sums_n * sizeof *sums);
    struct rk_template_term *terms = take(terms_n * sizeof *terms);
    uint64_t *values = take(4 * sizeof *values);
    uint8_t *base = take(len);
    for (uint32_t i = 0; i < fields_n; i++) {
        fields[i].values = values; /* how long it is only the caller knows */
        if (fields[i].kind == RK_FIELD_VALUES || !wild)
            fields[i].count %= 5;
        if (wild)
            continue;
        fields[i].kind %= 6;
        fields[i].at %= len * 8 + 8;
        fields[i].width %= 66;
    }
    for (uint32_t i = 0; i < sums_n && !wild; i++) {
        sums[i].kind %= 3;
        sums[i].at %= len + 1;
        sums[i].zero &= 0xffff;
        sums[i].from %= len + 1;
        sums[i].to %= len + 2;
        sums[i].terms %= 32;
        sums[i].terms_n %= 8;
    }
    for (uint32_t i = 0; i < terms_n && !wild; i++) {
        terms[i].item %= 16;
        terms[i].shift %= 17;
    }
    struct rk_template program = {.base = base, .fields = fields, .sums = sums, .terms = terms,
                                  .base_len = len, .fields_n = fields_n, .sums_n = sums_n,
                                  .terms_n = terms_n};
    uint32_t arena_len = FRAMES * len + len / 2;
    struct rk_batch batch = {.arena = malloc(arena_len ? arena_len : 1),
                             .frames = malloc((FRAMES + 1) * sizeof(struct rk_frame)),
                             .arena_len = arena_len,
                             .capacity = FRAMES + 1};
    int n = rk_template_fill(&program, &batch, first, UINT32_MAX);
    if (n >= 0 && (n < FRAMES || batch.n != (uint32_t)n || batch.arena_used != (uint32_t)n * len))
        abort();
    free(batch.arena);
    free(batch.frames);
    free(fields);
    free(sums);
    free(terms);
    free(values);
    free(base);
    return 0;
}
