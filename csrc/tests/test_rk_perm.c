/* Permutations: every number once, back again, another order for another seed, and no order to be seen. */
#include "rk_test.h"

static void whole(uint64_t n, uint64_t seed)
{
    struct rk_perm perm;
    rk_perm_init(&perm, n, seed);
    uint8_t *seen = calloc(n, 1);
    uint64_t fixed = 0, neighbours = 0, last = n;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t value = rk_perm_at(&perm, i);
        EXPECT(value < n && !seen[value], 1);
        if (value < n)
            seen[value] = 1;
        EXPECT(rk_perm_index(&perm, value), i);
        fixed += value == i;
        neighbours += value == last + 1;
        last = value;
    }
    if (n > 1000) { /* of a random order about one each */
        EXPECT(fixed < 12, 1);
        EXPECT(neighbours < 12, 1);
    }
    free(seen);
}

static void ends(uint64_t n)
{
    struct rk_perm perm;
    rk_perm_init(&perm, n, 42);
    const uint64_t places[] = {0, 1, n / 3, n / 2, n - 2, n - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        uint64_t value = rk_perm_at(&perm, places[i]);
        EXPECT(value < n, 1);
        EXPECT(rk_perm_index(&perm, value), places[i]);
    }
}

int main(void)
{
    for (uint64_t n = 1; n <= 300; n++)
        whole(n, n * 7);
    const uint64_t sizes[] = {1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536, 65537, 1000003};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint64_t seed = 0; seed < 3; seed++)
            whole(sizes[i], seed);
    ends(UINT64_C(1) << 32);
    ends((UINT64_C(1) << 48) + 1);
    ends(UINT64_C(1) << 63);
    ends(UINT64_MAX);
    struct rk_perm one, other;
    rk_perm_init(&one, 1000, 1);
    rk_perm_init(&other, 1000, 2);
    unsigned same = 0;
    for (uint64_t i = 0; i < 1000; i++)
        same += rk_perm_at(&one, i) == rk_perm_at(&other, i);
    EXPECT(same < 12, 1);
    return failures != 0;
}
