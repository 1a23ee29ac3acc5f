/* TCP SYN probes: filling batches from a template, and recognising what comes back.
 *
 * A probe's sequence number is the low half of SipHash-2-4 over its target and its source port, so whoever
 * answers must have seen the probe: a SYN-ACK or RST acknowledges that number (RFC 9293 section 3.10.7), an
 * ICMP error quotes it in the first 8 octets of the TCP header (RFC 792, RFC 4443 section 2.4).  No table of
 * what was sent is kept, and a reply is believed for its cookie alone: that its target belongs to the plan
 * follows from it, and checksums, which a virtual device may have left unfilled, are not looked at. */
#include <errno.h>
#include <limits.h>

#include "rk.h"
#include "rk_internal.h"

#define IP_PROTO_HOP_BY_HOP 0
#define IP_PROTO_ICMP 1
#define IP_PROTO_TCP 6
#define IP_PROTO_FRAGMENT 44
#define IP_PROTO_ICMPV6 58
#define IP_PROTO_DESTINATION_OPTIONS 60

#define IPV4_HEADER_LEN 20
#define IPV6_HEADER_LEN 40
#define TCP_HEADER_LEN 20
#define TCP_QUOTED_LEN 8 /* ports and sequence number: what every ICMP error quotes */
#define ICMP_HEADER_LEN 8
#define MAC_LEN 6

#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Where things are in an IP packet. */
struct ip_view {
    const uint8_t *packet;
    const uint8_t *src;
    const uint8_t *dst;
    const uint8_t *upper; /* after the IP header and extension headers */
    uint32_t header_len;  /* up to upper */
    uint32_t upper_len;   /* octets of upper that are there, link padding excluded */
    uint32_t addr_len;
    uint8_t protocol;     /* of upper */
    uint8_t hop_limit;
};

/* Find the parts of the IP packet that starts at octets, of which len are there.  `whole` packets must bear
 * a length field that makes sense; in those quoted by ICMP errors it is not looked at, as some hosts return
 * it changed.  False for anything else than IP, for later fragments, and for extension headers other than
 * options and fragments. */
static bool ip_parse(const uint8_t *octets, uint32_t len, bool whole, struct ip_view *out)
{
    struct ip_view ip = {.packet = octets};
    if (len < IPV4_HEADER_LEN)
        return false;
    if (octets[0] >> 4 == 4) {
        ip.header_len = (octets[0] & 0xfu) * 4;
        if (ip.header_len < IPV4_HEADER_LEN || ip.header_len > len || rk_load_be16(octets + 6) & 0x1fff)
            return false;
        uint32_t total_len = rk_load_be16(octets + 2);
        if (whole && total_len < ip.header_len)
            return false;
        if (whole && total_len < len)
            len = total_len;
        ip.addr_len = 4;
        ip.src = octets + 12;
        ip.dst = octets + 16;
        ip.hop_limit = octets[8];
        ip.protocol = octets[9];
    } else if (octets[0] >> 4 == 6 && len >= IPV6_HEADER_LEN) {
        ip.header_len = IPV6_HEADER_LEN;
        uint32_t total_len = IPV6_HEADER_LEN + (uint32_t)rk_load_be16(octets + 4);
        if (whole && total_len < len)
            len = total_len;
        ip.addr_len = 16;
        ip.src = octets + 8;
        ip.dst = octets + 24;
        ip.hop_limit = octets[7];
        ip.protocol = octets[6];
        /* Each round goes on by 8 octets at least. */
        while (ip.protocol == IP_PROTO_HOP_BY_HOP || ip.protocol == IP_PROTO_DESTINATION_OPTIONS ||
               ip.protocol == IP_PROTO_FRAGMENT) {
            if (len - ip.header_len < 8)
                return false;
            const uint8_t *extension = octets + ip.header_len;
            uint32_t extension_len = 8;
            if (ip.protocol != IP_PROTO_FRAGMENT)
                extension_len += extension[1] * 8u;
            else if (rk_load_be16(extension + 2) & 0xfff8)
                return false;
            if (extension_len > len - ip.header_len)
                return false;
            ip.protocol = extension[0];
            ip.header_len += extension_len;
        }
    } else {
        return false;
    }
    ip.upper = octets + ip.header_len;
    ip.upper_len = len - ip.header_len;
    *out = ip;
    return true;
}

/* What of a plan is worked out once per call. */
struct probe_template {
    struct ip_view ip;
    uint16_t sport;
    uint32_t segment_len; /* sequence numbers that the probe takes: the SYN and its data */
};

static bool template_parse(const struct rk_probe_plan *plan, struct probe_template *out)
{
    if (!plan->packet || !ip_parse(plan->packet, plan->packet_len, false, &out->ip))
        return false;
    /* The length that goes into the header must fit its 16 bits. */
    uint32_t counted_len = plan->packet_len - (out->ip.addr_len == 16 ? IPV6_HEADER_LEN : 0);
    if (counted_len > 0xffff || out->ip.protocol != IP_PROTO_TCP || out->ip.upper_len < TCP_HEADER_LEN)
        return false;
    uint32_t tcp_header_len = (out->ip.upper[12] >> 4) * 4u;
    if (tcp_header_len < TCP_HEADER_LEN || tcp_header_len > out->ip.upper_len)
        return false;
    out->sport = rk_load_be16(out->ip.upper);
    out->segment_len = 1 + out->ip.upper_len - tcp_header_len;
    return true;
}

static uint32_t probe_seq(const struct rk_probe_plan *plan, const uint8_t *address, uint32_t addr_len,
                          uint16_t dport, uint16_t sport)
{
    uint8_t target[20] = {0};
    memcpy(target, address, addr_len);
    rk_store_be16(target + 16, dport);
    rk_store_be16(target + 18, sport);
    return (uint32_t)rk_cookie(plan->key, target, sizeof target);
}

int rk_probe_fill(const struct rk_probe_plan *plan, struct rk_batch *batch, uint64_t index, uint32_t n)
{
    struct probe_template probe;
    if (!template_parse(plan, &probe) || (plan->link_len && !plan->link) ||
        (plan->next_hops && plan->link_len < MAC_LEN) ||
        !rk_range_ok(index, n, (uint64_t)plan->addresses_n * plan->ports_n))
        return -EINVAL;

    uint64_t frame_len = (uint64_t)plan->link_len + plan->packet_len;
    uint64_t fit = batch->arena_len / frame_len;
    fit = fit < batch->capacity ? fit : batch->capacity;
    fit = fit < n ? fit : n;
    fit = fit < INT_MAX ? fit : INT_MAX;

    /* Sums of all that stays the same; length, destination, port, sequence number and checksums count as
     * zero there and are added per probe. */
    const struct ip_view *ip = &probe.ip;
    bool ipv4 = ip->addr_len == 4;
    uint16_t length_field = (uint16_t)(ipv4 ? plan->packet_len : plan->packet_len - IPV6_HEADER_LEN);
    uint32_t length_at = ipv4 ? 2 : 4;
    uint32_t dst_at = (uint32_t)(ip->dst - ip->packet);
    uint32_t ip_base = 0;
    if (ipv4) {
        ip_base = rk_csum_add(length_field, ip->packet, 2);
        ip_base = rk_csum_add(ip_base, ip->packet + 4, 6);
        ip_base = rk_csum_add(ip_base, ip->src, 4);
        ip_base = rk_csum_add(ip_base, ip->packet + IPV4_HEADER_LEN, ip->header_len - IPV4_HEADER_LEN);
    }
    static const uint8_t unset[16];
    uint32_t tcp_base = rk_csum_pseudo(ip->src, unset, ip->addr_len, IP_PROTO_TCP, ip->upper_len);
    tcp_base = rk_csum_add(tcp_base, ip->upper, 2);
    tcp_base = rk_csum_add(tcp_base, ip->upper + 8, 8);
    tcp_base = rk_csum_add(tcp_base, ip->upper + 18, ip->upper_len - 18);

    uint64_t address_i = 0;
    uint32_t port_i = 0;
    if (fit) {
        address_i = index / plan->ports_n;
        port_i = (uint32_t)(index % plan->ports_n);
    }
    uint8_t *frame = batch->arena;
    for (uint32_t i = 0; i < fit; i++, frame += frame_len) {
        const uint8_t *address = plan->addresses + 16 * address_i;
        uint16_t dport = plan->ports[port_i];
        uint32_t seq = probe_seq(plan, address, ip->addr_len, dport, probe.sport);
        if (plan->link_len)
            memcpy(frame, plan->link, plan->link_len);
        if (plan->next_hops)
            memcpy(frame, plan->next_hops + MAC_LEN * address_i, MAC_LEN);
        if (++port_i == plan->ports_n) {
            port_i = 0;
            address_i++;
        }

        uint8_t *packet = frame + plan->link_len;
        memcpy(packet, plan->packet, plan->packet_len);
        rk_store_be16(packet + length_at, length_field);
        memcpy(packet + dst_at, address, ip->addr_len);
        if (ipv4)
            rk_store_be16(packet + 10, (uint16_t)~rk_csum_add(ip_base, address, 4));
        uint8_t *tcp = packet + ip->header_len;
        rk_store_be16(tcp + 2, dport);
        rk_store_be32(tcp + 4, seq);
        uint32_t changed = (uint32_t)dport + (seq >> 16) + (seq & 0xffff) + tcp_base;
        rk_store_be16(tcp + 16, (uint16_t)~rk_csum_add(changed, address, ip->addr_len));

        batch->frames[i] = (struct rk_frame){
            .offset = (uint32_t)(frame - batch->arena),
            .cap_len = (uint32_t)frame_len,
            .wire_len = (uint32_t)frame_len,
            .protocol = ipv4 ? 0x0800 : 0x86dd,
        };
    }
    batch->n = (uint32_t)fit;
    batch->arena_used = (uint32_t)(fit * frame_len);
    return (int)fit;
}

/* A segment from the target itself. */
static bool match_segment(const struct rk_probe_plan *plan, const struct probe_template *probe,
                          const struct ip_view *ip, struct rk_probe_reply *reply)
{
    const uint8_t *tcp = ip->upper;
    if (ip->upper_len < TCP_HEADER_LEN || rk_load_be16(tcp + 2) != probe->sport)
        return false;
    uint8_t flags = tcp[13];
    if (!(flags & TCP_ACK) || !(flags & (TCP_SYN | TCP_RST)))
        return false;
    uint16_t port = rk_load_be16(tcp);
    /* Data in the SYN may be acknowledged or not; a RST acknowledges all (RFC 9293 section 3.10.7.1). */
    uint32_t acked = rk_load_be32(tcp + 8) - probe_seq(plan, ip->src, ip->addr_len, port, probe->sport);
    if (acked != 1 && acked != probe->segment_len)
        return false;
    reply->state = flags & TCP_RST ? RK_PROBE_CLOSED : RK_PROBE_OPEN;
    reply->port = port;
    memcpy(reply->address, ip->src, ip->addr_len);
    return true;
}

/* Errors that say a packet did not arrive: IPv4 destination unreachable, time exceeded, parameter problem
 * (RFC 792; not redirects, after which it did, nor the obsolete source quench); of IPv6 all the defined ones
 * (RFC 4443 section 2.1). */
static bool icmp_is_error(const struct ip_view *ip)
{
    uint8_t type = ip->upper[0];
    if (ip->addr_len == 4)
        return ip->protocol == IP_PROTO_ICMP && (type == 3 || type == 11 || type == 12);
    return ip->protocol == IP_PROTO_ICMPV6 && type >= 1 && type <= 4;
}

/* An ICMP error from anywhere, quoting a probe. */
static bool match_error(const struct rk_probe_plan *plan, const struct probe_template *probe,
                        const struct ip_view *ip, struct rk_probe_reply *reply)
{
    struct ip_view quoted;
    if (ip->upper_len < ICMP_HEADER_LEN || !icmp_is_error(ip) ||
        !ip_parse(ip->upper + ICMP_HEADER_LEN, ip->upper_len - ICMP_HEADER_LEN, false, &quoted) ||
        quoted.addr_len != ip->addr_len || quoted.protocol != IP_PROTO_TCP ||
        quoted.upper_len < TCP_QUOTED_LEN || rk_load_be16(quoted.upper) != probe->sport)
        return false;
    uint16_t port = rk_load_be16(quoted.upper + 2);
    if (rk_load_be32(quoted.upper + 4) != probe_seq(plan, quoted.dst, quoted.addr_len, port, probe->sport))
        return false;
    reply->state = RK_PROBE_FILTERED;
    reply->port = port;
    reply->icmp_type = ip->upper[0];
    reply->icmp_code = ip->upper[1];
    memcpy(reply->address, quoted.dst, quoted.addr_len);
    return true;
}

int rk_probe_match(const struct rk_probe_plan *plan, const struct rk_batch *batch, uint32_t link_skip,
                   uint32_t first, struct rk_probe_reply *replies, uint32_t replies_n, uint32_t *next)
{
    struct probe_template probe;
    if (!template_parse(plan, &probe) || batch->n > batch->capacity || first > batch->n)
        return -EINVAL;
    for (uint32_t i = first; i < batch->n; i++)
        if (!rk_range_ok(batch->frames[i].offset, batch->frames[i].cap_len, batch->arena_len))
            return -EINVAL;

    uint32_t limit = replies_n < INT_MAX ? replies_n : INT_MAX;
    uint32_t n = 0, i = first;
    for (; i < batch->n && n < limit; i++) {
        const struct rk_frame *frame = &batch->frames[i];
        struct rk_probe_reply reply = {.time_ns = frame->time_ns};
        struct ip_view ip;
        if (frame->cap_len <= link_skip ||
            !ip_parse(batch->arena + frame->offset + link_skip, frame->cap_len - link_skip, true, &ip) ||
            ip.addr_len != probe.ip.addr_len)
            continue;
        if (!(ip.protocol == IP_PROTO_TCP ? match_segment : match_error)(plan, &probe, &ip, &reply))
            continue;
        reply.hop_limit = ip.hop_limit;
        memcpy(reply.reporter, ip.src, ip.addr_len);
        replies[n++] = reply;
    }
    *next = i;
    return (int)n;
}
