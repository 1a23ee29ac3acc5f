/* rk_anonymise.c: other addresses in place of addresses, by a key, so that two which share a prefix of any length
 * share one of the same length afterwards (Xu, Fan, Ammar and Moon, "Prefix-preserving IP address anonymization",
 * ICNP 2002; here with SipHash in place of AES).
 *
 * Each bit is flipped or not by a function of the key and the bits before it.  An address's octet has 255 places at
 * which that is decided: one bit in four hashes of all octets before it. */
#include "rk.h"

#include <errno.h>

#include "rk_internal.h"

#define MAC_LEN 6

static uint32_t common_bits(const uint8_t *a, const uint8_t *b, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        if (a[i] != b[i])
            return i * 8 + (uint32_t)__builtin_clz((uint32_t)(a[i] ^ b[i]) << 24);
    return len * 8;
}

/* How many bits from the start stay as they are. That of two addresses with a prefix to be kept only one has it must
 * not change either, so the bit behind what an address shares with such a prefix stays too. */
static uint32_t kept_bits(const struct rk_anonymous *map, const uint8_t *address, uint32_t addr_len)
{
    uint32_t kept = 0, longest = 0;
    bool whole = false;
    for (uint32_t i = 0; i < map->kept_n; i++) {
        const struct rk_anonymous_prefix *prefix = &map->kept[i];
        if (prefix->addr_len != addr_len)
            continue;
        uint32_t common = common_bits(address, prefix->prefix, addr_len);
        uint32_t here = common < prefix->bits ? common + 1 : prefix->bits;
        if (here > kept)
            kept = here;
        if (common >= prefix->bits && prefix->bits >= longest) {
            longest = prefix->bits;
            whole = prefix->whole;
        }
    }
    return whole ? addr_len * 8 : kept;
}

/* Word `which` of the decisions for octet `at`, which depend on all octets before it. */
static uint64_t decisions(const struct rk_anonymous *map, const uint8_t *address, uint32_t addr_len, uint32_t at,
                          uint8_t which)
{
    uint8_t data[3 + 16] = {(uint8_t)addr_len, (uint8_t)at, which};
    memcpy(data + 3, address, at);
    return rk_cookie(map->key, data, 3 + at);
}

static void hide_ip(const struct rk_anonymous *map, const uint8_t *address, uint32_t addr_len, uint8_t *out)
{
    uint32_t kept = kept_bits(map, address, addr_len);
    memcpy(out, address, addr_len);
    for (uint32_t at = kept / 8; at < addr_len; at++) {
        uint32_t node = 1;
        uint64_t word = decisions(map, address, addr_len, at, 0);
        uint8_t flips = 0;
        for (uint32_t bit = 0; bit < 8; bit++) {
            if (bit >= 6)
                word = decisions(map, address, addr_len, at, (uint8_t)(node >> 6));
            bool flip = word >> (node & 63) & 1 && at * 8 + bit >= kept;
            flips = (uint8_t)(flips << 1 | flip);
            node = node << 1 | (address[at] >> (7 - bit) & 1);
        }
        out[at] ^= flips;
    }
}

/* The bits for a group and for a local address stay, and groups that stand for a protocol. */
static void hide_mac(const struct rk_anonymous *map, const uint8_t *address, uint8_t *out)
{
    static const uint8_t fixed[][3] = {{0x01, 0x80, 0xc2}, {0x01, 0x00, 0x0c}, {0x01, 0x1b, 0x19}};
    static const uint8_t none[MAC_LEN], all[MAC_LEN] = {255, 255, 255, 255, 255, 255};
    memcpy(out, address, MAC_LEN);
    if (memcmp(address, none, MAC_LEN) == 0 || memcmp(address, all, MAC_LEN) == 0)
        return;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (memcmp(address, fixed[i], 3) == 0)
            return;
    uint8_t hash[8], data[3 + MAC_LEN] = {MAC_LEN};
    memcpy(data + 3, address, MAC_LEN);
    rk_store_le64(hash, rk_cookie(map->key, data, sizeof data));
    static const uint8_t ip4_group[] = {0x01, 0x00, 0x5e}, ip6_group[] = {0x33, 0x33};
    uint32_t from = 0;
    if (memcmp(address, ip4_group, sizeof ip4_group) == 0)
        from = sizeof ip4_group;
    else if (memcmp(address, ip6_group, sizeof ip6_group) == 0)
        from = sizeof ip6_group;
    memcpy(out + from, hash + from, MAC_LEN - from);
    if (from == 0)
        out[0] = (uint8_t)((hash[0] & 0xfc) | (address[0] & 3));
    if (from == sizeof ip4_group)
        out[3] &= 0x7f;
}

int rk_anonymous_address(const struct rk_anonymous *map, uint8_t *address, uint32_t addr_len)
{
    if (addr_len != 4 && addr_len != MAC_LEN && addr_len != 16)
        return -EINVAL;
    struct rk_anonymous_known *known = NULL;
    if (map->known_n > 0) {
        uint64_t words[2] = {addr_len, 0};
        memcpy(&words[addr_len == 16 ? 0 : 1], address, addr_len);
        known = &map->known[rk_hash(words[0], words[1]) % map->known_n];
        if (known->addr_len == addr_len && memcmp(known->from, address, addr_len) == 0) {
            memcpy(address, known->to, addr_len);
            return 0;
        }
    }
    uint8_t out[16];
    if (addr_len == MAC_LEN)
        hide_mac(map, address, out);
    else
        hide_ip(map, address, addr_len, out);
    if (known) {
        known->addr_len = addr_len;
        memcpy(known->from, address, addr_len);
        memcpy(known->to, out, addr_len);
    }
    memcpy(address, out, addr_len);
    return 0;
}
