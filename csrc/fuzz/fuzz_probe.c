/* Any octets as a reply: rk_probe_match must read nothing outside them and write nothing outside replies.
 * Any octets as a template: so must rk_probe_fill.
 *
 * The fuzzer cannot guess a cookie.  Packets may therefore be offered twice, as it is and with the
 * acknowledgement, the echoed or the quoted number made right, where a header without options would have it. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "rk.h"
#include "rk_internal.h"

#define FRAMES 8
#define REPLIES 3

static const uint8_t template4[44] = {
    0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 9, 192, 0, 2, 1, /* IPv4 */
    0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 2, 4, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4,
};
static const uint8_t template6[60] = {
    0x60, 0, 0, 0, 0, 20, 6, 64, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, /* IPv6 */
    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0,
};

static const uint8_t echo4[40] = {
    0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 1, 0, 0, 192, 0, 2, 9, 192, 0, 2, 1, /* IPv4 */
    8, 0, 0, 0, 0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4,
};
static const uint8_t echo6[60] = {
    0x60, 0, 0, 0, 0, 20, 58, 64, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, /* IPv6 */
    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    128, 0, 0, 0, 0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4,
};

static uint64_t cookie(const struct rk_probe_plan *plan, const uint8_t *address, uint32_t addr_len,
                       const uint8_t *port)
{
    uint8_t data[20] = {0};
    memcpy(data, address, addr_len);
    memcpy(data + 16, port, 2);
    rk_store_be16(data + 18, 40000);
    return rk_cookie(plan->key, data, sizeof data);
}

static void repair(const struct rk_probe_plan *plan, uint8_t *packet, size_t len)
{
    uint32_t addr_len = plan->packet == template4 || plan->packet == echo4 ? 4 : 16, ip_len = addr_len == 4 ? 20 : 40;
    if (len >= ip_len + 20 && packet[addr_len == 4 ? 9 : 6] == 6) {
        rk_store_be16(packet + ip_len + 2, 40000);
        rk_store_be32(packet + ip_len + 8,
                      (uint32_t)cookie(plan, packet + (addr_len == 4 ? 12 : 8), addr_len, packet + ip_len) + 1);
    } else if (len >= ip_len + 16 && packet[ip_len] == (addr_len == 4 ? 0 : 129)) {
        rk_store_be16(packet + ip_len + 4, 40000);
        rk_store_be64(packet + ip_len + 8,
                      cookie(plan, packet + (addr_len == 4 ? 12 : 8), addr_len, packet + ip_len + 6));
    } else if (len >= 2 * ip_len + 16) {
        uint8_t *quoted = packet + ip_len + 8, *tcp = quoted + ip_len;
        rk_store_be16(tcp, 40000);
        rk_store_be32(tcp + 4, (uint32_t)cookie(plan, quoted + (addr_len == 4 ? 16 : 24), addr_len, tcp + 2));
    }
}

static void match(const struct rk_probe_plan *plan, struct rk_batch *batch, uint32_t link_skip)
{
    struct rk_probe_reply *replies = malloc(REPLIES * sizeof *replies);
    uint32_t next = 0, before;
    do {
        before = next;
        int n = rk_probe_match(plan, batch, link_skip, before, replies, REPLIES, &next);
        if (n < 0 || n > REPLIES || next > batch->n || next < before + (uint32_t)n)
            abort();
        for (int i = 0; i < n; i++)
            if (replies[i].state < RK_PROBE_OPEN || replies[i].state > RK_PROBE_DAMAGED)
                abort();
    } while (next != before);
    if (next != batch->n)
        abort();
    free(replies);
}

static void fill(const struct rk_probe_plan *plan, const uint8_t *octets, size_t len)
{
    static const struct rk_span spans[1] = {{.first = {192, 0, 2, 1}, .n = 2}};
    static const uint16_t ports[3] = {1, 80, 65535};
    struct rk_probe_plan mutated = *plan;
    mutated.packet = octets;
    mutated.packet_len = (uint32_t)len;
    mutated.spans = spans;
    mutated.spans_n = 1;
    mutated.addresses_n = 2;
    mutated.ports = ports;
    mutated.ports_n = 3;
    struct rk_frame frames[4];
    uint32_t arena_len = 3 * (uint32_t)len + 1;
    struct rk_batch batch = {
        .arena = malloc(arena_len), .frames = frames, .arena_len = arena_len, .capacity = 4};
    int n = rk_probe_fill(&mutated, &batch, 1, 5);
    if (n >= 0 && n != 3)
        abort();
    free(batch.arena);
}

/* The first octet says: bit 0 the family, bit 1 whether to repair, bit 2 a link header, bit 3 to fill rather
 * than match, bit 4 echo requests rather than SYNs; the rest is cut into frames of the length that an octet before each gives. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096)
        return 0;
    uint8_t choice = *data++;
    size--;
    bool echo = choice & 16;
    struct rk_probe_plan plan = {
        .packet = choice & 1 ? (echo ? echo6 : template6) : (echo ? echo4 : template4),
        .packet_len = choice & 1 ? sizeof template6 : echo ? sizeof echo4 : sizeof template4,
        .key = "a key of 16 oct",
    };
    uint32_t link_skip = choice & 4 ? 14 : 0;
    if (choice & 8) {
        fill(&plan, data, size);
        return 0;
    }
    uint8_t *arena = malloc(size ? size : 1);
    struct rk_frame frames[FRAMES];
    struct rk_batch batch = {
        .arena = arena, .frames = frames, .arena_len = (uint32_t)size, .capacity = FRAMES};
    if (size)
        memcpy(arena, data, size);
    size_t at = 0;
    while (at < size && batch.n < FRAMES) {
        size_t len = arena[at++];
        /* The last frame takes all that is left: it ends where the allocation does. */
        if (len > size - at || batch.n == FRAMES - 1)
            len = size - at;
        frames[batch.n++] = (struct rk_frame){.offset = (uint32_t)at, .cap_len = (uint32_t)len};
        at += len;
    }
    match(&plan, &batch, link_skip);
    if (choice & 2) {
        for (uint32_t i = 0; i < batch.n; i++)
            if (frames[i].cap_len > link_skip)
                repair(&plan, arena + frames[i].offset + link_skip, frames[i].cap_len - link_skip);
        match(&plan, &batch, link_skip);
    }
    free(arena);
    return 0;
}
