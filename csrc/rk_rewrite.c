/* rk_rewrite.c: frames with other addresses, ports, tags, hop limits, and the checksums that go with them: the
 * link and IP.  rk_rewrite_upper.c has what IP carries, and says how checksums are kept. */
#include "rk_rewrite.h"

#include <errno.h>

#define TAG_LEN 4
#define ETHERNET_LEN 14
#define IP4_LEN 20
#define IP6_LEN 40
#define SLL_LEN 16
#define SLL2_LEN 20

/* The group of all whose address has the same last three octets (RFC 4291 section 2.7.1). */
static const uint8_t solicited[] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};

static bool has_prefix(const uint8_t *address, const uint8_t *prefix, uint32_t bits)
{
    uint32_t octets = bits / 8, rest = bits % 8;
    return memcmp(address, prefix, octets) == 0 &&
           (rest == 0 || (address[octets] ^ prefix[octets]) >> (8 - rest) == 0);
}

void rk_blank_out(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    if (!packet->rules->anonymous || len == 0)
        return;
    memset(octets, 0, len);
    if (packet->blank->to != octets)
        packet->blank->from = octets;
    packet->blank->to = octets + len;
}

/* The first rule that fits counts. */
void rk_map_address(const struct rk_rewrite *rules, uint8_t *address, uint32_t addr_len, uint32_t end)
{
    if (rules->anonymous) {
        rk_anonymous_address(rules->anonymous, address, addr_len);
        return;
    }
    for (uint32_t i = 0; i < rules->prefixes_n; i++) {
        const struct rk_rewrite_prefix *rule = &rules->prefixes[i];
        if (rule->addr_len != addr_len || !(rule->ends & end) || !has_prefix(address, rule->from, rule->from_bits))
            continue;
        uint32_t octets = rule->to_bits / 8, rest = rule->to_bits % 8;
        memcpy(address, rule->to, octets);
        if (rest > 0) {
            uint8_t kept = (uint8_t)(0xff >> rest);
            address[octets] = (uint8_t)((rule->to[octets] & ~kept) | (address[octets] & kept));
        }
        return;
    }
}

/* An address of the pseudo-header is another one now. */
static void note_pseudo(struct rk_changed *packet, const uint8_t *before, const uint8_t *after)
{
    if (memcmp(before, after, packet->addr_len) != 0) {
        packet->pseudo = rk_add_change(packet->pseudo, before, after, packet->addr_len);
        packet->pseudo_changed = true;
    }
}

/* Map an address of the packet; with `pseudo` its change goes into the pseudo-header's. */
static void map_in_pseudo(struct rk_changed *packet, uint8_t *address, uint32_t end, bool pseudo)
{
    uint8_t before[16];
    memcpy(before, address, packet->addr_len);
    rk_map_address(packet->rules, address, packet->addr_len, end);
    if (pseudo)
        note_pseudo(packet, before, address);
}

/* ---- IP ------------------------------------------------------------------------------------------ */

/* Where a time stamp option (RFC 791) has an address before each time. */
static void map_stamps(struct rk_changed *packet, uint8_t *option, uint32_t len)
{
    if (len < 4 || ((option[3] & 15) != 1 && (option[3] & 15) != 3))
        return;
    uint32_t at = 4;
    for (; at + 8 <= len; at += 8)
        rk_map_address(packet->rules, option + at, 4, RK_EITHER_END);
    rk_blank_out(packet, option + at, len - at);
}

/* With a source route that is not at its end the last hop of it is what the pseudo-header has
 * (RFC 1122 section 3.2.1.8 (c)). */
static void map_route(struct rk_changed *packet, uint8_t *option, uint32_t len)
{
    if (len < 7) {
        if (len > 3)
            rk_blank_out(packet, option + 3, len - 3);
        return;
    }
    uint32_t last = 3 + (len - 7) / 4 * 4;
    bool route = option[0] != 7, on_its_way = route && option[2] <= len;
    if (on_its_way)
        packet->dst = option + last;
    for (uint32_t hop = 3; hop <= last; hop += 4)
        map_in_pseudo(packet, option + hop, route ? RK_REWRITE_DST : RK_EITHER_END, on_its_way && hop == last);
    rk_blank_out(packet, option + last + 4, len - last - 4);
}

static void map_options(struct rk_changed *packet, uint8_t *options, uint32_t len)
{
    uint32_t at = 0;
    while (at < len && options[at] != 0) {
        uint8_t *option = options + at;
        if (option[0] == 1) {
            at++;
            continue;
        }
        if (at + 2 > len || option[1] < 2 || option[1] > len - at)
            break;
        switch (option[0]) {
        case 7: case 131: case 137: /* recorded, loose and strict routes */
            map_route(packet, option, option[1]);
            break;
        case 68:
            map_stamps(packet, option, option[1]);
            break;
        case 11: case 12: case 25: case 148: /* MTU probes, quick start, router alert: they tell nothing */
            break;
        default:
            rk_blank_out(packet, option + 2, option[1] - 2u);
        }
        at += option[1];
    }
    rk_blank_out(packet, options + at, len - at);
}

static void rewrite_ip4(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    uint32_t header_len = (octets[0] & 15) * 4u;
    uint32_t total_len = rk_load_be16(octets + 2);
    if (header_len < IP4_LEN || header_len > len || (total_len > 0 && total_len < header_len)) {
        rk_blank_out(packet, octets + 1, len - 1);
        return;
    }
    uint32_t end = total_len > 0 && total_len < len ? total_len : len;
    uint16_t place = rk_load_be16(octets + 6);
    uint8_t before[60];
    memcpy(before, octets, header_len);
    packet->addr_len = 4;
    packet->first = (place & 0x1fff) == 0;
    packet->whole = (place & 0x3fff) == 0 && total_len <= len && !packet->quoted;
    packet->src = octets + 12;
    packet->dst = octets + 16;
    map_options(packet, octets + IP4_LEN, header_len - IP4_LEN);
    map_in_pseudo(packet, octets + 12, RK_REWRITE_SRC, true);
    map_in_pseudo(packet, octets + 16, RK_REWRITE_DST, packet->dst == octets + 16);
    if (!packet->quoted && rules->flags & RK_REWRITE_HOP_LIMIT)
        octets[8] = rules->hop_limit;
    if (!packet->quoted && rules->flags & RK_REWRITE_DSCP)
        octets[1] = (uint8_t)(rules->dscp << 2 | (octets[1] & 3));
    if (rules->flags & RK_REWRITE_CHECKSUMS && !packet->quoted) {
        rk_store_be16(octets + 10, 0);
        rk_store_be16(octets + 10, rk_csum(octets, header_len));
    } else if (memcmp(before, octets, header_len) != 0) {
        rk_update_at(octets + 10, rk_add_change(0, before, octets, header_len));
    }
    uint8_t next = octets[9];
    uint32_t at = header_len;
    if (next == AH && packet->first && at + 8 <= end && octets[at + 1] * 4u + 8 <= end - at) {
        next = octets[at];
        at += octets[at + 1] * 4u + 8;
    }
    packet->upper_len = (total_len > 0 ? total_len : len) - at;
    rk_rewrite_upper(packet, next, octets + at, end - at);
    rk_blank_out(packet, octets + end, len - end);
}

/* The addresses in a routing header, all of them destinations. Of those that are not used up the last is what
 * the pseudo-header has (RFC 8200 section 8.1). */
static void map_routing(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    uint8_t type = octets[2];
    bool on_its_way = octets[3] > 0;
    uint32_t n = (len - 8) / 16;
    if (type == 4 && octets[4] + 1u < n) /* segment routing (RFC 8754 section 2): others may follow */
        n = octets[4] + 1u;
    else if (type != 0 && type != 2 && type != 4)
        n = 0;
    if (on_its_way)
        packet->dst = n > 0 ? octets + 8 + (type == 4 ? 0 : (n - 1) * 16) : NULL;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *address = octets + 8 + i * 16;
        map_in_pseudo(packet, address, RK_REWRITE_DST, address == packet->dst);
    }
    rk_blank_out(packet, octets + 8 + n * 16, len - 8 - n * 16);
}

/* Hop-by-hop and destination options. A home address is what the pseudo-header has for a source (RFC 6275
 * section 6.3). */
static void map_options6(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    uint32_t at = 2;
    while (at < len) {
        uint8_t *option = octets + at;
        if (option[0] == 0) {
            at++;
            continue;
        }
        if (at + 2 > len || option[1] > len - at - 2)
            break;
        uint32_t option_len = option[1];
        if (option[0] == 201 && option_len == 16) {
            packet->src = option + 2;
            map_in_pseudo(packet, packet->src, RK_REWRITE_SRC, true);
        } else if (option[0] != 4 && option[0] != 5 && option[0] != 38 && option[0] != 194) {
            /* not a tunnel's limit, router alert, quick start, jumbo payload */
            rk_blank_out(packet, option + 2, option_len);
        }
        at += 2 + option_len;
    }
    rk_blank_out(packet, octets + at, len - at);
}

/* Whom a neighbour solicitation asks is in the group that it is sent to: the group follows the address. */
static bool follow_target(struct rk_changed *packet, uint8_t *group, uint8_t *solicitation, uint32_t len)
{
    if (!packet->rules->anonymous || len < 24 || solicitation[0] != 135 ||
        memcmp(group, solicited, sizeof solicited) != 0 || memcmp(group + 13, solicitation + 21, 3) != 0)
        return false;
    uint8_t before[16], target[16];
    memcpy(before, group, 16);
    memcpy(target, solicitation + 8, 16);
    rk_map_address(packet->rules, target, 16, RK_REWRITE_DST);
    memcpy(group + 13, target + 13, 3);
    note_pseudo(packet, before, group);
    return true;
}

static void rewrite_ip6(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    uint32_t payload_len = rk_load_be16(octets + 4);
    uint32_t end = payload_len > 0 && IP6_LEN + payload_len < len ? IP6_LEN + payload_len : len;
    packet->addr_len = 16;
    packet->first = true;
    packet->whole = IP6_LEN + payload_len <= len && !packet->quoted;
    packet->src = octets + 8;
    packet->dst = octets + 24;
    uint8_t next = octets[6];
    uint32_t at = IP6_LEN;
    while (packet->first && at + 8 <= end) {
        uint32_t header_len = 8 + octets[at + 1] * 8u;
        if (next == 44)
            header_len = 8;
        else if (next == AH)
            header_len = octets[at + 1] * 4u + 8;
        else if (next != 0 && next != 43 && next != 60)
            break;
        if (header_len > end - at)
            break;
        if (next == 43) {
            map_routing(packet, octets + at, header_len);
        } else if (next == 0 || next == 60) {
            map_options6(packet, octets + at, header_len);
        } else if (next == 44) {
            uint16_t place = rk_load_be16(octets + at + 2);
            packet->first = place >> 3 == 0;
            packet->whole = packet->whole && place >> 3 == 0 && !(place & 1);
        }
        next = octets[at];
        at += header_len;
    }
    map_in_pseudo(packet, octets + 8, RK_REWRITE_SRC, packet->src == octets + 8);
    if (next != ICMP6 || !packet->first || packet->dst != octets + 24 ||
        !follow_target(packet, octets + 24, octets + at, end - at))
        map_in_pseudo(packet, octets + 24, RK_REWRITE_DST, packet->dst == octets + 24);
    if (!packet->quoted && rules->flags & RK_REWRITE_HOP_LIMIT)
        octets[7] = rules->hop_limit;
    if (!packet->quoted && rules->flags & RK_REWRITE_DSCP) /* the upper six bits of the traffic class */
        rk_store_be16(octets, (uint16_t)((rk_load_be16(octets) & 0xf03f) | rules->dscp << 6));
    packet->upper_len = (payload_len > 0 ? IP6_LEN + payload_len : len) - at;
    rk_rewrite_upper(packet, next, octets + at, end - at);
    rk_blank_out(packet, octets + end, len - end);
}

void rk_rewrite_ip(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    if (len >= IP4_LEN && octets[0] >> 4 == 4)
        rewrite_ip4(packet, octets, len);
    else if (len >= IP6_LEN && octets[0] >> 4 == 6)
        rewrite_ip6(packet, octets, len);
    else
        rk_blank_out(packet, octets, len);
}

/* ---- links --------------------------------------------------------------------------------------- */

static bool is_tag(uint16_t ethertype)
{
    return ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100;
}

/* ARP for IPv4 (RFC 826), and its reverse: the sender's and the target's addresses. */
static void rewrite_arp(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    if (len < 28 || rk_load_be16(octets + 2) != 0x0800 || octets[4] != 6 || octets[5] != 4) {
        rk_blank_out(packet, octets, len);
        return;
    }
    for (uint32_t at = 8; rules->anonymous && at <= 18; at += 10)
        rk_anonymous_address(rules->anonymous, octets + at, 6);
    rk_map_address(rules, octets + 14, 4, RK_REWRITE_SRC);
    rk_map_address(rules, octets + 24, 4, RK_REWRITE_DST);
    rk_blank_out(packet, octets + 28, len - 28);
}

static void rewrite_ethertype(struct rk_changed *packet, uint16_t ethertype, uint8_t *octets, uint32_t len)
{
    if (ethertype == 0x0800 || ethertype == 0x86dd)
        rk_rewrite_ip(packet, octets, len);
    else if (ethertype == 0x0806 || ethertype == 0x8035)
        rewrite_arp(packet, octets, len);
    else
        rk_blank_out(packet, octets, len);
}

/* Anonymous MAC addresses. That of an IP group follows the group (RFC 1112 section 6.4, RFC 2464 section 7), which
 * is `group` now, of addr_len octets, and was the one that the address told before, with so many octets of it. */
static void hide_macs(const struct rk_rewrite *rules, uint8_t *octets, uint32_t follows, const uint8_t *group,
                      uint32_t addr_len)
{
    if (follows > 0) {
        memcpy(octets + 6 - follows, group + addr_len - follows, follows);
        if (follows == 3)
            octets[3] &= 0x7f;
    } else {
        rk_anonymous_address(rules->anonymous, octets, 6);
    }
    rk_anonymous_address(rules->anonymous, octets + 6, 6);
}

/* How many octets at the end of an Ethernet destination are those of the IP group at `group`. */
static uint32_t follows_group(const uint8_t *mac, const uint8_t *group, uint32_t addr_len)
{
    static const uint8_t ip4_group[] = {0x01, 0x00, 0x5e}, ip6_group[] = {0x33, 0x33};
    if (addr_len == 4 && memcmp(mac, ip4_group, 3) == 0 && group[0] >> 4 == 14 && mac[3] == (group[1] & 0x7f) &&
        memcmp(mac + 4, group + 2, 2) == 0)
        return 3;
    return addr_len == 16 && memcmp(mac, ip6_group, 2) == 0 && memcmp(mac + 2, group + 12, 4) == 0 ? 4 : 0;
}

void rk_rewrite_ethernet(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    if (len < ETHERNET_LEN) {
        rk_blank_out(packet, octets, len);
        return;
    }
    uint32_t at = 12;
    while (at + 2 + TAG_LEN <= len && is_tag(rk_load_be16(octets + at)))
        at += TAG_LEN;
    uint16_t ethertype = rk_load_be16(octets + at);
    at += 2;
    const uint8_t *group = NULL;
    uint32_t addr_len = 0, follows = 0;
    if (ethertype == 0x0800 && len >= at + IP4_LEN)
        group = octets + at + 16, addr_len = 4;
    else if (ethertype == 0x86dd && len >= at + IP6_LEN)
        group = octets + at + 24, addr_len = 16;
    if (rules->anonymous && group)
        follows = follows_group(octets, group, addr_len);
    rewrite_ethertype(packet, ethertype, octets + at, len - at);
    if (rules->anonymous)
        hide_macs(rules, octets, follows, group, addr_len);
}

/* Headers of Linux's "cooked" captures (LINKTYPE_LINUX_SLL and SLL2): one link address, of any kind. */
static void rewrite_cooked(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    bool second = packet->rules->link == RK_LINK_SLL2;
    uint32_t header_len = second ? SLL2_LEN : SLL_LEN;
    if (len < header_len) {
        rk_blank_out(packet, octets, len);
        return;
    }
    uint8_t *address = octets + (second ? 12 : 6);
    uint32_t addr_len = second ? octets[11] : rk_load_be16(octets + 4);
    rewrite_ethertype(packet, rk_load_be16(octets + (second ? 0 : 14)), octets + header_len, len - header_len);
    if (!packet->rules->anonymous)
        return;
    if (addr_len == 6 || addr_len == 4) {
        rk_anonymous_address(packet->rules->anonymous, address, addr_len);
        memset(address + addr_len, 0, 8 - addr_len);
    } else {
        memset(address, 0, 8);
    }
}

/* Change the whole frame, but for the tags and addresses that copy_tagged has put there. */
static void rewrite_frame(struct rk_changed *packet, uint8_t *octets, uint32_t len)
{
    switch (packet->rules->link) {
    case RK_LINK_ETHERNET:
        rk_rewrite_ethernet(packet, octets, len);
        break;
    case RK_LINK_IP:
        rk_rewrite_ip(packet, octets, len);
        break;
    case RK_LINK_NULL:
        if (len >= 4)
            rk_rewrite_ip(packet, octets + 4, len - 4);
        break;
    default:
        rewrite_cooked(packet, octets, len);
    }
}

/* Copy a frame with the tags it is to have; its new length. */
static uint32_t copy_tagged(const struct rk_rewrite *rules, const uint8_t *from, uint32_t len, uint8_t *to)
{
    uint32_t rest = 12, at = 12;
    if (rules->flags & RK_REWRITE_VLAN_REMOVE && len >= ETHERNET_LEN + TAG_LEN && is_tag(rk_load_be16(from + 12)))
        rest += TAG_LEN;
    memcpy(to, from, 12);
    if (rules->flags & RK_REWRITE_VLAN_ADD) {
        rk_store_be16(to + at, rules->vlan_tpid);
        rk_store_be16(to + at + 2, rules->vlan_tci);
        at += TAG_LEN;
    }
    memcpy(to + at, from + rest, len - rest);
    if (rules->flags & RK_REWRITE_DST_MAC)
        memcpy(to, rules->dst_mac, 6);
    if (rules->flags & RK_REWRITE_SRC_MAC)
        memcpy(to + 6, rules->src_mac, 6);
    return at + len - rest;
}

/* What the record says of the outermost tag. */
static void note_tag(struct rk_frame *row, const uint8_t *octets)
{
    bool tagged = row->cap_len >= ETHERNET_LEN + TAG_LEN && is_tag(rk_load_be16(octets + 12));
    row->flags = (row->flags & ~(uint32_t)RK_FRAME_VLAN) | (tagged ? RK_FRAME_VLAN : 0);
    row->vlan_tpid = tagged ? rk_load_be16(octets + 12) : 0;
    row->vlan_tci = tagged ? rk_load_be16(octets + 14) : 0;
}

static bool rules_ok(const struct rk_rewrite *rules)
{
    if (rules->flags & ~(uint32_t)RK_REWRITE_ALL || rules->link > RK_LINK_SLL2)
        return false;
    if (rules->anonymous && (rules->prefixes_n > 0 || rules->ports))
        return false;
    for (uint32_t i = 0; i < rules->prefixes_n; i++) {
        const struct rk_rewrite_prefix *rule = &rules->prefixes[i];
        if ((rule->addr_len != 4 && rule->addr_len != 16) || rule->from_bits > rule->addr_len * 8 ||
            rule->to_bits > rule->addr_len * 8)
            return false;
    }
    return rules->dscp < 64;
}

int rk_rewrite(const struct rk_rewrite *rules, const struct rk_batch *batch, uint32_t first, uint32_t n,
               struct rk_batch *out, struct rk_rewrite_counters *counters)
{
    if (!rk_range_ok(first, n, batch->n) || out->n > out->capacity || out->arena_used > out->arena_len ||
        !rules_ok(rules))
        return -EINVAL;
    for (uint32_t i = 0; i < n; i++) {
        const struct rk_frame *frame = &batch->frames[first + i];
        if (!rk_range_ok(frame->offset, frame->cap_len, batch->arena_len))
            return -EINVAL;
        uint32_t len = frame->cap_len;
        if (out->n == out->capacity || (uint64_t)len + TAG_LEN > out->arena_len - out->arena_used)
            return (int)i;
        const uint8_t *from = batch->arena + frame->offset;
        uint8_t *to = out->arena + out->arena_used;
        struct rk_frame *row = &out->frames[out->n];
        *row = *frame;
        row->offset = out->arena_used;
        if (rules->link == RK_LINK_ETHERNET && len >= ETHERNET_LEN) {
            row->cap_len = copy_tagged(rules, from, len, to);
            row->wire_len = frame->wire_len + row->cap_len - len;
            if (rules->flags & (RK_REWRITE_VLAN_REMOVE | RK_REWRITE_VLAN_ADD))
                note_tag(row, to);
        } else {
            memcpy(to, from, len);
        }
        struct rk_blank blank = {0};
        struct rk_changed packet = {
            .rules = rules, .blank = &blank, .not_ready = frame->flags & RK_FRAME_CSUM_NOT_READY};
        rewrite_frame(&packet, to, row->cap_len);
        if (packet.finished) {
            row->flags &= ~(uint32_t)RK_FRAME_CSUM_NOT_READY;
            counters->finished++;
        }
        if (rules->flags & RK_REWRITE_CUT && blank.to == to + row->cap_len)
            row->cap_len = (uint32_t)(blank.from - to);
        counters->changed += row->cap_len != len || memcmp(from, to, len) != 0;
        out->arena_used += row->cap_len;
        out->n++;
    }
    return (int)n;
}
