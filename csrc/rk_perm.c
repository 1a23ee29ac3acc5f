/* Keyed permutations of [0, n): where a scan's probes go, and the values of templates that never repeat.
 *
 * A balanced Feistel network over the next even number of bits, walked until it comes back below n (Black and
 * Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002), which takes fewer than four steps on average.
 * It can be run backwards, so a reply's place is computed and not looked up. No cipher: it hides nothing. */
#include "rk.h"
#include "rk_internal.h"

void rk_perm_init(struct rk_perm *perm, uint64_t n, uint64_t seed)
{
    perm->n = n;
    perm->half = 1;
    while (perm->half < 32 && (uint64_t)1 << 2 * perm->half < n)
        perm->half++;
    for (uint64_t round = 0; round < RK_PERM_ROUNDS; round++)
        perm->keys[round] = rk_mix(seed + round);
}

uint64_t rk_perm_at(const struct rk_perm *perm, uint64_t index)
{
    uint64_t half_mask = ((uint64_t)1 << perm->half) - 1;
    do {
        uint64_t left = index >> perm->half, right = index & half_mask;
        for (unsigned round = 0; round < RK_PERM_ROUNDS; round++) {
            uint64_t next = left ^ (rk_hash_of(perm->keys[round], right) & half_mask);
            left = right;
            right = next;
        }
        index = left << perm->half | right;
    } while (index >= perm->n);
    return index;
}

uint64_t rk_perm_index(const struct rk_perm *perm, uint64_t value)
{
    uint64_t half_mask = ((uint64_t)1 << perm->half) - 1;
    do {
        uint64_t left = value >> perm->half, right = value & half_mask;
        for (unsigned round = RK_PERM_ROUNDS; round-- > 0;) {
            uint64_t last = right ^ (rk_hash_of(perm->keys[round], left) & half_mask);
            right = left;
            left = last;
        }
        value = left << perm->half | right;
    } while (value >= perm->n);
    return value;
}
