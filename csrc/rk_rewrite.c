/* rk_rewrite.c: frames with other addresses, ports, tags, hop limits, and the checksums that go with them.
 *
 * Checksums are not computed but updated by what changed (RFC 1624): a good one stays good, and a bad one, which
 * may be the point of the packet, as bad as it was.  It also works where the octets that a checksum covers are not
 * all there: in fragments and in what ICMP errors quote. */
#include "rk.h"

#include <errno.h>

#include "rk_internal.h"

#define TAG_LEN 4
#define ETHERNET_LEN 14
#define IP4_LEN 20
#define IP6_LEN 40

enum { ICMP = 1, TCP = 6, UDP = 17, AH = 51, ICMP6 = 58, SCTP = 132, UDP_LITE = 136 };

enum { V4 = 1, V6 = 2 };

/* Where protocols keep their Internet checksum. */
static const struct place {
    uint8_t protocol;
    uint8_t at;
    uint8_t families;
    bool pseudo; /* it covers a pseudo-header */
    bool ports;  /* the header begins with two ports */
    bool all;    /* it covers all that follows, always */
} places[] = {
    {TCP, 16, V4 | V6, .pseudo = true, .ports = true, .all = true},
    {UDP, 6, V4 | V6, .pseudo = true, .ports = true, .all = true},
    {ICMP, 2, V4, .all = true},
    {ICMP6, 2, V6, .pseudo = true, .all = true},
    {UDP_LITE, 6, V4 | V6, .pseudo = true, .ports = true},
    {33, 6, V4 | V6, .pseudo = true, .ports = true}, /* DCCP (RFC 4340 section 9) */
    {89, 12, V6, .pseudo = true, .all = true},       /* OSPFv3 (RFC 5340 section A.3.1) */
    {103, 2, V6, .pseudo = true},                    /* PIM (RFC 7761 section 4.9) */
    {135, 4, V6, .pseudo = true, .all = true},       /* mobility header (RFC 6275 section 6.1.1) */
    {139, 4, V4 | V6, .pseudo = true, .all = true},  /* HIP (RFC 7401 section 5.1) */
};

/* An IP packet being changed. */
struct packet {
    const struct rk_rewrite *rules;
    uint8_t *src, *dst; /* the addresses that the pseudo-header has: a routing header knows the last hop */
    uint32_t addr_len;
    uint32_t upper_len; /* as the IP header says */
    uint32_t pseudo;    /* what their change adds to the pseudo-header's sum */
    bool pseudo_changed;
    bool quoted;        /* by an ICMP error: only its beginning may be there */
    bool first;         /* the upper header begins here */
    bool whole;         /* all that the upper checksum covers is here */
    bool not_ready;     /* its transport checksum is still to be computed */
    bool finished;      /* that was done */
};

static void rewrite_ip(struct packet *packet, uint8_t *octets, uint32_t len);

/* sum, plus the difference that new octets in place of old ones make; len is even. */
static uint32_t add_change(uint32_t sum, const uint8_t *old_octets, const uint8_t *new_octets, size_t len)
{
    sum += (uint16_t)~rk_csum_add(0, old_octets, len);
    return rk_csum_add(sum, new_octets, len);
}

/* RFC 1624 section 3, equation 3, for the sum of any number of changed words. */
static void update_at(uint8_t *at, uint32_t change)
{
    uint32_t sum = (uint16_t)~rk_load_be16(at) + change;
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    rk_store_be16(at, (uint16_t)~sum);
}

static bool has_prefix(const uint8_t *address, const uint8_t *prefix, uint32_t bits)
{
    uint32_t octets = bits / 8, rest = bits % 8;
    return memcmp(address, prefix, octets) == 0 &&
           (rest == 0 || (address[octets] ^ prefix[octets]) >> (8 - rest) == 0);
}

/* The first rule that fits counts. */
static void map_address(const struct rk_rewrite *rules, uint8_t *address, uint32_t addr_len, uint32_t end)
{
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

/* Map an address of the packet; with `pseudo` its change goes into the pseudo-header's. */
static void map_in_pseudo(struct packet *packet, uint8_t *address, uint32_t end, bool pseudo)
{
    uint8_t before[16];
    memcpy(before, address, packet->addr_len);
    map_address(packet->rules, address, packet->addr_len, end);
    if (pseudo && memcmp(before, address, packet->addr_len) != 0) {
        packet->pseudo = add_change(packet->pseudo, before, address, packet->addr_len);
        packet->pseudo_changed = true;
    }
}

/* ---- above IP ------------------------------------------------------------------------------------- */

static void map_ports(const struct rk_rewrite *rules, uint8_t *ports)
{
    rk_store_be16(ports, rules->ports[rk_load_be16(ports)]);
    rk_store_be16(ports + 2, rules->ports[rk_load_be16(ports + 2)]);
}

/* The CRC is linear: what the ports' change makes of a good one is done to a bad one as well.  Of a fragment it
 * cannot be known, so there the ports stay. */
static void rewrite_sctp(struct packet *packet, uint8_t *octets, uint32_t len)
{
    bool renew = packet->not_ready || packet->rules->flags & RK_REWRITE_CHECKSUMS;
    if (packet->quoted && packet->rules->ports && len >= 4)
        map_ports(packet->rules, octets); /* nobody verifies the checksum of a quote */
    if (!packet->whole || len < 12 || (!packet->rules->ports && !renew))
        return;
    uint32_t stored = rk_load_le32(octets + 8);
    memset(octets + 8, 0, 4);
    uint32_t before = rk_crc32c(0, octets, len);
    if (packet->rules->ports)
        map_ports(packet->rules, octets);
    uint32_t after = rk_crc32c(0, octets, len);
    rk_store_le32(octets + 8, renew ? after : stored ^ before ^ after);
    packet->finished = packet->not_ready;
}

/* Addresses in an ICMP message, and the packet that an error quotes. */
static void rewrite_icmp(struct packet *packet, uint8_t protocol, uint8_t *octets, uint32_t len)
{
    if (packet->quoted || len < 8)
        return;
    uint8_t type = octets[0];
    if (protocol == ICMP) {
        if (type == 5) /* redirect (RFC 792) */
            map_address(packet->rules, octets + 4, 4, RK_REWRITE_DST);
        if (type != 3 && type != 4 && type != 5 && type != 11 && type != 12)
            return;
    } else {
        /* Neighbour solicitation and advertisement; redirect (RFC 4861 sections 4.3 to 4.5). */
        for (uint32_t at = 8; at < (type == 137 ? 40 : type == 135 || type == 136 ? 24 : 0); at += 16)
            if (at + 16 <= len)
                map_address(packet->rules, octets + at, 16, RK_REWRITE_DST);
        if (type < 1 || type > 4)
            return;
    }
    struct packet quote = {.rules = packet->rules, .quoted = true};
    rewrite_ip(&quote, octets + 8, len - 8);
}

static const struct place *place_of(uint8_t protocol, uint8_t family)
{
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (places[i].protocol == protocol && places[i].families & family)
            return &places[i];
    return NULL;
}

static uint16_t upper_checksum(const struct packet *packet, const struct place *place, const uint8_t *octets,
                               uint32_t len)
{
    uint32_t sum = 0;
    if (place->pseudo)
        sum = rk_csum_pseudo(packet->src, packet->dst, packet->addr_len, place->protocol, len);
    return (uint16_t)~rk_csum_add(sum, octets, len);
}

/* Whether a transport checksum is what a host leaves for its network card to finish, going by the octets: the sum
 * of the pseudo-header, from before its addresses were changed.  A good one may have that value by chance, which does
 * no harm where it can be computed; fragments were never left to a card. */
static bool looks_unfinished(const struct packet *packet, uint8_t protocol, uint16_t stored)
{
    if ((protocol != TCP && protocol != UDP) || stored == 0 || !packet->whole || !packet->dst)
        return false;
    uint32_t sum = rk_csum_pseudo(packet->src, packet->dst, packet->addr_len, protocol, packet->upper_len);
    return (stored + packet->pseudo) % 0xffff == sum % 0xffff;
}

static void rewrite_upper(struct packet *packet, uint8_t protocol, uint8_t *octets, uint32_t len)
{
    if (!packet->first)
        return;
    if (protocol == SCTP) {
        rewrite_sctp(packet, octets, len);
        return;
    }
    const struct place *place = place_of(protocol, packet->addr_len == 4 ? V4 : V6);
    if (!place)
        return;
    bool changed = place->pseudo && packet->pseudo_changed;
    uint32_t change = changed ? packet->pseudo : 0;
    if (place->ports && packet->rules->ports && len >= 4) {
        uint8_t before[4];
        memcpy(before, octets, 4);
        map_ports(packet->rules, octets);
        if (memcmp(before, octets, 4) != 0) {
            change = add_change(change, before, octets, 4);
            changed = true;
        }
    } else if ((protocol == ICMP || protocol == ICMP6) && (packet->rules->prefixes_n > 0 || packet->rules->ports)) {
        uint32_t before = rk_csum_add(0, octets, len);
        rewrite_icmp(packet, protocol, octets, len);
        uint32_t after = rk_csum_add(0, octets, len);
        if (before != after) {
            change = (uint16_t)~before + after + change;
            changed = true;
        }
    }
    if (len < place->at + 2u)
        return;
    uint8_t *at = octets + place->at;
    bool may_be_zero = protocol != UDP && protocol != UDP_LITE;
    uint16_t stored = rk_load_be16(at);
    packet->not_ready = packet->not_ready || looks_unfinished(packet, protocol, stored);
    bool none = protocol == UDP && stored == 0 && !packet->not_ready; /* RFC 768: none was computed */
    bool renew = packet->not_ready || packet->rules->flags & RK_REWRITE_CHECKSUMS;
    if (renew && place->all && packet->whole && packet->dst && !(none && packet->addr_len == 4)) {
        rk_store_be16(at, 0);
        rk_store_be16(at, upper_checksum(packet, place, octets, len));
        packet->finished = packet->not_ready;
    } else if (!changed || none) {
        return;
    } else if (packet->not_ready) { /* what stands there is the pseudo-header's sum, not complemented */
        update_at(at, (uint16_t)~change);
        return;
    } else {
        if (!may_be_zero && stored == 0xffff) /* stands for 0 */
            rk_store_be16(at, 0);
        update_at(at, change);
    }
    if (!may_be_zero && rk_load_be16(at) == 0)
        rk_store_be16(at, 0xffff);
}

/* ---- IP ------------------------------------------------------------------------------------------ */

/* With a source route that is not at its end the last hop of it is what the pseudo-header has
 * (RFC 1122 section 3.2.1.8 (c)). */
static void map_source_route(struct packet *packet, uint8_t *options, uint32_t len)
{
    for (uint32_t at = 0; at + 2 <= len && options[at] != 0;) {
        uint8_t kind = options[at], option_len = options[at + 1];
        if (kind == 1) {
            at++;
            continue;
        }
        if (option_len < 2 || option_len > len - at)
            return;
        if ((kind == 131 || kind == 137) && option_len >= 7) {
            uint32_t last = at + option_len - 4;
            bool on_its_way = options[at + 2] <= option_len;
            if (on_its_way)
                packet->dst = options + last;
            for (uint32_t hop = at + 3; hop <= last; hop += 4)
                map_in_pseudo(packet, options + hop, RK_REWRITE_DST, on_its_way && hop == last);
        }
        at += option_len;
    }
}

static void rewrite_ip4(struct packet *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    uint32_t header_len = (octets[0] & 15) * 4u;
    uint32_t total_len = rk_load_be16(octets + 2);
    if (header_len < IP4_LEN || header_len > len || (total_len > 0 && total_len < header_len))
        return;
    uint32_t end = total_len > 0 && total_len < len ? total_len : len;
    uint16_t place = rk_load_be16(octets + 6);
    uint8_t before[60];
    memcpy(before, octets, header_len);
    packet->addr_len = 4;
    packet->first = (place & 0x1fff) == 0;
    packet->whole = (place & 0x3fff) == 0 && total_len <= len && !packet->quoted;
    packet->src = octets + 12;
    packet->dst = octets + 16;
    map_source_route(packet, octets + IP4_LEN, header_len - IP4_LEN);
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
        update_at(octets + 10, add_change(0, before, octets, header_len));
    }
    uint8_t next = octets[9];
    uint32_t at = header_len;
    if (next == AH && packet->first && at + 8 <= end && octets[at + 1] * 4u + 8 <= end - at) {
        next = octets[at];
        at += octets[at + 1] * 4u + 8;
    }
    packet->upper_len = (total_len > 0 ? total_len : len) - at;
    rewrite_upper(packet, next, octets + at, end - at);
}

/* The addresses in a routing header, all of them destinations. Of those that are not used up the last is what
 * the pseudo-header has (RFC 8200 section 8.1). */
static void map_routing(struct packet *packet, uint8_t *octets, uint32_t len)
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
}

/* A home address option is what the pseudo-header has for a source (RFC 6275 section 6.3). */
static void map_home_address(struct packet *packet, uint8_t *octets, uint32_t len)
{
    for (uint32_t at = 2; at + 2 <= len;) {
        if (octets[at] == 0) {
            at++;
            continue;
        }
        uint32_t option_len = octets[at + 1];
        if (option_len > len - at - 2)
            return;
        if (octets[at] == 201 && option_len == 16) {
            packet->src = octets + at + 2;
            map_in_pseudo(packet, packet->src, RK_REWRITE_SRC, true);
        }
        at += 2 + option_len;
    }
}

static void rewrite_ip6(struct packet *packet, uint8_t *octets, uint32_t len)
{
    const struct rk_rewrite *rules = packet->rules;
    if (len < IP6_LEN)
        return;
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
        } else if (next == 60) {
            map_home_address(packet, octets + at, header_len);
        } else if (next == 44) {
            uint16_t place = rk_load_be16(octets + at + 2);
            packet->first = place >> 3 == 0;
            packet->whole = packet->whole && place >> 3 == 0 && !(place & 1);
        }
        next = octets[at];
        at += header_len;
    }
    map_in_pseudo(packet, octets + 8, RK_REWRITE_SRC, packet->src == octets + 8);
    map_in_pseudo(packet, octets + 24, RK_REWRITE_DST, packet->dst == octets + 24);
    if (!packet->quoted && rules->flags & RK_REWRITE_HOP_LIMIT)
        octets[7] = rules->hop_limit;
    if (!packet->quoted && rules->flags & RK_REWRITE_DSCP) /* the upper six bits of the traffic class */
        rk_store_be16(octets, (uint16_t)((rk_load_be16(octets) & 0xf03f) | rules->dscp << 6));
    packet->upper_len = (payload_len > 0 ? IP6_LEN + payload_len : len) - at;
    rewrite_upper(packet, next, octets + at, end - at);
}

static void rewrite_ip(struct packet *packet, uint8_t *octets, uint32_t len)
{
    if (len >= IP4_LEN && octets[0] >> 4 == 4)
        rewrite_ip4(packet, octets, len);
    else if (len >= IP6_LEN && octets[0] >> 4 == 6)
        rewrite_ip6(packet, octets, len);
}

/* ---- Ethernet ------------------------------------------------------------------------------------ */

static bool is_tag(uint16_t ethertype)
{
    return ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100;
}

/* Change what follows the link header; whether a transport checksum was finished. */
static bool rewrite_network(const struct rk_rewrite *rules, uint8_t *octets, uint32_t len, bool not_ready)
{
    uint32_t at = 12;
    while (at + 2 + TAG_LEN <= len && is_tag(rk_load_be16(octets + at)))
        at += TAG_LEN;
    if (at + 2 > len)
        return false;
    uint16_t ethertype = rk_load_be16(octets + at);
    at += 2;
    if (ethertype == 0x0800 || ethertype == 0x86dd) {
        struct packet packet = {.rules = rules, .not_ready = not_ready};
        rewrite_ip(&packet, octets + at, len - at);
        return packet.finished;
    }
    /* ARP for IPv4 (RFC 826): the sender's and the target's address. */
    if (ethertype == 0x0806 && len - at >= 28 && rk_load_be16(octets + at + 2) == 0x0800 && octets[at + 4] == 6 &&
        octets[at + 5] == 4) {
        map_address(rules, octets + at + 14, 4, RK_REWRITE_SRC);
        map_address(rules, octets + at + 24, 4, RK_REWRITE_DST);
    }
    return false;
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
    if (rules->flags & ~(uint32_t)RK_REWRITE_ALL)
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
        if (len < ETHERNET_LEN) {
            memcpy(to, from, len);
        } else {
            row->cap_len = copy_tagged(rules, from, len, to);
            row->wire_len = frame->wire_len + row->cap_len - len;
            if (rules->flags & (RK_REWRITE_VLAN_REMOVE | RK_REWRITE_VLAN_ADD))
                note_tag(row, to);
            if (rewrite_network(rules, to, row->cap_len, frame->flags & RK_FRAME_CSUM_NOT_READY)) {
                row->flags &= ~(uint32_t)RK_FRAME_CSUM_NOT_READY;
                counters->finished++;
            }
        }
        counters->changed += row->cap_len != len || memcmp(from, to, len) != 0;
        out->arena_used += row->cap_len;
        out->n++;
    }
    return (int)n;
}
