/* Checksums: the Internet checksum (RFC 1071, incremental update RFC 1624) and CRC32c (RFC 9260
 * appendix A).
 *
 * The Internet checksum does not mind the byte order it is added up in (RFC 1071 section 2 (B)): words are
 * summed as the machine loads them and the result is swapped once.  A sum that is not zero never folds to
 * zero, so every variant agrees on 0xffff against 0 as well. */
#include <endian.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "rk.h"
#include "rk_internal.h"

/* Below this length the call and the final reduction of the vector variant cost more than they save. */
#define SHORT_LEN 96

static inline uint64_t load_native64(const uint8_t *octets)
{
    uint64_t value;
    memcpy(&value, octets, sizeof value);
    return value;
}

static inline uint32_t load_native32(const uint8_t *octets)
{
    uint32_t value;
    memcpy(&value, octets, sizeof value);
    return value;
}

static inline uint16_t load_native16(const uint8_t *octets)
{
    uint16_t value;
    memcpy(&value, octets, sizeof value);
    return value;
}

/* Sum with end-around carry. */
static inline uint64_t add_carry(uint64_t sum, uint64_t value)
{
    uint64_t total;
    return __builtin_add_overflow(sum, value, &total) ? total + 1 : total;
}

static inline uint64_t sum_words(uint64_t sum, const uint8_t *data, size_t len)
{
    for (; len >= 8; data += 8, len -= 8)
        sum = add_carry(sum, load_native64(data));
    if (len & 4) {
        sum = add_carry(sum, load_native32(data));
        data += 4;
    }
    if (len & 2) {
        sum = add_carry(sum, load_native16(data));
        data += 2;
    }
    if (len & 1) {
        const uint8_t padded[2] = {*data, 0};
        sum = add_carry(sum, load_native16(padded));
    }
    return sum;
}

static inline uint32_t fold(uint64_t sum)
{
    sum = (sum >> 32) + (sum & 0xffffffff); /* at most 33 bits */
    sum = (sum >> 16) + (sum & 0xffff);     /* at most 18 bits */
    sum = (sum >> 16) + (sum & 0xffff);     /* at most 17 bits */
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint32_t)sum;
}

/* Each 64-bit load is split into halves, whose sums cannot overflow: no carry to look after, and two
 * independent chains of additions. */
uint64_t rk_sum_portable(const uint8_t *data, size_t len)
{
    uint64_t low = 0, high = 0;
    for (; len >= 32; data += 32, len -= 32) {
        for (size_t i = 0; i < 32; i += 8) {
            uint64_t words = load_native64(data + i);
            low += words & 0xffffffff;
            high += words >> 32;
        }
    }
    return sum_words(add_carry(low, high), data, len);
}

#ifdef __x86_64__
/* Four lanes of 64 bits a vector: `all` adds the lanes as they are, wrapping, `high` their upper halves.
 * The sum of the lower halves is then all - (high << 32), exact as long as it fits 64 bits (2^32 vectors).
 * That is three operations a vector, where masking both halves takes four. */
__attribute__((target("avx2"))) uint64_t rk_sum_avx2(const uint8_t *data, size_t len)
{
    __m256i all0 = _mm256_setzero_si256(), all1 = all0, high0 = all0, high1 = all0;
    for (; len >= 128; data += 128, len -= 128) {
        __m256i a = _mm256_loadu_si256((const __m256i_u *)(const void *)data);
        __m256i b = _mm256_loadu_si256((const __m256i_u *)(const void *)(data + 32));
        __m256i c = _mm256_loadu_si256((const __m256i_u *)(const void *)(data + 64));
        __m256i d = _mm256_loadu_si256((const __m256i_u *)(const void *)(data + 96));
        all0 = _mm256_add_epi64(all0, a);
        all1 = _mm256_add_epi64(all1, b);
        high0 = _mm256_add_epi64(high0, _mm256_srli_epi64(a, 32));
        high1 = _mm256_add_epi64(high1, _mm256_srli_epi64(b, 32));
        all0 = _mm256_add_epi64(all0, c);
        all1 = _mm256_add_epi64(all1, d);
        high0 = _mm256_add_epi64(high0, _mm256_srli_epi64(c, 32));
        high1 = _mm256_add_epi64(high1, _mm256_srli_epi64(d, 32));
    }
    for (; len >= 32; data += 32, len -= 32) {
        __m256i a = _mm256_loadu_si256((const __m256i_u *)(const void *)data);
        all0 = _mm256_add_epi64(all0, a);
        high0 = _mm256_add_epi64(high0, _mm256_srli_epi64(a, 32));
    }
    __m256i all = _mm256_add_epi64(all0, all1);
    __m256i high = _mm256_add_epi64(high0, high1);
    __m256i low = _mm256_sub_epi64(all, _mm256_slli_epi64(high, 32));
    __m256i both = _mm256_add_epi64(low, high);
    __m128i half = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    uint64_t sum = (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
    return sum_words(sum, data, len);
}
#endif

uint32_t rk_csum_add(uint32_t sum, const uint8_t *data, size_t len)
{
    uint64_t words = len < SHORT_LEN ? sum_words(0, data, len) : rk_cpu->sum(data, len);
    return fold((uint64_t)be16toh((uint16_t)fold(words)) + sum);
}

uint16_t rk_csum(const uint8_t *data, size_t len)
{
    return (uint16_t)~rk_csum_add(0, data, len);
}

uint32_t rk_csum_pseudo(const uint8_t *src, const uint8_t *dst, uint32_t addr_len, uint8_t protocol,
                        uint32_t upper_len)
{
    if (addr_len != 4 && addr_len != 16)
        return 0;
    uint32_t sum = fold((uint64_t)protocol + (upper_len >> 16) + (upper_len & 0xffff));
    sum = rk_csum_add(sum, src, addr_len);
    return rk_csum_add(sum, dst, addr_len);
}

/* RFC 1624 section 3, equation 3: HC' = ~(~HC + ~m + m').  Equation 4, which subtracts, can yield 0xffff
 * where a fresh calculation gives 0 (section 5); this one agrees with it unless all of the data is now zero. */
uint16_t rk_csum_update(uint16_t checksum, uint16_t old_word, uint16_t new_word)
{
    uint32_t sum = (uint32_t)(uint16_t)~checksum + (uint16_t)~old_word + new_word;
    return (uint16_t)~fold(sum);
}

/* RFC 9260 appendix A; the polynomial 0x1edc6f41 with its bits reversed, as data is shifted in lowest bit
 * first. */
#define CRC32C_POLYNOMIAL 0x82f63b78u

/* crc_table[k][n]: what octet n leaves in the state after k more zero octets. */
static uint32_t crc_table[8][256];

__attribute__((constructor)) static void fill_crc_table(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t state = n;
        for (int bit = 0; bit < 8; bit++)
            state = state & 1 ? state >> 1 ^ CRC32C_POLYNOMIAL : state >> 1;
        crc_table[0][n] = state;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t n = 0; n < 256; n++)
            crc_table[k][n] = crc_table[k - 1][n] >> 8 ^ crc_table[0][crc_table[k - 1][n] & 0xff];
}

uint32_t rk_crc32c_portable(uint32_t state, const uint8_t *data, size_t len)
{
    for (; len >= 8; data += 8, len -= 8) {
        uint32_t first = rk_load_le32(data) ^ state, second = rk_load_le32(data + 4);
        state = crc_table[7][first & 0xff] ^ crc_table[6][first >> 8 & 0xff] ^
                crc_table[5][first >> 16 & 0xff] ^ crc_table[4][first >> 24] ^
                crc_table[3][second & 0xff] ^ crc_table[2][second >> 8 & 0xff] ^
                crc_table[1][second >> 16 & 0xff] ^ crc_table[0][second >> 24];
    }
    for (; len; data++, len--)
        state = state >> 8 ^ crc_table[0][(state ^ *data) & 0xff];
    return state;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) uint32_t rk_crc32c_sse42(uint32_t state, const uint8_t *data, size_t len)
{
    for (; len >= 8; data += 8, len -= 8)
        state = (uint32_t)_mm_crc32_u64(state, load_native64(data));
    for (; len; data++, len--)
        state = _mm_crc32_u8(state, *data);
    return state;
}
#endif

uint32_t rk_crc32c(uint32_t crc, const uint8_t *data, size_t len)
{
    return ~rk_cpu->crc32c(~crc, data, len);
}
