/* rk_internal.h: small inline helpers that every file of the engine shares.
 *
 * Octets in a buffer have no alignment and no type: they are read and written through these functions
 * only, never by casting the buffer.  Compilers turn each into a single instruction. */
#ifndef RK_INTERNAL_H
#define RK_INTERNAL_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t rk_load_be16(const uint8_t *octets)
{
    uint16_t value;
    memcpy(&value, octets, sizeof value);
    return be16toh(value);
}

static inline uint32_t rk_load_be32(const uint8_t *octets)
{
    uint32_t value;
    memcpy(&value, octets, sizeof value);
    return be32toh(value);
}

static inline uint64_t rk_load_be64(const uint8_t *octets)
{
    uint64_t value;
    memcpy(&value, octets, sizeof value);
    return be64toh(value);
}

static inline uint16_t rk_load_le16(const uint8_t *octets)
{
    uint16_t value;
    memcpy(&value, octets, sizeof value);
    return le16toh(value);
}

static inline uint32_t rk_load_le32(const uint8_t *octets)
{
    uint32_t value;
    memcpy(&value, octets, sizeof value);
    return le32toh(value);
}

static inline uint64_t rk_load_le64(const uint8_t *octets)
{
    uint64_t value;
    memcpy(&value, octets, sizeof value);
    return le64toh(value);
}

static inline void rk_store_be16(uint8_t *octets, uint16_t value)
{
    value = htobe16(value);
    memcpy(octets, &value, sizeof value);
}

static inline void rk_store_be32(uint8_t *octets, uint32_t value)
{
    value = htobe32(value);
    memcpy(octets, &value, sizeof value);
}

static inline void rk_store_be64(uint8_t *octets, uint64_t value)
{
    value = htobe64(value);
    memcpy(octets, &value, sizeof value);
}

static inline void rk_store_le16(uint8_t *octets, uint16_t value)
{
    value = htole16(value);
    memcpy(octets, &value, sizeof value);
}

static inline void rk_store_le32(uint8_t *octets, uint32_t value)
{
    value = htole32(value);
    memcpy(octets, &value, sizeof value);
}

static inline void rk_store_le64(uint8_t *octets, uint64_t value)
{
    value = htole64(value);
    memcpy(octets, &value, sizeof value);
}

/* Whether [first, first + n) lies within [0, limit), however large the numbers (nothing wraps). */
static inline bool rk_range_ok(uint64_t first, uint64_t n, uint64_t limit)
{
    return first <= limit && n <= limit - first;
}

/* What there is in several variants.  rk_cpu points to the row in use: set at load, and by
 * rk_cpu_set_level. */
struct rk_cpu_functions {
    /* One's complement sum of data as 16-bit words in the machine's byte order, not yet folded to 16 bits;
     * zero only for data that is all zero. */
    uint64_t (*sum)(const uint8_t *data, size_t len);
    /* CRC32c without the inversions before and after. */
    uint32_t (*crc32c)(uint32_t state, const uint8_t *data, size_t len);
};
extern const struct rk_cpu_functions *rk_cpu;

uint64_t rk_sum_portable(const uint8_t *data, size_t len);
uint32_t rk_crc32c_portable(uint32_t state, const uint8_t *data, size_t len);
#ifdef __x86_64__
uint64_t rk_sum_avx2(const uint8_t *data, size_t len);
uint32_t rk_crc32c_sse42(uint32_t state, const uint8_t *data, size_t len);
#endif

/* Stafford's thirteenth mix, as SplitMix64 has it: every bit of the input changes every bit of the result
 * with a probability of a half. Not a cipher. */
static inline uint64_t rk_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* SplitMix64 from anywhere; key is rk_mix of a seed. */
static inline uint64_t rk_hash_of(uint64_t key, uint64_t index)
{
    return rk_mix(key + index * 0x9e3779b97f4a7c15u);
}

static inline uint64_t rk_hash(uint64_t seed, uint64_t index)
{
    return rk_hash_of(rk_mix(seed), index);
}

/* Which of RK_PACE_BINS a lateness falls into. */
uint32_t rk_pace_bin(int64_t late_ns);

#endif
