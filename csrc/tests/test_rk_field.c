/* Frames are checked against a bit by bit reference, their checksums by summing them up whole; programs that
 * point outside themselves are refused. */
#include "rk_test.h"

#include "rk_internal.h"

static uint8_t base[64];

static uint64_t bits(const uint8_t *octets, uint32_t at, uint32_t width)
{
    uint64_t value = 0;
    for (uint32_t i = at; i < at + width; i++)
        value = value << 1 | (octets[i / 8] >> (7 - i % 8) & 1);
    return value;
}

static struct rk_template program_of(const struct rk_template_field *fields, uint32_t n)
{
    return (struct rk_template){.base = base, .base_len = sizeof base, .fields = fields, .fields_n = n};
}

/* Every place and width: the field holds its value, all other bits are the base's. */
static void test_places(void)
{
    struct rk_batch *batch = new_batch(3, 3 * sizeof base);
    for (uint32_t at = 0; at < 24; at++)
        for (uint32_t width = 1; width <= 64; width++) {
            struct rk_template_field field = {
                .at = at, .width = width, .kind = RK_FIELD_RANDOM, .seed = at * 64 + width};
            memset(base, 0xff, sizeof base);
            for (uint32_t i = at; i < at + width; i++)
                base[i / 8] &= (uint8_t)~(0x80 >> i % 8);
            struct rk_template program = program_of(&field, 1);
            EXPECT(rk_template_fill(&program, batch, 7, 5), 3);
            EXPECT(batch->n, 3);
            EXPECT(batch->arena_used, 3 * sizeof base);
            uint64_t mask = UINT64_MAX >> (64 - width), all = 0;
            for (uint32_t row = 0; row < 3; row++) {
                uint8_t *frame = batch->arena + batch->frames[row].offset;
                all |= bits(frame, at, width);
                for (uint32_t i = at; i < at + width; i++)
                    frame[i / 8] &= (uint8_t)~(0x80 >> i % 8);
                EXPECT(memcmp(frame, base, sizeof base), 0);
            }
            EXPECT(all <= mask && (width < 12 || all != 0), 1);
        }
    drop_batch(batch);
    memset(base, 0, sizeof base);
}

static void test_sources(void)
{
    static const uint64_t list[3] = {5, 1000, 70000};
    struct rk_template_field fields[4] = {
        {.at = 0, .width = 8, .kind = RK_FIELD_COUNTER, .start = 250, .step = 3},
        {.at = 8, .width = 16, .kind = RK_FIELD_COUNTER, .start = 9, .step = UINT64_MAX, .count = 4},
        {.at = 32, .width = 32, .kind = RK_FIELD_VALUES, .count = 3, .values = list},
        {.at = 64, .width = 16, .kind = RK_FIELD_RANDOM_BELOW, .start = 40, .step = 5, .seed = 3},
    };
    struct rk_template program = program_of(fields, 4);
    struct rk_batch *batch = new_batch(100, 100 * sizeof base);
    EXPECT(rk_template_fill(&program, batch, 11, 100), 100);
    uint32_t seen = 0;
    for (uint32_t row = 0; row < 100; row++) {
        const uint8_t *frame = batch->arena + row * sizeof base;
        EXPECT(frame[0], (uint8_t)(250 + 3 * (11 + row)));
        EXPECT(rk_load_be16(frame + 1), 9 - (11 + row) % 4);
        EXPECT(rk_load_be32(frame + 4), list[(11 + row) % 3]);
        EXPECT(rk_load_be16(frame + 8) - 40 < 5, 1);
        seen |= 1u << (rk_load_be16(frame + 8) - 40);
    }
    EXPECT(seen, 31);
    drop_batch(batch);
}

static void test_permutations(void)
{
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 16, 17, 255, 1000};
    struct rk_batch *batch = new_batch(2000, 2000 * sizeof base);
    for (uint32_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        uint32_t n = (uint32_t)counts[c];
        uint8_t seen[1000] = {0};
        struct rk_template_field field = {
            .width = 32, .kind = RK_FIELD_PERMUTATION, .start = 7, .step = 2, .count = n, .seed = c};
        struct rk_template program = program_of(&field, 1);
        EXPECT(rk_template_fill(&program, batch, 0, 2 * n), 2 * n);
        for (uint32_t row = 0; row < n; row++) {
            uint32_t value = rk_load_be32(batch->arena + row * sizeof base);
            EXPECT(value >= 7 && value % 2 == 1 && value < 7 + 2 * n, 1);
            EXPECT(seen[(value - 7) / 2 % n]++, 0);
            EXPECT(rk_load_be32(batch->arena + (row + n) * sizeof base), value);
        }
    }
    /* The largest there is. */
    struct rk_template_field field = {
        .width = 64, .kind = RK_FIELD_PERMUTATION, .step = 1, .count = UINT64_MAX, .seed = 1};
    struct rk_template program = program_of(&field, 1);
    EXPECT(rk_template_fill(&program, batch, UINT64_MAX - 3, 20), 20);
    drop_batch(batch);
}

/* A sum over octets 2..64 with fields at an odd place, and a CRC over all of it after that. */
static void test_sums(void)
{
    for (uint32_t i = 0; i < sizeof base; i++)
        base[i] = (uint8_t)(i * 37);
    memset(base + 5, 0, 5);
    memset(base + 20, 0, 2);
    memset(base + 60, 0, 4);
    struct rk_template_field field = {.at = 40, .width = 40, .kind = RK_FIELD_RANDOM, .seed = 9};
    struct rk_template_term term = {.item = 0, .shift = 0};
    struct rk_template_sum sums[2] = {
        {.kind = RK_SUM_INET, .at = 20, .start = rk_csum_add(0, base + 2, 58), .zero = 0xffff, .terms_n = 1},
        {.kind = RK_SUM_CRC32C, .at = 60, .from = 1, .to = 64},
    };
    struct rk_template program = program_of(&field, 1);
    program.sums = sums;
    program.sums_n = 2;
    program.terms = &term;
    program.terms_n = 1;
    struct rk_batch *batch = new_batch(50, 50 * sizeof base);
    EXPECT(rk_template_fill(&program, batch, 0, 50), 50);
    for (uint32_t row = 0; row < 50; row++) {
        uint8_t *frame = batch->arena + row * sizeof base;
        EXPECT(rk_csum(frame + 2, 58), 0);
        uint32_t crc = rk_load_le32(frame + 60);
        memset(frame + 60, 0, 4);
        EXPECT(rk_crc32c(0, frame + 1, 63), crc);
    }
    /* All ones: the sum's complement is 0, and sent as 0xffff. */
    sums[0].start = 0xffff;
    sums[0].terms_n = 0;
    EXPECT(rk_template_fill(&program, batch, 0, 1), 1);
    EXPECT(rk_load_be16(batch->arena + 20), 0xffff);
    drop_batch(batch);
}

static void test_refused(void)
{
    struct rk_batch *batch = new_batch(2, 2 * sizeof base);
    struct rk_template_field good = {.at = 0, .width = 8, .kind = RK_FIELD_COUNTER}, field;
    struct rk_template_sum good_sum = {.kind = RK_SUM_INET, .at = 62, .terms_n = 1}, sum;
    struct rk_template_term term = {0};
    struct rk_template program;
    batch->n = 77;
#define REFUSED(change)                                                        \
    do {                                                                       \
        field = good;                                                          \
        sum = good_sum;                                                        \
        term = (struct rk_template_term){0};                                   \
        program = program_of(&field, 1);                                       \
        program.sums = &sum;                                                   \
        program.terms = &term;                                                 \
        program.sums_n = program.terms_n = 1;                                  \
        change;                                                                \
        EXPECT(rk_template_fill(&program, batch, 0, 2), -EINVAL);              \
        EXPECT(batch->n, 77);                                                  \
    } while (0)
    REFUSED(program.base_len = 0);
    REFUSED(program.base_len = RK_TEMPLATE_LEN + 1);
    REFUSED(program.fields_n = RK_TEMPLATE_ITEMS + 1);
    REFUSED(program.sums_n = RK_TEMPLATE_ITEMS);
    REFUSED(field.width = 0);
    REFUSED(field.width = 65);
    REFUSED(field.at = 64 * 8 - 7);
    REFUSED(field.at = UINT32_MAX);
    REFUSED(field.kind = 0);
    REFUSED(field.kind = RK_FIELD_VALUES);
    REFUSED(field.kind = RK_FIELD_PERMUTATION);
    REFUSED(sum.kind = 9);
    REFUSED(sum.at = 63);
    REFUSED(sum.at = UINT32_MAX);
    REFUSED(sum.zero = 0x10000);
    REFUSED(sum.terms = 1);
    REFUSED(sum.terms_n = UINT32_MAX);
    REFUSED(term.item = 1);
    REFUSED(term.shift = 16);
    REFUSED((sum.kind = RK_SUM_CRC32C, sum.at = 61));
    REFUSED((sum.kind = RK_SUM_CRC32C, sum.at = 0, sum.from = 5, sum.to = 4));
    REFUSED((sum.kind = RK_SUM_CRC32C, sum.at = 0, sum.to = 65));
    drop_batch(batch);
}

int main(void)
{
    test_places();
    test_sources();
    test_permutations();
    test_sums();
    test_refused();
    return result();
}
