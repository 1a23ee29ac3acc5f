/* Any octets as a frame being rewritten or made anonymous, and as one of a flow: nothing outside it is read or written, the original
 * stays, the result is the same each time, and an IPv4 header that was good is good.
 *
 * The first octet says which link it is from and what is changed, the second the other flags. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "rk.h"
#include "rk_internal.h"

static const struct rk_rewrite_prefix prefixes[] = {
    {.from = {192, 0, 2}, .from_bits = 20, .to = {10, 1}, .to_bits = 13, .addr_len = 4, .ends = 3},
    {.to = {1, 2, 3, 4}, .to_bits = 29, .addr_len = 4, .ends = 2},
    {.to = {0x20, 1, 0x0d, 0xb8}, .to_bits = 45, .addr_len = 16, .ends = 3},
};
static const struct rk_anonymous_prefix kept[] = {
    {.prefix = {224}, .bits = 4, .addr_len = 4},
    {.prefix = {0xff}, .bits = 12, .addr_len = 16, .whole = 1},
};
static uint16_t ports[65536];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    for (uint32_t i = 0; i < 65536; i++)
        ports[i] = (uint16_t)(i ^ 0x5555);
    return 0;
}

static bool good_header(const uint8_t *octets, uint32_t len)
{
    uint32_t header_len = len > 0 ? (octets[0] & 15) * 4u : 0;
    return len >= 20 && octets[0] >> 4 == 4 && header_len >= 20 && header_len <= len && rk_csum(octets, header_len) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 65536)
        return 0;
    uint32_t len = (uint32_t)size - 2;
    struct rk_anonymous_known known[4] = {0};
    struct rk_anonymous anonymous = {
        .kept = kept, .kept_n = 2, .known = known, .known_n = data[0] & 8 ? 4 : 0, .key = {1, 2, 3}};
    struct rk_rewrite rules = {.link = (data[0] & 7) % 5, .flags = data[1] & 127, .vlan_tpid = 0x8100, .hop_limit = 7};
    if (data[0] & 16) {
        rules.anonymous = &anonymous;
        rules.flags |= data[0] & 32 ? RK_REWRITE_KEEP_PAYLOAD : 0;
        rules.flags |= data[0] & 64 ? RK_REWRITE_CUT : 0;
    } else {
        rules.prefixes = prefixes;
        rules.prefixes_n = 3;
        rules.ports = data[0] & 32 ? ports : NULL;
    }
    /* Each as long as it may be, so that the sanitizer sees every octet too far. */
    uint8_t *octets = malloc(len ? len : 1), *results[2];
    memcpy(octets, data + 2, len);
    struct rk_frame frame = {
        .cap_len = len, .wire_len = len, .flags = data[1] & 128 ? RK_FRAME_CSUM_NOT_READY : 0};
    struct rk_batch batch = {.arena = octets, .frames = &frame, .arena_len = len, .arena_used = len, .capacity = 1, .n = 1};
    /* The same octets as a packet of a flow, twice. */
    struct rk_flows *flows;
    uint32_t number[2] = {0};
    if (rk_flows_open(&flows, 8) != 0)
        abort();
    for (int i = 0; i < 2; i++)
        if (rk_flows_add(flows, rules.link, &batch, &number[i]) != (number[0] ? 1 : 0))
            abort();
    const struct rk_flow *flow = rk_flows_rows(flows);
    if (number[0] != number[1] || (number[0] && flow->packets[0] + flow->packets[1] != 2))
        abort();
    rk_flows_close(flows);
    struct rk_frame row;
    for (int i = 0; i < 2; i++) {
        results[i] = malloc(len + 4);
        struct rk_batch out = {.arena = results[i], .frames = &row, .arena_len = len + 4, .capacity = 1};
        struct rk_rewrite_counters counters = {0};
        if (rk_rewrite(&rules, &batch, 0, 1, &out, &counters) != 1 || row.cap_len > len + 4)
            abort();
    }
    if (memcmp(octets, data + 2, len) != 0 || memcmp(results[0], results[1], row.cap_len) != 0)
        abort();
    if (rules.link == RK_LINK_IP && good_header(octets, len) && !good_header(results[0], row.cap_len))
        abort();
    for (int i = 0; i < 2; i++)
        free(results[i]);
    free(octets);
    return 0;
}
