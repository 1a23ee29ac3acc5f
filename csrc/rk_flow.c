/* rk_flow.c: which packets belong together: a table of the pairs of ends that packets go between. */
#include "rk.h"

#include <errno.h>
#include <stdlib.h>

#include "rk_internal.h"

#define FLOWS_MAX (1u << 26)
#define FLOWS_FIRST 1024u
#define ETHERNET_LEN 14u
#define IP4_LEN 20u
#define IP6_LEN 40u

enum { TCP = 6, UDP = 17, DCCP = 33, AH = 51, SCTP = 132, UDP_LITE = 136 };

struct rk_flows {
    struct rk_flow *rows;
    uint32_t *slots; /* 0: free, else the number of a flow; twice as many as rows, a power of 2 */
    uint32_t n;
    uint32_t room;
    uint32_t most;
    uint64_t left_out;
};

/* The ends of one packet. */
struct ends {
    uint8_t src[16];
    uint8_t dst[16];
    uint16_t sport;
    uint16_t dport;
    uint8_t protocol;
    uint8_t addr_len;
};

static void take_ports(struct ends *ends, const uint8_t *octets, uint32_t len)
{
    uint8_t protocol = ends->protocol;
    bool ports = protocol == TCP || protocol == UDP || protocol == DCCP || protocol == SCTP || protocol == UDP_LITE;
    if (ports && len >= 4) {
        ends->sport = rk_load_be16(octets);
        ends->dport = rk_load_be16(octets + 2);
    }
}

static bool ends_of_ip4(struct ends *ends, const uint8_t *octets, uint32_t len)
{
    uint32_t header_len = (octets[0] & 15) * 4u;
    if (header_len < IP4_LEN || len < header_len)
        return false;
    ends->addr_len = 4;
    ends->protocol = octets[9];
    memcpy(ends->src, octets + 12, 4);
    memcpy(ends->dst, octets + 16, 4);
    if ((rk_load_be16(octets + 6) & 0x1fff) == 0)
        take_ports(ends, octets + header_len, len - header_len);
    return true;
}

static bool ends_of_ip6(struct ends *ends, const uint8_t *octets, uint32_t len)
{
    ends->addr_len = 16;
    memcpy(ends->src, octets + 8, 16);
    memcpy(ends->dst, octets + 24, 16);
    uint8_t next = octets[6];
    uint32_t at = IP6_LEN;
    bool first = true;
    while (first && len - at >= 8 && (next == 0 || next == 43 || next == 44 || next == AH || next == 60)) {
        uint32_t header_len = next == 44 ? 8 : next == AH ? octets[at + 1] * 4u + 8 : octets[at + 1] * 8u + 8;
        if (header_len > len - at)
            break;
        first = next != 44 || rk_load_be16(octets + at + 2) >> 3 == 0;
        next = octets[at];
        at += header_len;
    }
    ends->protocol = next;
    if (first)
        take_ports(ends, octets + at, len - at);
    return true;
}

/* Where IP begins in a frame; len when it does not. */
static uint32_t ip_of(uint32_t link, const uint8_t *octets, uint32_t len)
{
    uint32_t at, type_at;
    switch (link) {
    case RK_LINK_IP:
        return 0;
    case RK_LINK_NULL:
        return len < 4 ? len : 4;
    case RK_LINK_SLL:
        type_at = 14, at = 16;
        break;
    case RK_LINK_SLL2:
        type_at = 0, at = 20;
        break;
    default:
        type_at = 12, at = ETHERNET_LEN;
        for (; at + 4 <= len; at += 4, type_at += 4) {
            uint16_t type = rk_load_be16(octets + type_at);
            if (type != 0x8100 && type != 0x88a8 && type != 0x9100)
                break;
        }
    }
    if (at > len)
        return len;
    uint16_t type = rk_load_be16(octets + type_at);
    return type == 0x0800 || type == 0x86dd ? at : len;
}

static bool ends_of(struct ends *ends, uint32_t link, const uint8_t *octets, uint32_t len)
{
    uint32_t at = ip_of(link, octets, len);
    octets += at;
    len -= at;
    *ends = (struct ends){0};
    if (len >= IP4_LEN && octets[0] >> 4 == 4)
        return ends_of_ip4(ends, octets, len);
    return len >= IP6_LEN && octets[0] >> 4 == 6 && ends_of_ip6(ends, octets, len);
}

static uint64_t hash_end(const uint8_t *address, uint16_t port)
{
    uint64_t low, high;
    memcpy(&low, address, 8);
    memcpy(&high, address + 8, 8);
    return rk_hash(low ^ port, high);
}

/* The same for both directions. */
static uint64_t hash_ends(const uint8_t *a, uint16_t a_port, const uint8_t *b, uint16_t b_port, uint8_t protocol)
{
    return rk_mix(hash_end(a, a_port) + hash_end(b, b_port) + protocol);
}

/* 0 or 1: who of the flow's two sent the packet; -1 when it is none of it. */
static int side_of(const struct rk_flow *flow, const struct ends *ends)
{
    if (flow->protocol != ends->protocol || flow->addr_len != ends->addr_len)
        return -1;
    if (flow->a_port == ends->sport && flow->b_port == ends->dport && memcmp(flow->a, ends->src, 16) == 0 &&
        memcmp(flow->b, ends->dst, 16) == 0)
        return 0;
    bool back = flow->b_port == ends->sport && flow->a_port == ends->dport && memcmp(flow->b, ends->src, 16) == 0 &&
                memcmp(flow->a, ends->dst, 16) == 0;
    return back ? 1 : -1;
}

static int grow(struct rk_flows *flows)
{
    uint32_t room = flows->room ? flows->room * 2 : FLOWS_FIRST;
    struct rk_flow *rows = realloc(flows->rows, room * sizeof *rows);
    if (!rows)
        return -ENOMEM;
    flows->rows = rows;
    uint32_t *slots = calloc(2 * (size_t)room, sizeof *slots);
    if (!slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < flows->n; i++) {
        const struct rk_flow *flow = &rows[i];
        uint64_t slot = hash_ends(flow->a, flow->a_port, flow->b, flow->b_port, flow->protocol);
        while (slots[slot & (2 * room - 1)])
            slot++;
        slots[slot & (2 * room - 1)] = i + 1;
    }
    free(flows->slots);
    flows->slots = slots;
    flows->room = room;
    return 0;
}

int rk_flows_open(struct rk_flows **out, uint32_t most)
{
    struct rk_flows *flows = calloc(1, sizeof *flows);
    if (!flows)
        return -ENOMEM;
    flows->most = most < FLOWS_MAX ? most : FLOWS_MAX;
    int error = grow(flows);
    if (error) {
        rk_flows_close(flows);
        return error;
    }
    *out = flows;
    return 0;
}

void rk_flows_close(struct rk_flows *flows)
{
    free(flows->rows);
    free(flows->slots);
    free(flows);
}

/* The number of the flow, made when it is new; 0 when there is no room for it. */
static int find(struct rk_flows *flows, const struct ends *ends, int64_t time_ns, uint32_t *number, int *side)
{
    uint64_t slot = hash_ends(ends->src, ends->sport, ends->dst, ends->dport, ends->protocol);
    uint32_t mask = 2 * flows->room - 1;
    for (; (*number = flows->slots[slot & mask]) != 0; slot++)
        if ((*side = side_of(&flows->rows[*number - 1], ends)) >= 0)
            return 0;
    if (flows->n == flows->most)
        return 0;
    if (flows->n == flows->room) {
        int error = grow(flows);
        return error ? error : find(flows, ends, time_ns, number, side);
    }
    struct rk_flow *flow = &flows->rows[flows->n++];
    *flow = (struct rk_flow){.a_port = ends->sport, .b_port = ends->dport, .protocol = ends->protocol,
                             .addr_len = ends->addr_len, .first_ns = time_ns, .last_ns = time_ns};
    memcpy(flow->a, ends->src, 16);
    memcpy(flow->b, ends->dst, 16);
    *number = flows->slots[slot & mask] = flows->n;
    *side = 0;
    return 0;
}

int rk_flows_add(struct rk_flows *flows, uint32_t link, const struct rk_batch *batch, uint32_t *numbers)
{
    for (uint32_t i = 0; i < batch->n; i++) {
        const struct rk_frame *frame = &batch->frames[i];
        if (!rk_range_ok(frame->offset, frame->cap_len, batch->arena_len))
            return -EINVAL;
        struct ends ends;
        uint32_t number = 0;
        if (ends_of(&ends, link, batch->arena + frame->offset, frame->cap_len)) {
            int side = 0, error = find(flows, &ends, frame->time_ns, &number, &side);
            if (error)
                return error;
            flows->left_out += number == 0;
            if (number > 0) {
                struct rk_flow *flow = &flows->rows[number - 1];
                flow->packets[side]++;
                flow->octets[side] += frame->wire_len;
                if (frame->time_ns < flow->first_ns)
                    flow->first_ns = frame->time_ns;
                if (frame->time_ns > flow->last_ns)
                    flow->last_ns = frame->time_ns;
            }
        }
        if (numbers)
            numbers[i] = number;
    }
    return (int)flows->n;
}

const struct rk_flow *rk_flows_rows(const struct rk_flows *flows)
{
    return flows->rows;
}

uint64_t rk_flows_left_out(const struct rk_flows *flows)
{
    return flows->left_out;
}
