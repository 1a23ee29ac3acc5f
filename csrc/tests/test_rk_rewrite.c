/* Rewriting: octets that can be worked out by hand, rules that are none, and any octets, whose checksums must keep
 * the state they had. What packets become is compared with others' programs from Python. */
#include "rk_test.h"

#include "rk_internal.h"

static const uint8_t syn[54] = {
    0x00, 0x00, 0x5e, 0x00, 0x53, 2, 0x00, 0x00, 0x5e, 0x00, 0x53, 1, 0x08, 0x00,
    0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    0, 80, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0};

static uint16_t tcp_checksum(const uint8_t *ip, uint32_t tcp_len)
{
    return (uint16_t)~rk_csum_add(rk_csum_pseudo(ip + 12, ip + 16, 4, 6, tcp_len), ip + 20, tcp_len);
}

static struct rk_rewrite rules_of(const struct rk_rewrite_prefix *prefixes, uint32_t n)
{
    return (struct rk_rewrite){.prefixes = prefixes, .prefixes_n = n};
}

static void test_addresses(void)
{
    static const struct rk_rewrite_prefix prefixes[] = {
        {.from = {10}, .from_bits = 7, .to = {192, 168}, .to_bits = 12, .addr_len = 4, .ends = 2},
        {.from = {10}, .from_bits = 8, .to = {127}, .to_bits = 32, .addr_len = 4, .ends = 3},
    };
    uint8_t frame[sizeof syn];
    memcpy(frame, syn, sizeof syn);
    rk_store_be16(frame + 24, rk_csum(frame + 14, 20));
    rk_store_be16(frame + 50, tcp_checksum(frame + 14, 20));
    struct rk_batch *batch = new_batch(2, 2 * sizeof frame), *out = new_batch(2, 2 * sizeof frame + 8);
    add(batch, frame, sizeof frame);
    add(batch, frame, 13);
    struct rk_rewrite_counters counters = {0};
    struct rk_rewrite rules = rules_of(prefixes, 2);
    EXPECT(rk_rewrite(&rules, batch, 0, 2, out, &counters), 2);
    EXPECT(counters.changed, 1);
    EXPECT(out->frames[1].cap_len, 13);
    static const uint8_t want[8] = {127, 0, 0, 0, 192, 160, 0, 2};
    const uint8_t *after = out->arena;
    EXPECT(memcmp(after + 26, want, 8), 0);
    EXPECT(rk_csum(after + 14, 20), 0);
    EXPECT(tcp_checksum(after + 14, 20), 0);

    /* Room for the first alone, for none; rules and ranges that are none. */
    out->n = out->arena_used = 0;
    out->arena_len = sizeof frame + 13 + 3;
    EXPECT(rk_rewrite(&rules, batch, 0, 2, out, &counters), 1);
    EXPECT(rk_rewrite(&rules, batch, 0, 2, out, &counters), 0);
    EXPECT(rk_rewrite(&rules, batch, 1, 2, out, &counters), -EINVAL);
    batch->frames[1].offset = UINT32_MAX;
    out->n = out->arena_used = 0;
    EXPECT(rk_rewrite(&rules, batch, 1, 1, out, &counters), -EINVAL);
    struct rk_rewrite_prefix wrong = {.from_bits = 33, .addr_len = 4};
    struct rk_rewrite none = rules_of(&wrong, 1);
    EXPECT(rk_rewrite(&none, batch, 0, 1, out, &counters), -EINVAL);
    struct rk_anonymous anonymous = {0};
    rules.anonymous = &anonymous; /* and prefixes */
    EXPECT(rk_rewrite(&rules, batch, 0, 1, out, &counters), -EINVAL);
    rules.anonymous = NULL;
    rules.link = RK_LINK_SLL2 + 1;
    EXPECT(rk_rewrite(&rules, batch, 0, 1, out, &counters), -EINVAL);
    rules.link = RK_LINK_ETHERNET;
    rules.flags = RK_REWRITE_ALL + 1;
    EXPECT(rk_rewrite(&rules, batch, 0, 1, out, &counters), -EINVAL);
    drop_batch(batch);
    drop_batch(out);
}

/* Beginnings after which any octets are worth looking at. */
static const uint8_t starts[][8] = {{0x08, 0, 0x45}, {0x08, 0, 0x4f}, {0x86, 0xdd, 0x60}, {0x81, 0, 0, 7, 0x86, 0xdd, 0x60},
                                    {0x08, 6, 0, 1, 8, 0, 6, 4}};

static void test_any_octets(void)
{
    static const uint8_t protocols[] = {0, 1, 6, 17, 43, 44, 51, 58, 60, 132, 136};
    static const struct rk_rewrite_prefix prefixes[] = {
        {.to = {1, 2, 3, 4}, .to_bits = 29, .addr_len = 4, .ends = 3},
        {.to = {1, 2, 3, 4, 5, 6}, .to_bits = 45, .addr_len = 16, .ends = 3},
    };
    static struct rk_anonymous_known known[64];
    static const struct rk_anonymous anonymous = {.known = known, .known_n = 64, .key = {1, 2, 3}};
    static uint16_t ports[65536];
    for (uint32_t i = 0; i < 65536; i++)
        ports[i] = (uint16_t)(i ^ 0x5555);
    uint64_t state = 88172645463325252u;
    struct rk_rewrite_counters counters = {0};
    for (int round = 0; round < 20000; round++) {
        uint8_t frame[160];
        uint32_t len = 14 + (uint32_t)(next_number(&state) % (sizeof frame - 14));
        for (uint32_t i = 0; i < len; i++)
            frame[i] = (uint8_t)(next_number(&state) >> 40);
        size_t kind = next_number(&state) % (sizeof starts / sizeof *starts);
        for (uint32_t i = 0; i < 8 && 12 + i < len; i++)
            frame[12 + i] = starts[kind][i];
        if (len > 40) {
            frame[kind < 2 ? 23 : kind == 2 ? 20 : 24] = protocols[next_number(&state) % sizeof protocols];
            if (kind < 2) {
                rk_store_be16(frame + 16, (uint16_t)(next_number(&state) % 200));
                frame[20] &= 0x60;
            } else {
                rk_store_be16(frame + (kind == 2 ? 18 : 22), (uint16_t)(next_number(&state) % 200));
            }
        }
        struct rk_batch *batch = new_batch(1, len), *out = new_batch(1, len + 4);
        add(batch, frame, len);
        struct rk_rewrite rules = rules_of(prefixes, 2);
        rules.ports = round & 1 ? ports : NULL;
        rules.flags = (uint32_t)next_number(&state) & RK_REWRITE_ALL;
        rules.vlan_tpid = 0x8100;
        if (round & 4) {
            rules = (struct rk_rewrite){.anonymous = &anonymous, .flags = rules.flags, .link = (uint32_t)round / 8 % 16};
            rules.link = rules.link > RK_LINK_SLL2 ? RK_LINK_ETHERNET : rules.link;
        }
        batch->frames[0].flags = round & 2 ? RK_FRAME_CSUM_NOT_READY : 0;
        EXPECT(rk_rewrite(&rules, batch, 0, 1, out, &counters), 1);
        EXPECT(out->frames[0].cap_len <= len + 4, 1);
        EXPECT(memcmp(batch->arena, frame, len), 0);
        drop_batch(batch);
        drop_batch(out);
    }
    EXPECT(counters.changed > 10000 && counters.finished > 100, 1);
}

int main(void)
{
    test_addresses();
    test_any_octets();
    return result();
}
