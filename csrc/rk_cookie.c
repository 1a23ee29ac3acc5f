/* SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF"): the keyed hash behind probe
 * cookies.  Two rounds for each 8 octets of data, four at the end. */
#include "rk.h"
#include "rk_internal.h"

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static inline void sip_round(struct sip_state *s)
{
    s->v0 += s->v1;
    s->v1 = rotate_left(s->v1, 13) ^ s->v0;
    s->v0 = rotate_left(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotate_left(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotate_left(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotate_left(s->v1, 17) ^ s->v2;
    s->v2 = rotate_left(s->v2, 32);
}

static inline void sip_word(struct sip_state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    sip_round(s);
    s->v0 ^= word;
}

uint64_t rk_cookie(const uint8_t *key, const uint8_t *data, size_t len)
{
    uint64_t k0 = rk_load_le64(key), k1 = rk_load_le64(key + 8);
    /* The ASCII text "somepseudorandomlygeneratedbytes". */
    struct sip_state s = {
        k0 ^ 0x736f6d6570736575,
        k1 ^ 0x646f72616e646f6d,
        k0 ^ 0x6c7967656e657261,
        k1 ^ 0x7465646279746573,
    };
    /* The last word carries the length, modulo 256, in its top octet. */
    uint64_t last = (uint64_t)len << 56;
    for (; len >= 8; data += 8, len -= 8)
        sip_word(&s, rk_load_le64(data));
    for (size_t i = 0; i < len; i++)
        last |= (uint64_t)data[i] << (8 * i);
    sip_word(&s, last);
    s.v2 ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
