/* Every variant of the checksums against the definitions, written here word by word and bit by bit. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rk.h"
#include "rk_internal.h"

static int failures;

#define EXPECT(got, want, ...)                                                      \
    do {                                                                            \
        long long got_ = (got), want_ = (want);                                     \
        if (got_ != want_ && failures++ < 20) {                                     \
            fprintf(stderr, "line %d: %#llx, want %#llx: ", __LINE__, got_, want_); \
            fprintf(stderr, __VA_ARGS__);                                           \
            fputc('\n', stderr);                                                    \
        }                                                                           \
    } while (0)

/* RFC 1071 section 4.1, folding after every word. */
static uint32_t naive_sum(uint32_t sum, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i += 2) {
        sum += (uint32_t)data[i] << 8 | (i + 1 < len ? data[i + 1] : 0);
        sum = (sum >> 16) + (sum & 0xffff);
    }
    return sum;
}

/* One bit at a time; the bits of an octet go in lowest first. */
static uint32_t naive_crc32c(uint32_t crc, const uint8_t *data, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++)
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (((crc ^ (uint32_t)data[i] >> bit) & 1) ? 0x82f63b78u : 0);
    return ~crc;
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

/* xorshift64 (Marsaglia). */
static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void fill_random(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)next_random();
}

/* Each piece lies in an allocation that ends where it ends, so that the sanitizers see a read past it. */
static void check_lengths(int level, const uint8_t *source)
{
    for (size_t shift = 0; shift < 32; shift++) {
        for (size_t len = 0; len <= 300; len++) {
            void *room;
            if (posix_memalign(&room, 32, shift + len ? shift + len : 1))
                abort();
            uint8_t *data = (uint8_t *)room + shift;
            memcpy(data, source + shift, len);
            EXPECT(rk_csum_add(0, data, len), naive_sum(0, data, len),
                   "sum, level %d length %zu alignment %zu", level, len, shift);
            EXPECT(rk_csum_add(0xfffe, data, len), naive_sum(0xfffe, data, len),
                   "sum on 0xfffe, level %d length %zu alignment %zu", level, len, shift);
            EXPECT(rk_csum(data, len), (uint16_t)~naive_sum(0, data, len),
                   "checksum, level %d length %zu alignment %zu", level, len, shift);
            EXPECT(rk_crc32c(0, data, len), naive_crc32c(0, data, len),
                   "CRC32c, level %d length %zu alignment %zu", level, len, shift);
            free(room);
        }
    }
}

static void check_big(int level)
{
    static const size_t lens[] = {1499, 1500, 9000, 65535, 65536, 65537, 1 << 20, (1 << 20) + 77};
    uint8_t *data = malloc((1 << 20) + 77);
    for (int fill = 0; fill < 3; fill++) {
        if (fill == 2)
            fill_random(data, (1 << 20) + 77);
        else
            memset(data, fill ? 0xff : 0, (1 << 20) + 77);
        for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
            EXPECT(rk_csum_add(0, data, lens[i]), naive_sum(0, data, lens[i]),
                   "level %d fill %d length %zu", level, fill, lens[i]);
            EXPECT(rk_crc32c(0, data, lens[i]), naive_crc32c(0, data, lens[i]), "level %d fill %d length %zu",
                   level, fill, lens[i]);
            /* In two pieces, the first of even length for the sum. */
            size_t cut = lens[i] / 3 & ~(size_t)1;
            EXPECT(rk_csum_add(rk_csum_add(0, data, cut), data + cut, lens[i] - cut),
                   naive_sum(0, data, lens[i]), "pieces, level %d fill %d length %zu", level, fill, lens[i]);
            EXPECT(rk_crc32c(rk_crc32c(0, data, cut + 1), data + cut + 1, lens[i] - cut - 1),
                   rk_crc32c(0, data, lens[i]), "pieces, level %d fill %d length %zu", level, fill, lens[i]);
        }
    }
    free(data);
}

/* Sums that are nearly, just and barely more than a multiple of 0xffff. */
static void check_carries(int level)
{
    for (size_t len = 2; len <= 300; len++) {
        uint8_t data[300];
        for (int last = 0xfd; last <= 0xff; last++) {
            for (int first = 0; first <= 2; first++) {
                memset(data, 0xff, len);
                data[len - 1] = (uint8_t)last;
                data[0] = 0;
                data[1] = (uint8_t)first;
                EXPECT(rk_csum_add(0, data, len), naive_sum(0, data, len),
                       "level %d length %zu first %d last %d", level, len, first, last);
            }
        }
        memset(data, 0, len);
        EXPECT(rk_csum(data, len), 0xffff, "all zero, level %d length %zu", level, len);
        memset(data, 0xff, len & ~(size_t)1);
        EXPECT(rk_csum(data, len & ~(size_t)1), 0, "all ones, level %d length %zu", level, len);
    }
}

static void check_vectors(int level)
{
    /* RFC 1071 section 3. */
    static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    EXPECT(rk_csum_add(0, example, sizeof example), 0xddf2, "RFC 1071, level %d", level);
    /* The CRC's check value, and RFC 3720 section B.4. */
    EXPECT(rk_crc32c(0, (const uint8_t *)"123456789", 9), 0xe3069283, "level %d", level);
    uint8_t data[32];
    memset(data, 0, 32);
    EXPECT(rk_crc32c(0, data, 32), 0x8a9136aa, "32 zeros, level %d", level);
    memset(data, 0xff, 32);
    EXPECT(rk_crc32c(0, data, 32), 0x62a8ab43, "32 ones, level %d", level);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    EXPECT(rk_crc32c(0, data, 32), 0x46dd794e, "32 rising, level %d", level);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (uint8_t)(31 - i);
    EXPECT(rk_crc32c(0, data, 32), 0x113fdb5c, "32 falling, level %d", level);
}

static void check_update(void)
{
    /* RFC 1624 section 4: a word goes from 0x5555 to 0x3285, where equation 2 gives 0xffff. */
    EXPECT(rk_csum_update(0xdd2f, 0x5555, 0x3285), 0x0000, "RFC 1624");
    for (int round = 0; round < 200000; round++) {
        uint8_t data[20];
        fill_random(data, sizeof data);
        if (round & 1) /* few distinct words, so that the sum is often 0 or 0xffff */
            for (size_t i = 0; i < sizeof data; i++)
                data[i] = data[i] & 1 ? 0xff : 0;
        data[19] |= 1; /* never all zero */
        size_t at = 2 * (next_random() % 9);
        uint16_t old_word = rk_load_be16(data + at);
        uint16_t new_word = round % 3 ? (uint16_t)next_random() : (uint16_t)~old_word;
        uint16_t before = rk_csum(data, sizeof data);
        rk_store_be16(data + at, new_word);
        EXPECT(rk_csum_update(before, old_word, new_word), rk_csum(data, sizeof data), "%#x: %#x to %#x",
               before, old_word, new_word);
    }
}

static void check_pseudo(void)
{
    for (int round = 0; round < 1000; round++) {
        uint8_t header[40] = {0};
        fill_random(header, 8);
        uint16_t udp_len = (uint16_t)next_random();
        header[9] = 17;
        rk_store_be16(header + 10, udp_len);
        EXPECT(rk_csum_pseudo(header, header + 4, 4, 17, udp_len), naive_sum(0, header, 12), "IPv4");

        fill_random(header, 36);
        memset(header + 36, 0, 4);
        header[39] = 58;
        uint32_t upper_len = rk_load_be32(header + 32);
        EXPECT(rk_csum_pseudo(header, header + 16, 16, 58, upper_len), naive_sum(0, header, 40), "IPv6");
    }
    uint8_t address[16] = {1};
    EXPECT(rk_csum_pseudo(address, address, 6, 17, 8), 0, "no such address length");
}

int main(void)
{
    uint8_t source[332];
    fill_random(source, sizeof source);
    int best = rk_cpu_level();
    for (int level = RK_CPU_PORTABLE; level <= best; level++) {
        EXPECT(rk_cpu_set_level(level), 0, "set level %d", level);
        EXPECT(rk_cpu_level(), level, "level");
        check_lengths(level, source);
        memset(source, 0xff, sizeof source);
        check_lengths(level, source);
        fill_random(source, sizeof source);
        check_big(level);
        check_carries(level);
        check_vectors(level);
        check_update();
        check_pseudo();
    }
    EXPECT(rk_cpu_set_level(-1), -ENOTSUP, "level -1");
    EXPECT(rk_cpu_set_level(RK_CPU_AVX2 + 1), -ENOTSUP, "level beyond the last");
    EXPECT(rk_cpu_level(), best, "level after refusals");
    printf("levels 0..%d, %d failures\n", best, failures);
    return failures != 0;
}
