/* What this processor can do: the Internet checksum in the shortest AVX2 loop that is right, for one buffer in the
 * cache, beside the engine's rk_csum. Built and run by checksum.py, with csrc/rk_csum.c and csrc/rk_cpu.c.
 *
 * Usage: limit_checksum OCTETS ROUNDS REPEATS. Prints "limit NS" and "rawkit NS", a line for each repeat. */
#define _GNU_SOURCE
#include <endian.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rk.h"

/* 32-bit words are added up in 64-bit lanes, even and odd ones apart; nothing can overflow below 2^35 octets. */
__attribute__((noinline, target("avx2"))) static uint16_t limit(const uint8_t *data, size_t len)
{
    const __m256i even = _mm256_set1_epi64x(0xffffffff);
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (; len >= 64; data += 64, len -= 64) {
        __m256i x = _mm256_loadu_si256((const __m256i_u *)(const void *)data);
        __m256i y = _mm256_loadu_si256((const __m256i_u *)(const void *)(data + 32));
        a = _mm256_add_epi64(a, _mm256_and_si256(x, even));
        b = _mm256_add_epi64(b, _mm256_srli_epi64(x, 32));
        c = _mm256_add_epi64(c, _mm256_and_si256(y, even));
        d = _mm256_add_epi64(d, _mm256_srli_epi64(y, 32));
    }
    uint64_t lanes[4];
    a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
    _mm256_storeu_si256((__m256i_u *)(void *)lanes, a);
    uint64_t sum = lanes[0] + lanes[1] + lanes[2] + lanes[3];
    for (uint32_t word; len >= 4; data += 4, len -= 4) {
        memcpy(&word, data, 4);
        sum += word;
    }
    uint32_t rest = 0;
    memcpy(&rest, data, len);
    for (sum += rest; sum >> 16;)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~be16toh((uint16_t)sum);
}

static double nanoseconds(uint16_t (*checksum)(const uint8_t *, size_t), const uint8_t *data, size_t len, long rounds)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long i = 0; i < rounds; i++) {
        uint16_t sum = checksum(data, len);
        __asm__ volatile("" ::"r"(sum) : "memory");
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / (double)rounds;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    size_t len = strtoul(argv[1], NULL, 10);
    long rounds = strtol(argv[2], NULL, 10), repeats = strtol(argv[3], NULL, 10);
    uint8_t *data = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    if (limit(data, len) != rk_csum(data, len)) {
        fprintf(stderr, "the two disagree on %zu octets\n", len);
        return 1;
    }
    for (long i = 0; i < repeats; i++) {
        printf("limit %.2f\n", nanoseconds(limit, data, len, rounds));
        printf("rawkit %.2f\n", nanoseconds(rk_csum, data, len, rounds));
    }
    free(data);
    return 0;
}
