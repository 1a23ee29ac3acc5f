/* Appending: all or nothing, and no sum of lengths that wraps. Merging: by time, as far as there is room. */
#include "rk_test.h"

/* A batch of frames of one octet each, which says which frame it is, with these times. */
static struct rk_batch *timed(char first, const int64_t *times, uint32_t n)
{
    struct rk_batch *batch = new_batch(n, n);
    for (uint32_t i = 0; i < n; i++) {
        char octet = (char)(first + (char)i);
        add(batch, &octet, 1);
        batch->frames[i].time_ns = times[i];
        batch->frames[i].ifindex = first;
    }
    return batch;
}

static void test_merging(void)
{
    struct rk_batch *lower = timed('a', (const int64_t[]){1, 4, 3, 9}, 4); /* one came late */
    struct rk_batch *upper = timed('A', (const int64_t[]){2, 4, 5}, 3);
    struct rk_batch *none = timed('0', NULL, 0);
    struct rk_batch_rest rests[] = {{.batch = lower}, {.batch = upper}, {.batch = none}};
    struct rk_batch *out = new_batch(6, 16);
    EXPECT(rk_batch_merge(out, rests, 3, 0, 10), 0);
    EXPECT(rk_batch_merge(out, rests, 3, 4, 2), 2);
    EXPECT(rk_batch_merge(out, rests, 3, 4, 10), 3);
    EXPECT(rests[0].at, 3);
    EXPECT(rests[1].at, 2);
    EXPECT(rk_batch_merge(out, rests, 3, INT64_MAX, 10), 1); /* there may be more like that */
    EXPECT(rk_batch_merge(out, rests, 3, INT64_MAX, 10), -ENOSPC); /* a seventh has no row */
    EXPECT(out->n, 6);
    EXPECT(memcmp(out->arena, "aAbcBC", 6), 0);
    for (uint32_t i = 0; i < out->n; i++) {
        EXPECT(out->frames[i].offset, i);
        EXPECT(out->frames[i].ifindex, out->arena[i] < 'a' ? 'A' : 'a');
    }
    out->n = 0;
    out->arena_used = 16; /* nor an octet */
    EXPECT(rk_batch_merge(out, rests, 3, INT64_MAX, 1), -ENOSPC);
    out->arena_used = 0;
    lower->frames[3].offset = UINT32_MAX;
    EXPECT(rk_batch_merge(out, rests, 3, INT64_MAX, 1), -EINVAL);
    rests[2].at = 1;
    EXPECT(rk_batch_merge(out, rests, 3, INT64_MAX, 1), -EINVAL);
    EXPECT(out->n, 0);
    drop_batch(lower);
    drop_batch(upper);
    drop_batch(none);
    drop_batch(out);
}

int main(void)
{
    test_merging();
    struct rk_batch *batch = new_batch(3, 10);
    const uint8_t octets[] = "abcdefghijk";
    const uint32_t lens[] = {4, 0, 3};
    EXPECT(rk_batch_append(batch, octets, 7, lens, 3, 42), 0);
    EXPECT(batch->n, 3);
    EXPECT(batch->arena_used, 7);
    EXPECT(memcmp(batch->arena, "abcdefg", 7), 0);
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT(batch->frames[i].cap_len, lens[i]);
        EXPECT(batch->frames[i].wire_len, lens[i]);
        EXPECT(batch->frames[i].time_ns, 42);
        EXPECT(batch->frames[i].flags, 0);
    }
    EXPECT(batch->frames[2].offset, 4);

    EXPECT(rk_batch_octets(batch, 0, 3), 7);
    EXPECT(rk_batch_octets(batch, 2, 1), 3);
    EXPECT(rk_batch_octets(batch, 1, 3), -EINVAL);
    EXPECT(rk_batch_odd(batch, 0, 3, 0, 4), 3);
    EXPECT(rk_batch_odd(batch, 0, 3, 1, 4), 1);
    EXPECT(rk_batch_odd(batch, 1, 2, 0, 2), 2);
    batch->frames[2].wire_len = 9;
    EXPECT(rk_batch_odd(batch, 0, 3, 0, 4), 2);
    batch->frames[2].wire_len = 3;
    EXPECT(rk_batch_odd(batch, 3, 1, 0, 4), -EINVAL);

    /* Nothing fits any more, nothing changes. */
    EXPECT(rk_batch_append(batch, octets, 0, (uint32_t[]){0}, 1, 0), -ENOSPC);
    EXPECT(rk_batch_append(batch, octets, 0, NULL, 0, 0), 0);
    batch->n = 1;
    EXPECT(rk_batch_append(batch, octets, 4, (uint32_t[]){4}, 1, 0), -ENOSPC);
    EXPECT(rk_batch_append(batch, octets, 3, (uint32_t[]){3}, 1, 0), 0);
    EXPECT(batch->n, 2);
    EXPECT(batch->arena_used, 10);

    /* Lengths that do not add up, also where 32 bits would make them. */
    batch->n = batch->arena_used = 0;
    EXPECT(rk_batch_append(batch, octets, 5, lens, 3, 0), -EINVAL);
    EXPECT(rk_batch_append(batch, octets, 8, lens, 3, 0), -EINVAL);
    EXPECT(rk_batch_append(batch, octets, 4, (uint32_t[]){UINT32_MAX, 5}, 2, 0), -EINVAL);
    EXPECT(batch->n, 0);
    EXPECT(batch->arena_used, 0);

    /* A batch that contradicts itself. */
    batch->n = 4;
    EXPECT(rk_batch_append(batch, octets, 1, (uint32_t[]){1}, 1, 0), -EINVAL);
    batch->n = 0;
    batch->arena_used = 11;
    EXPECT(rk_batch_append(batch, octets, 1, (uint32_t[]){1}, 1, 0), -EINVAL);
    drop_batch(batch);
    return result();
}
