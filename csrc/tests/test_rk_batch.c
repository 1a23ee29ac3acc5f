/* Appending: all or nothing, and no sum of lengths that wraps. */
#include "rk_test.h"

int main(void)
{
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
