/* TCP and echo probes: filling batches from a template, and recognising what comes back.
 *
 * A probe bears a cookie, the low half of SipHash-2-4 over its target and its source port, so whoever answers
 * must have seen the probe.  It is the sequence number, which a SYN-ACK or RST acknowledges, or the
 * acknowledgement of a template that has the ACK flag, which a RST then has for its sequence number (RFC 9293
 * section 3.10.7).  An ICMP error quotes both, though the acknowledgement lies behind the 8 octets that RFC 792
 * asks for (RFC 1812 section 4.3.2.3 and RFC 4443 section 2.4 ask for more).  In echo requests (RFC 792, RFC 4443
 * section 4.1) the identifier stands for the source port and the sequence number for the port, and the whole
 * cookie is the beginning of the data, which the answer has to bring back.  No table of what was sent is kept,
 * and a reply is believed for its cookie alone: that its target belongs to the plan follows from it, and
 * checksums, which a virtual device may have left unfilled, are not looked at. */
#include <errno.h>
#include <limits.h>

#include "rk.h"
#include "rk_internal.h"
#include "rk_probe.h"

#define IP_PROTO_HOP_BY_HOP 0
#define IP_PROTO_ICMP 1
#define IP_PROTO_TCP 6
#define IP_PROTO_FRAGMENT 44
#define IP_PROTO_ICMPV6 58
#define IP_PROTO_DESTINATION_OPTIONS 60

#define IPV4_HEADER_LEN 20
#define IPV6_HEADER_LEN 40
#define TCP_HEADER_LEN 20
#define TCP_SEQ_AT 4
#define TCP_ACK_AT 8
#define ICMP_HEADER_LEN 8
#define ICMP_ECHO 8
#define ICMP_ECHO_REPLY 0
#define ICMPV6_ECHO 128
#define ICMPV6_ECHO_REPLY 129
#define ECHO_ID_AT 4
#define ECHO_SEQ_AT 6
#define MAC_LEN RK_MAC_LEN

#define TCP_FIN 0x01
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
    uint16_t sport;       /* or identifier */
    uint32_t port_at;     /* of the header after IP, as the following */
    uint32_t checksum_at;
    uint32_t cookie_at;
    uint32_t cookie_len;
    bool is_syn;
    uint32_t segment_len; /* sequence numbers that a TCP probe takes: SYN, FIN and data */
};

static bool template_tcp(struct probe_template *out)
{
    if (out->ip.upper_len < TCP_HEADER_LEN)
        return false;
    uint32_t tcp_header_len = (out->ip.upper[12] >> 4) * 4u;
    if (tcp_header_len < TCP_HEADER_LEN || tcp_header_len > out->ip.upper_len)
        return false;
    out->sport = rk_load_be16(out->ip.upper);
    out->port_at = 2;
    out->checksum_at = 16;
    uint8_t flags = out->ip.upper[13];
    out->cookie_at = flags & TCP_ACK ? TCP_ACK_AT : TCP_SEQ_AT;
    out->cookie_len = 4;
    out->is_syn = flags & TCP_SYN;
    out->segment_len = (flags & TCP_SYN ? 1u : 0u) + (flags & TCP_FIN ? 1u : 0u) + out->ip.upper_len - tcp_header_len;
    return true;
}

static bool template_echo(struct probe_template *out)
{
    if (out->ip.upper_len < ICMP_HEADER_LEN + sizeof(uint64_t) ||
        out->ip.upper[0] != (out->ip.addr_len == 4 ? ICMP_ECHO : ICMPV6_ECHO))
        return false;
    out->sport = rk_load_be16(out->ip.upper + ECHO_ID_AT);
    out->port_at = ECHO_SEQ_AT;
    out->checksum_at = 2;
    out->cookie_at = ICMP_HEADER_LEN;
    out->cookie_len = sizeof(uint64_t);
    return true;
}

static bool template_parse(const struct rk_probe_plan *plan, struct probe_template *out)
{
    *out = (struct probe_template){0};
    if (!plan->packet || !ip_parse(plan->packet, plan->packet_len, false, &out->ip))
        return false;
    /* The length that goes into the header must fit its 16 bits. */
    uint32_t counted_len = plan->packet_len - (out->ip.addr_len == 16 ? IPV6_HEADER_LEN : 0);
    if (counted_len > 0xffff)
        return false;
    if (out->ip.protocol == IP_PROTO_TCP)
        return template_tcp(out);
    return out->ip.protocol == (out->ip.addr_len == 4 ? IP_PROTO_ICMP : IP_PROTO_ICMPV6) && template_echo(out);
}

/* The cookie of a target as its octets stand in a probe: the last cookie_len of these. */
static uint64_t probe_cookie(const struct rk_probe_plan *plan, const uint8_t *address, uint32_t addr_len,
                             uint16_t dport, uint16_t sport)
{
    uint8_t target[20] = {0};
    memcpy(target, address, addr_len);
    rk_store_be16(target + 16, dport);
    rk_store_be16(target + 18, sport);
    return rk_cookie(plan->key, target, sizeof target);
}

/* The sum of the template's upper header and data, but for what differs from probe to probe. */
static uint32_t upper_base(const struct probe_template *probe)
{
    const struct ip_view *ip = &probe->ip;
    static const uint8_t unset[16];
    uint32_t sum = 0;
    if (ip->protocol != IP_PROTO_ICMP)
        sum = rk_csum_pseudo(ip->src, unset, ip->addr_len, ip->protocol, ip->upper_len);
    uint32_t at = 0;
    for (; at < probe->cookie_at + probe->cookie_len || at <= probe->checksum_at; at += 2) {
        bool in_cookie = at >= probe->cookie_at && at < probe->cookie_at + probe->cookie_len;
        if (at != probe->port_at && at != probe->checksum_at && !in_cookie)
            sum = rk_csum_add(sum, ip->upper + at, 2);
    }
    return rk_csum_add(sum, ip->upper + at, ip->upper_len - at);
}

int rk_probe_prepare(const struct rk_probe_plan *plan, struct rk_probe_writer *writer)
{
    struct probe_template probe;
    uint64_t n;
    if (!template_parse(plan, &probe) || (plan->link_len && !plan->link) ||
        (plan->next_hops && plan->link_len < MAC_LEN) || (plan->addresses_n && !plan->spans_n) ||
        (plan->addresses_n && plan->ports_n && (!plan->spans || !plan->ports)) ||
        __builtin_mul_overflow(plan->addresses_n, (uint64_t)plan->ports_n, &n) ||
        (plan->order.n && plan->order.n != n))
        return -EINVAL;
    const struct ip_view *ip = &probe.ip;
    bool ipv4 = ip->addr_len == 4;
    *writer = (struct rk_probe_writer){
        .probes_n = n,
        .frame_len = (uint64_t)plan->link_len + plan->packet_len,
        .header_len = ip->header_len,
        .addr_len = ip->addr_len,
        .dst_at = (uint32_t)(ip->dst - ip->packet),
        .length_at = ipv4 ? 2 : 4,
        .length = (uint16_t)(ipv4 ? plan->packet_len : plan->packet_len - IPV6_HEADER_LEN),
        .sport = probe.sport,
        .port_at = probe.port_at,
        .checksum_at = probe.checksum_at,
        .cookie_at = probe.cookie_at,
        .cookie_len = probe.cookie_len,
        .pseudo = ip->protocol != IP_PROTO_ICMP,
        .upper_base = upper_base(&probe),
    };
    /* Sums of all that stays the same; length, destination, port, cookie and checksums count as zero there
     * and are added per probe. */
    if (ipv4) {
        writer->ip_base = rk_csum_add(writer->length, ip->packet, 2);
        writer->ip_base = rk_csum_add(writer->ip_base, ip->packet + 4, 6);
        writer->ip_base = rk_csum_add(writer->ip_base, ip->src, 4);
        writer->ip_base =
            rk_csum_add(writer->ip_base, ip->packet + IPV4_HEADER_LEN, ip->header_len - IPV4_HEADER_LEN);
    }
    return 0;
}

int rk_probe_ports_ascend(const uint16_t *ports, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        if (ports[i] <= ports[i - 1])
            return false;
    return true;
}

uint32_t rk_probe_room(const struct rk_probe_writer *writer, const struct rk_batch *batch, uint32_t n)
{
    uint64_t fit = batch->arena_len / writer->frame_len;
    fit = fit < batch->capacity ? fit : batch->capacity;
    fit = fit < n ? fit : n;
    return fit < INT_MAX ? (uint32_t)fit : INT_MAX;
}

/* The addresses of a span are 128-bit numbers. */
__extension__ typedef unsigned __int128 number128;

static number128 load_address(const uint8_t *octets, uint32_t addr_len)
{
    number128 value = 0;
    for (uint32_t i = 0; i < addr_len; i++)
        value = value << 8 | octets[i];
    return value;
}

void rk_probe_find_target(const struct rk_probe_plan *plan, uint32_t addr_len, uint64_t position,
                          struct rk_probe_place *out)
{
    uint64_t number = plan->order.n ? rk_perm_at(&plan->order, position) : position;
    out->address_i = number / plan->ports_n;
    out->port = plan->ports[number % plan->ports_n];
    uint32_t low = 0, high = plan->spans_n - 1;
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        if (plan->spans[middle].before <= out->address_i)
            low = middle;
        else
            high = middle - 1;
    }
    const struct rk_span *span = &plan->spans[low];
    number128 address = load_address(span->first, addr_len) + (out->address_i - span->before);
    memset(out->address, 0, sizeof out->address);
    for (uint32_t i = addr_len; i-- > 0; address >>= 8)
        out->address[i] = (uint8_t)address;
}

bool rk_probe_find_position(const struct rk_probe_plan *plan, uint32_t addr_len, const uint8_t *address,
                            uint16_t port, uint64_t *position)
{
    if (!plan->spans_n || !plan->ports_n)
        return false;
    number128 wanted = load_address(address, addr_len);
    uint32_t low = 0, high = plan->spans_n - 1;
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        if (load_address(plan->spans[middle].first, addr_len) <= wanted)
            low = middle;
        else
            high = middle - 1;
    }
    const struct rk_span *span = &plan->spans[low];
    number128 first = load_address(span->first, addr_len);
    if (wanted < first || wanted - first >= span->n)
        return false;
    /* Where it is if those before it leave no gaps, as when all are scanned. */
    uint32_t port_low = (uint32_t)port - plan->ports[0], port_high = port_low;
    if (port_low >= plan->ports_n || plan->ports[port_low] != port)
        port_low = 0, port_high = plan->ports_n - 1;
    while (port_low < port_high) {
        uint32_t middle = port_low + (port_high - port_low) / 2;
        if (plan->ports[middle] < port)
            port_low = middle + 1;
        else
            port_high = middle;
    }
    if (plan->ports[port_low] != port)
        return false;
    uint64_t number = (span->before + (uint64_t)(wanted - first)) * plan->ports_n + port_low;
    *position = plan->order.n ? rk_perm_index(&plan->order, number) : number;
    return true;
}

void rk_probe_write(const struct rk_probe_plan *plan, const struct rk_probe_writer *writer,
                    const struct rk_probe_place *target, struct rk_batch *batch)
{
    uint8_t *frame = batch->arena + batch->arena_used, *packet = frame + plan->link_len;
    bool ipv4 = writer->addr_len == 4;
    if (plan->link_len)
        memcpy(frame, plan->link, plan->link_len);
    if (plan->next_hops)
        memcpy(frame, plan->next_hops + MAC_LEN * target->address_i, MAC_LEN);
    memcpy(packet, plan->packet, plan->packet_len);
    rk_store_be16(packet + writer->length_at, writer->length);
    memcpy(packet + writer->dst_at, target->address, writer->addr_len);
    if (ipv4)
        rk_store_be16(packet + 10, (uint16_t)~rk_csum_add(writer->ip_base, target->address, 4));
    uint8_t *upper = packet + writer->header_len, cookie[sizeof(uint64_t)];
    rk_store_be64(cookie, probe_cookie(plan, target->address, writer->addr_len, target->port, writer->sport));
    const uint8_t *used = cookie + sizeof cookie - writer->cookie_len;
    memcpy(upper + writer->cookie_at, used, writer->cookie_len);
    rk_store_be16(upper + writer->port_at, target->port);
    uint32_t sum = rk_csum_add(target->port + writer->upper_base, used, writer->cookie_len);
    if (writer->pseudo)
        sum = rk_csum_add(sum, target->address, writer->addr_len);
    rk_store_be16(upper + writer->checksum_at, (uint16_t)~sum);
    batch->frames[batch->n++] = (struct rk_frame){
        .offset = (uint32_t)batch->arena_used,
        .cap_len = (uint32_t)writer->frame_len,
        .wire_len = (uint32_t)writer->frame_len,
        .protocol = ipv4 ? 0x0800 : 0x86dd,
    };
    batch->arena_used += (uint32_t)writer->frame_len;
}

int rk_probe_fill(const struct rk_probe_plan *plan, struct rk_batch *batch, uint64_t first, uint32_t n)
{
    struct rk_probe_writer writer;
    if (rk_probe_prepare(plan, &writer) != 0 || !rk_range_ok(first, n, writer.probes_n))
        return -EINVAL;
    uint32_t fit = rk_probe_room(&writer, batch, n);
    batch->n = batch->arena_used = 0;
    for (uint32_t i = 0; i < fit; i++) {
        struct rk_probe_place target;
        rk_probe_find_target(plan, writer.addr_len, first + i, &target);
        rk_probe_write(plan, &writer, &target, batch);
    }
    return (int)fit;
}

int rk_probe_target(const struct rk_probe_plan *plan, uint64_t position, uint8_t *address, uint16_t *port)
{
    struct rk_probe_writer writer;
    if (rk_probe_prepare(plan, &writer) != 0 || position >= writer.probes_n)
        return -EINVAL;
    struct rk_probe_place target;
    rk_probe_find_target(plan, writer.addr_len, position, &target);
    memcpy(address, target.address, sizeof target.address);
    *port = target.port;
    return 0;
}

/* A segment from the target itself. */
static bool match_segment(const struct rk_probe_plan *plan, const struct probe_template *probe,
                          const struct ip_view *ip, struct rk_probe_reply *reply)
{
    const uint8_t *tcp = ip->upper;
    if (ip->upper_len < TCP_HEADER_LEN || rk_load_be16(tcp + 2) != probe->sport)
        return false;
    uint8_t flags = tcp[13];
    uint16_t port = rk_load_be16(tcp);
    uint32_t cookie = (uint32_t)probe_cookie(plan, ip->src, ip->addr_len, port, probe->sport);
    if (probe->cookie_at == TCP_ACK_AT) {
        /* "If the incoming segment has an ACK field, the reset takes its sequence number from [it]". */
        if (!(flags & TCP_RST) || rk_load_be32(tcp + TCP_SEQ_AT) != cookie)
            return false;
    } else {
        if (!(flags & TCP_ACK) || !(flags & (TCP_SYN | TCP_RST)))
            return false;
        /* Data in the SYN may be acknowledged or not; a RST acknowledges all (RFC 9293 section 3.10.7.1). */
        uint32_t acked = rk_load_be32(tcp + TCP_ACK_AT) - cookie;
        if (acked != probe->segment_len && !(probe->is_syn && acked == 1))
            return false;
    }
    reply->state = flags & TCP_RST ? RK_PROBE_CLOSED : RK_PROBE_OPEN;
    reply->port = port;
    reply->window = rk_load_be16(tcp + 14);
    memcpy(reply->address, ip->src, ip->addr_len);
    return true;
}

/* An echo reply from the target itself. */
static bool match_echo(const struct rk_probe_plan *plan, const struct probe_template *probe,
                       const struct ip_view *ip, struct rk_probe_reply *reply)
{
    const uint8_t *echo = ip->upper, *sent = probe->ip.upper;
    uint32_t data_at = probe->cookie_at + probe->cookie_len;
    if (ip->upper_len < data_at || echo[0] != (ip->addr_len == 4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY) ||
        rk_load_be16(echo + ECHO_ID_AT) != probe->sport)
        return false;
    uint16_t seq = rk_load_be16(echo + ECHO_SEQ_AT);
    if (rk_load_be64(echo + probe->cookie_at) != probe_cookie(plan, ip->src, ip->addr_len, seq, probe->sport))
        return false;
    bool same = ip->upper_len == probe->ip.upper_len &&
                memcmp(echo + data_at, sent + data_at, ip->upper_len - data_at) == 0;
    reply->state = same ? RK_PROBE_OPEN : RK_PROBE_DAMAGED;
    reply->port = seq;
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
        quoted.addr_len != ip->addr_len || quoted.protocol != probe->ip.protocol ||
        quoted.upper_len < probe->cookie_at + probe->cookie_len)
        return false;
    bool is_tcp = quoted.protocol == IP_PROTO_TCP;
    if (rk_load_be16(quoted.upper + (is_tcp ? 0 : ECHO_ID_AT)) != probe->sport ||
        (!is_tcp && quoted.upper[0] != probe->ip.upper[0]))
        return false;
    uint16_t port = rk_load_be16(quoted.upper + probe->port_at);
    uint8_t cookie[sizeof(uint64_t)];
    rk_store_be64(cookie, probe_cookie(plan, quoted.dst, quoted.addr_len, port, probe->sport));
    if (memcmp(quoted.upper + probe->cookie_at, cookie + sizeof cookie - probe->cookie_len, probe->cookie_len) != 0)
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
        bool mine = false;
        if (ip.protocol == probe.ip.protocol)
            mine = (ip.protocol == IP_PROTO_TCP ? match_segment : match_echo)(plan, &probe, &ip, &reply);
        if (!mine && ip.protocol != IP_PROTO_TCP)
            mine = match_error(plan, &probe, &ip, &reply);
        if (!mine)
            continue;
        reply.hop_limit = ip.hop_limit;
        memcpy(reply.reporter, ip.src, ip.addr_len);
        replies[n++] = reply;
    }
    *next = i;
    return (int)n;
}
