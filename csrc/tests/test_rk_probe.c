/* Probes as filled are checked octet by octet and by summing them up whole; replies are made here by hand,
 * changed in every way that must make them no reply, and cut at every length. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rk.h"
#include "rk_internal.h"

static int failures;

#define EXPECT(got, want, ...)                                                      \
    do {                                                                            \
        long long got_ = (got), want_ = (want);                                     \
        if (got_ != want_ && failures++ < 20) {                                     \
            fprintf(stderr, "line %d: %lld, want %lld: ", __LINE__, got_, want_);   \
            fprintf(stderr, __VA_ARGS__);                                           \
            fputc('\n', stderr);                                                    \
        }                                                                           \
    } while (0)

#define SPORT 40000
#define ARENA_LEN 4096
#define CAPACITY 16

static const uint8_t source[16] = {0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9};
static const uint8_t addresses[3][16] = {
    {192, 0, 2, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 1},
    {192, 0, 2, 254, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 2},
    {255, 255, 255, 255, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 3},
};
static struct rk_span spans[3]; /* each of one address */
static const uint16_t ports[2] = {80, 65535};
static const uint8_t link_header[14] = {2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 8, 0};

/* A template: IPv4 with options_len octets of options or IPv6 with as many octets of extension header, TCP
 * with 4 octets of options, payload_len octets of payload.  Lengths and checksums hold rubbish. */
static uint32_t make_template(uint8_t *packet, uint32_t addr_len, uint32_t options_len, uint32_t payload_len)
{
    uint32_t ip_len = (addr_len == 4 ? 20 : 40) + options_len;
    memset(packet, 0, ip_len);
    if (addr_len == 4) {
        packet[0] = (uint8_t)(0x40 | ip_len / 4);
        rk_store_be32(packet + 2, 0xdeadbeef);
        rk_store_be16(packet + 6, 0x4000);
        packet[8] = 64;
        packet[9] = 6;
        rk_store_be16(packet + 10, 0x1234);
        memcpy(packet + 12, source, 4);
        memset(packet + 20, 1, options_len);
    } else {
        packet[0] = 0x60;
        packet[6] = options_len ? 60 : 6;
        rk_store_be16(packet + 4, 0xdead);
        packet[7] = 64;
        memcpy(packet + 8, source, 16);
        if (options_len) {
            packet[40] = 6;
            packet[41] = (uint8_t)(options_len / 8 - 1);
            packet[42] = 1;
            packet[43] = (uint8_t)(options_len - 4);
        }
    }
    uint8_t *tcp = packet + ip_len;
    memset(tcp, 0x77, 24 + payload_len);
    rk_store_be16(tcp, SPORT);
    rk_store_be32(tcp + 8, 0);
    tcp[12] = 0x60;
    tcp[13] = 2;
    rk_store_be32(tcp + 20, 0x020405b4);
    return ip_len + 24 + payload_len;
}

struct bench {
    uint8_t packet[256];
    uint8_t arena[ARENA_LEN];
    struct rk_frame frames[CAPACITY];
    struct rk_probe_plan plan;
    struct rk_batch batch;
    uint32_t addr_len;
};

static void prepare(struct bench *b, uint32_t addr_len, uint32_t options_len, uint32_t payload_len, bool link)
{
    memset(b, 0, sizeof *b);
    memset(b->arena, 0xee, sizeof b->arena);
    b->addr_len = addr_len;
    for (uint32_t i = 0; i < 3; i++) {
        spans[i] = (struct rk_span){.before = i, .n = 1};
        memcpy(spans[i].first, addresses[i], sizeof spans[i].first);
    }
    b->plan = (struct rk_probe_plan){
        .packet = b->packet,
        .packet_len = make_template(b->packet, addr_len, options_len, payload_len),
        .link = link ? link_header : NULL,
        .link_len = link ? sizeof link_header : 0,
        .spans = spans,
        .spans_n = 3,
        .addresses_n = 3,
        .ports = ports,
        .ports_n = 2,
        .key = "a key of 16 oct",
    };
    b->batch = (struct rk_batch){
        .arena = b->arena, .frames = b->frames, .arena_len = ARENA_LEN, .capacity = CAPACITY};
}

static uint32_t cookie_of(const struct bench *b, const uint8_t *address, uint16_t port)
{
    uint8_t data[20] = {0};
    memcpy(data, address, b->addr_len);
    rk_store_be16(data + 16, port);
    rk_store_be16(data + 18, SPORT);
    return (uint32_t)rk_cookie(b->plan.key, data, sizeof data);
}

/* Frame i must be the template in everything but what a probe changes. */
static void check_probe(const struct bench *b, uint32_t i, uint64_t index)
{
    const struct rk_frame *frame = &b->frames[i];
    uint32_t len = b->plan.packet_len;
    EXPECT(frame->cap_len, b->plan.link_len + len, "captured length of %u", i);
    EXPECT(frame->wire_len, frame->cap_len, "wire length of %u", i);
    EXPECT(frame->protocol, b->addr_len == 4 ? 0x0800 : 0x86dd, "EtherType of %u", i);
    const uint8_t *packet = b->arena + frame->offset + b->plan.link_len;
    if (b->plan.link_len)
        EXPECT(memcmp(packet - b->plan.link_len, link_header, sizeof link_header), 0, "link header of %u", i);

    const uint8_t *address = addresses[index / 2];
    uint8_t want[256];
    memcpy(want, b->packet, len);
    uint32_t ip_len = b->addr_len == 4 ? (want[0] & 15u) * 4 : want[6] == 6 ? 40 : 48 + want[41] * 8u;
    uint32_t upper_len = len - ip_len;
    rk_store_be16(want + (b->addr_len == 4 ? 2 : 4), (uint16_t)(b->addr_len == 4 ? len : len - 40));
    memcpy(want + (b->addr_len == 4 ? 16 : 24), address, b->addr_len);
    rk_store_be16(want + ip_len + 2, ports[index % 2]);
    rk_store_be32(want + ip_len + 4, cookie_of(b, address, ports[index % 2]));
    if (b->addr_len == 4) {
        rk_store_be16(want + 10, 0);
        rk_store_be16(want + 10, rk_csum(want, ip_len));
    }
    rk_store_be16(want + ip_len + 16, 0);
    uint32_t sum = rk_csum_pseudo(source, address, b->addr_len, 6, upper_len);
    rk_store_be16(want + ip_len + 16, (uint16_t)~rk_csum_add(sum, want + ip_len, upper_len));
    for (uint32_t at = 0; at < len; at++)
        EXPECT(packet[at], want[at], "octet %u of probe %u", at, i);
}

static void check_fill(uint32_t addr_len, uint32_t options_len, uint32_t payload_len, bool link)
{
    struct bench b;
    prepare(&b, addr_len, options_len, payload_len, link);
    for (uint32_t first = 0; first <= 6; first++) {
        EXPECT(rk_probe_fill(&b.plan, &b.batch, first, 6 - first), 6 - first, "from %u", first);
        EXPECT(b.batch.n, 6 - first, "rows");
        EXPECT(b.batch.arena_used, (6 - first) * (b.plan.packet_len + b.plan.link_len), "arena");
        for (uint32_t i = 0; i < b.batch.n; i++)
            check_probe(&b, i, first + i);
    }
    /* No more than fits, by rows and by octets, and nothing written behind. */
    uint32_t frame_len = b.plan.packet_len + b.plan.link_len;
    memset(b.arena, 0xee, sizeof b.arena);
    b.batch.arena_len = 2 * frame_len - 1;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 6), 1, "arena of nearly two");
    for (uint32_t at = frame_len; at < ARENA_LEN; at++)
        EXPECT(b.arena[at], 0xee, "octet %u behind the frame", at);
    b.batch.arena_len = frame_len - 1;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 6), 0, "arena of nearly one");
    b.batch.arena_len = ARENA_LEN;
    b.batch.capacity = 3;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 6), 3, "three rows");
    b.batch.capacity = CAPACITY;

    b.batch.n = 5;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 7), -EINVAL, "one too many");
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 7, 0), -EINVAL, "beyond the end");
    EXPECT(rk_probe_fill(&b.plan, &b.batch, UINT64_MAX, 2), -EINVAL, "range that wraps");
    EXPECT(b.batch.n, 5, "untouched on failure");

    /* A template cut anywhere within its headers is none; nor is one of another protocol. */
    uint32_t headers_len = b.plan.packet_len - payload_len;
    for (uint32_t len = 0; len < headers_len; len++) {
        uint8_t *exact = malloc(len + 1);
        memcpy(exact + 1, b.packet, len);
        b.plan.packet = exact + 1;
        b.plan.packet_len = len;
        EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 1), -EINVAL, "template of %u octets", len);
        free(exact);
    }
    prepare(&b, addr_len, options_len, payload_len, link);
    b.packet[headers_len - 24 + 12] = 0x40;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 1), -EINVAL, "data offset too small");
    prepare(&b, addr_len, options_len, payload_len, link);
    b.plan.link = NULL;
    b.plan.link_len = 14;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 1), -EINVAL, "link header missing");
    prepare(&b, addr_len, options_len, payload_len, link);
    b.packet[0] = 0x55;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 1), -EINVAL, "IP version 5");
    prepare(&b, addr_len, 0, payload_len, link);
    b.packet[addr_len == 4 ? 9 : 6] = 17;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 1), -EINVAL, "UDP");
    prepare(&b, addr_len, 0, 0, link);
    uint8_t *huge = calloc(1, 70000);
    memcpy(huge, b.packet, b.plan.packet_len);
    b.plan.packet = huge;
    uint32_t limit = 0xffff + (addr_len == 4 ? 0 : 40);
    b.plan.packet_len = limit;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 1), 0, "longest packet, which does not fit the arena");
    b.plan.packet_len = limit + 1;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 1), -EINVAL, "packet too long for its length field");
    free(huge);
}

/* Each address has a next hop of its own; the rest of the link header stays. */
static void check_next_hops(uint32_t addr_len)
{
    static const uint8_t next_hops[3][6] = {{1, 2, 3, 4, 5, 6}, {0x11, 0x12, 0x13, 0x14, 0x15, 0x16}, {0x21}};
    struct bench b;
    prepare(&b, addr_len, 0, 0, true);
    b.plan.next_hops = next_hops[0];
    for (uint32_t first = 0; first < 6; first++) {
        EXPECT(rk_probe_fill(&b.plan, &b.batch, first, 6 - first), 6 - first, "from %u", first);
        for (uint32_t i = 0; i < b.batch.n; i++) {
            uint8_t *link = b.arena + b.frames[i].offset;
            EXPECT(memcmp(link, next_hops[(first + i) / 2], 6), 0, "next hop of probe %u", first + i);
            memcpy(link, link_header, 6);
            check_probe(&b, i, first + i);
        }
    }
    b.plan.link_len = 5;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 1), -EINVAL, "no room for a next hop");
}

/* An IP header without options for upper_len octets; returns its length. */
static uint32_t put_ip(uint8_t *octets, uint32_t addr_len, const uint8_t *src, const uint8_t *dst,
                       uint8_t protocol, uint32_t upper_len)
{
    uint32_t ip_len = addr_len == 4 ? 20 : 40;
    memset(octets, 0, ip_len);
    octets[0] = addr_len == 4 ? 0x45 : 0x60;
    rk_store_be16(octets + (addr_len == 4 ? 2 : 4), (uint16_t)(addr_len == 4 ? 20 + upper_len : upper_len));
    octets[addr_len == 4 ? 8 : 7] = 57;
    octets[addr_len == 4 ? 9 : 6] = protocol;
    memcpy(octets + (addr_len == 4 ? 12 : 8), src, addr_len);
    memcpy(octets + (addr_len == 4 ? 16 : 24), dst, addr_len);
    return ip_len;
}

static uint32_t put_segment(uint8_t *octets, const struct bench *b, const uint8_t *target, uint16_t port,
                            uint8_t flags, uint32_t ack)
{
    uint32_t ip_len = put_ip(octets, b->addr_len, target, source, 6, 20);
    uint8_t *tcp = octets + ip_len;
    memset(tcp, 0, 20);
    rk_store_be16(tcp, port);
    rk_store_be16(tcp + 2, SPORT);
    rk_store_be32(tcp + 4, 12345);
    rk_store_be32(tcp + 8, ack);
    tcp[12] = 0x50;
    tcp[13] = flags;
    return ip_len + 20;
}

/* An ICMP error that quotes the probe to (target, port) up to 8 octets of TCP. */
static uint32_t put_error(uint8_t *octets, const struct bench *b, const uint8_t *reporter,
                          const uint8_t *target, uint16_t port, uint8_t type, uint8_t code)
{
    uint32_t ip_len = b->addr_len == 4 ? 20 : 40;
    put_ip(octets, b->addr_len, reporter, source, b->addr_len == 4 ? 1 : 58, 8 + ip_len + 8);
    uint8_t *icmp = octets + ip_len;
    memset(icmp, 0, 8);
    icmp[0] = type;
    icmp[1] = code;
    uint8_t *quoted = icmp + 8;
    put_ip(quoted, b->addr_len, source, target, 6, 24);
    rk_store_be16(quoted + ip_len, SPORT);
    rk_store_be16(quoted + ip_len + 2, port);
    rk_store_be32(quoted + ip_len + 4, cookie_of(b, target, port));
    return ip_len + 8 + ip_len + 8;
}

/* Match one packet in an arena that ends where it ends; the reply goes to out. */
static int match_one(struct bench *b, const uint8_t *octets, uint32_t len, uint32_t link_skip,
                     struct rk_probe_reply *out)
{
    uint8_t *exact = malloc(len ? len : 1);
    memcpy(exact, octets, len);
    struct rk_frame frame = {.time_ns = 99, .cap_len = len, .wire_len = len};
    struct rk_batch batch = {.arena = exact, .frames = &frame, .arena_len = len, .arena_used = len,
                             .capacity = 1, .n = 1};
    uint32_t next = 77;
    int result = rk_probe_match(&b->plan, &batch, link_skip, 0, out, 1, &next);
    EXPECT(next, 1, "frame to go on from");
    free(exact);
    return result;
}

static void check_reply(const struct bench *b, const struct rk_probe_reply *reply, const uint8_t *target,
                        const uint8_t *reporter, uint16_t port, int state)
{
    uint8_t padded[16] = {0};
    memcpy(padded, target, b->addr_len);
    EXPECT(memcmp(reply->address, padded, 16), 0, "address");
    memcpy(padded, reporter, b->addr_len);
    EXPECT(memcmp(reply->reporter, padded, 16), 0, "reporter");
    EXPECT(reply->port, port, "port");
    EXPECT(reply->state, state, "state");
    EXPECT(reply->hop_limit, 57, "hop limit");
    EXPECT(reply->time_ns, 99, "time");
}

static void check_match(uint32_t addr_len)
{
    struct bench b;
    prepare(&b, addr_len, 0, 0, false);
    const uint8_t *target = addresses[1];
    uint32_t seq = cookie_of(&b, target, 80);
    uint8_t octets[256] = {0};
    struct rk_probe_reply reply;
    uint32_t tcp_at = addr_len == 4 ? 20 : 40;

    static const struct {
        uint8_t flags;
        int state;
    } segments[] = {
        {0x12, RK_PROBE_OPEN},   {0x52, RK_PROBE_OPEN}, {0x14, RK_PROBE_CLOSED}, {0x16, RK_PROBE_CLOSED},
        {0x04, 0}, {0x02, 0}, {0x10, 0}, {0x18, 0}, {0x00, 0}, {0x11, 0},
    };
    for (size_t i = 0; i < sizeof segments / sizeof *segments; i++) {
        uint32_t len = put_segment(octets, &b, target, 80, segments[i].flags, seq + 1);
        EXPECT(match_one(&b, octets, len, 0, &reply), segments[i].state != 0, "flags %#x", segments[i].flags);
        if (segments[i].state)
            check_reply(&b, &reply, target, target, 80, segments[i].state);
        for (uint32_t cut = 0; cut < len; cut++)
            EXPECT(match_one(&b, octets, cut, 0, &reply), 0, "segment cut at %u", cut);
    }

    /* Forged, or for somebody else. */
    uint32_t len = put_segment(octets, &b, target, 80, 0x12, seq);
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "acknowledges too little");
    len = put_segment(octets, &b, target, 80, 0x12, seq + 2);
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "acknowledges too much");
    len = put_segment(octets, &b, target, 81, 0x12, seq + 1);
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "another port");
    len = put_segment(octets, &b, addresses[0], 80, 0x12, seq + 1);
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "another address");
    len = put_segment(octets, &b, target, 80, 0x12, seq + 1);
    octets[tcp_at + 3] ^= 1;
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "to another port of ours");
    octets[tcp_at + 3] ^= 1;
    b.plan.key[3] ^= 1;
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "under another key");
    b.plan.key[3] ^= 1;
    octets[0] ^= 0x20;
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "another IP version");
    octets[0] ^= 0x20;
    if (addr_len == 4) {
        octets[7] = 1;
        EXPECT(match_one(&b, octets, len, 0, &reply), 0, "a later fragment");
        octets[7] = 0;
        rk_store_be16(octets + 2, 39);
        EXPECT(match_one(&b, octets, len, 0, &reply), 0, "TCP header longer than the packet says");
        rk_store_be16(octets + 2, 19);
        EXPECT(match_one(&b, octets, len, 0, &reply), 0, "total length below the header");
        rk_store_be16(octets + 2, 40);
    }
    /* Link padding behind the packet and a link header before it do no harm. */
    EXPECT(match_one(&b, octets, len + 6, 0, &reply), 1, "padded");
    memmove(octets + 14, octets, len);
    EXPECT(match_one(&b, octets, len + 14, 14, &reply), 1, "behind a link header");
    EXPECT(match_one(&b, octets, len + 14, len + 14, &reply), 0, "link header only");
    EXPECT(match_one(&b, octets, len + 14, UINT32_MAX, &reply), 0, "link header longer than the frame");

    /* ICMP errors. */
    const uint8_t *router = addresses[2];
    for (unsigned type = 0; type < 256; type++) {
        len = put_error(octets, &b, router, target, 65535, (uint8_t)type, 13);
        bool error = addr_len == 4 ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4;
        EXPECT(match_one(&b, octets, len, 0, &reply), error, "ICMP type %u", type);
        if (error) {
            check_reply(&b, &reply, target, router, 65535, RK_PROBE_FILTERED);
            EXPECT(reply.icmp_type, type, "ICMP type");
            EXPECT(reply.icmp_code, 13, "ICMP code");
        }
    }
    len = put_error(octets, &b, router, target, 80, addr_len == 4 ? 3 : 1, 1);
    for (uint32_t cut = 0; cut < len; cut++)
        EXPECT(match_one(&b, octets, cut, 0, &reply), 0, "error cut at %u", cut);
    uint32_t quoted_at = tcp_at + 8;
    const uint32_t damage[] = {
        quoted_at,                              /* version */
        quoted_at + (addr_len == 4 ? 9u : 6u),  /* protocol */
        quoted_at + (addr_len == 4 ? 19u : 39u),/* destination */
        quoted_at + tcp_at + 1,                 /* source port */
        quoted_at + tcp_at + 3,                 /* destination port */
        quoted_at + tcp_at + 7,                 /* sequence number */
    };
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        octets[damage[i]] ^= 0x20;
        EXPECT(match_one(&b, octets, len, 0, &reply), 0, "damaged at %u", damage[i]);
        octets[damage[i]] ^= 0x20;
    }
    rk_store_be16(octets + quoted_at + (addr_len == 4 ? 2 : 4), 3); /* as some stacks return it */
    EXPECT(match_one(&b, octets, len, 0, &reply), 1, "quoted length field changed");
}

/* IPv6 extension headers before TCP, and the ways in which they may be broken. */
static void check_extensions(void)
{
    struct bench b;
    prepare(&b, 16, 0, 0, false);
    struct rk_probe_reply reply;
    uint8_t plain[60], octets[60 + 8 * 3];
    put_segment(plain, &b, addresses[0], 80, 0x12, cookie_of(&b, addresses[0], 80) + 1);
    memcpy(octets, plain, 40);
    memset(octets + 40, 0, 24);
    memcpy(octets + 64, plain + 40, 20);
    rk_store_be16(octets + 4, 44);
    octets[6] = 0;   /* hop-by-hop options, */
    octets[40] = 60; /* then destination options, */
    octets[48] = 44; /* then a fragment header, */
    octets[56] = 6;  /* then TCP */
    EXPECT(match_one(&b, octets, 84, 0, &reply), 1, "three extension headers");
    for (uint32_t cut = 0; cut < 84; cut++)
        EXPECT(match_one(&b, octets, cut, 0, &reply), 0, "cut at %u", cut);
    octets[59] = 8;
    EXPECT(match_one(&b, octets, 84, 0, &reply), 0, "a later fragment");
    octets[59] = 0;
    octets[41] = 255;
    EXPECT(match_one(&b, octets, 84, 0, &reply), 0, "extension header longer than the packet");
    octets[41] = 0;
    octets[48] = 43;
    EXPECT(match_one(&b, octets, 84, 0, &reply), 0, "routing header");
}

/* A cookie for an address of one family does not make a reply under a plan of the other. */
static void check_families(void)
{
    struct bench b;
    uint8_t octets[256];
    struct rk_probe_reply reply;
    for (uint32_t addr_len = 4; addr_len <= 16; addr_len += 12) {
        prepare(&b, addr_len, 0, 0, false);
        b.addr_len = 20 - addr_len; /* the replies' family, not the plan's */
        uint32_t len = put_segment(octets, &b, addresses[0], 80, 0x12, cookie_of(&b, addresses[0], 80) + 1);
        EXPECT(match_one(&b, octets, len, 0, &reply), 0, "segment of the other family");
        len = put_error(octets, &b, addresses[1], addresses[0], 80, 3, 1);
        EXPECT(match_one(&b, octets, len, 0, &reply), 0, "error of the other family");

        /* The error is of the plan's family, what it quotes is not. */
        uint32_t ip_len = b.addr_len == 4 ? 20 : 40, quote_len = 8 + ip_len + 8;
        memmove(octets + (addr_len == 4 ? 20 : 40), octets + ip_len, quote_len);
        put_ip(octets, addr_len, addresses[1], source, addr_len == 4 ? 1 : 58, quote_len);
        EXPECT(match_one(&b, octets, (addr_len == 4 ? 20 : 40) + quote_len, 0, &reply), 0, "quote");
    }
}

/* A SYN with data may be acknowledged up to the SYN or up to the end of the data, not between. */
static void check_data(void)
{
    struct bench b;
    prepare(&b, 4, 0, 10, false);
    struct rk_probe_reply reply;
    uint8_t octets[40];
    uint32_t seq = cookie_of(&b, addresses[0], 80);
    for (uint32_t acked = 0; acked <= 12; acked++) {
        uint32_t len = put_segment(octets, &b, addresses[0], 80, 0x14, seq + acked);
        EXPECT(match_one(&b, octets, len, 0, &reply), acked == 1 || acked == 11, "acknowledged %u", acked);
    }
}

/* Batches: replies among other things, taken up again where the replies ran out, bad rows refused. */
static void check_batches(void)
{
    struct bench b;
    prepare(&b, 4, 0, 0, false);
    uint32_t next = 77;
    struct rk_probe_reply replies[4];
    for (uint32_t i = 0; i < 6; i++) {
        const uint8_t *target = addresses[i / 2];
        uint32_t len = put_segment(b.arena + 100 * i, &b, target, ports[i % 2], 0x12,
                                   cookie_of(&b, target, ports[i % 2]) + (i == 2 ? 3 : 1));
        b.frames[i] = (struct rk_frame){.offset = 100 * i, .cap_len = len, .wire_len = len};
    }
    b.batch.n = 6;
    EXPECT(rk_probe_match(&b.plan, &b.batch, 0, 0, replies, 4, &next), 4, "four of five replies");
    EXPECT(next, 5, "next");
    EXPECT(replies[2].port, 65535, "the forged one is left out");
    EXPECT(rk_probe_match(&b.plan, &b.batch, 0, next, replies, 4, &next), 1, "the fifth");
    EXPECT(next, 6, "next");
    EXPECT(rk_probe_match(&b.plan, &b.batch, 0, 6, replies, 4, &next), 0, "none left");
    EXPECT(rk_probe_match(&b.plan, &b.batch, 0, 0, replies, 0, &next), 0, "no room");
    EXPECT(next, 0, "next");

    next = 77;
    EXPECT(rk_probe_match(&b.plan, &b.batch, 0, 7, replies, 4, &next), -EINVAL, "first beyond the batch");
    b.frames[5].offset = ARENA_LEN - 39;
    EXPECT(rk_probe_match(&b.plan, &b.batch, 0, 0, replies, 4, &next), -EINVAL, "row across the arena's end");
    b.frames[5].offset = UINT32_MAX;
    EXPECT(rk_probe_match(&b.plan, &b.batch, 0, 0, replies, 4, &next), -EINVAL, "row far outside");
    b.frames[5].offset = 0;
    b.batch.n = CAPACITY + 1;
    EXPECT(rk_probe_match(&b.plan, &b.batch, 0, 0, replies, 4, &next), -EINVAL, "more rows than there are");
    b.batch.n = 6;
    b.plan.packet_len = 39;
    EXPECT(rk_probe_match(&b.plan, &b.batch, 0, 0, replies, 4, &next), -EINVAL, "no template");
    EXPECT(next, 77, "untouched on failure");
}

/* Probes with other flags: what a RST has to acknowledge, and the cookie in the acknowledgement. */
static void check_flags(uint32_t addr_len)
{
    uint32_t ip_len = addr_len == 4 ? 20 : 40;
    static const struct {
        uint8_t flags;
        uint32_t acked; /* octets and flags that the probe takes, of 3 octets of data */
    } kinds[] = {{0x00, 3}, {0x01, 4}, {0x29, 4}, {0x02, 4}, {0x03, 5}};
    struct bench b;
    uint8_t octets[256] = {0};
    struct rk_probe_reply reply;
    const uint8_t *target = addresses[0];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        prepare(&b, addr_len, 0, 3, false);
        b.packet[ip_len + 13] = kinds[i].flags;
        uint32_t cookie = cookie_of(&b, target, 80);
        for (uint32_t acked = 0; acked < 7; acked++) {
            uint32_t len = put_segment(octets, &b, target, 80, 0x14, cookie + acked);
            octets[ip_len + 15] = 9;
            bool right = acked == kinds[i].acked || (kinds[i].flags & 2 && acked == 1);
            EXPECT(match_one(&b, octets, len, 0, &reply), right, "flags %#x, %u acknowledged", kinds[i].flags, acked);
            if (right)
                EXPECT(reply.window, 9, "window");
        }
    }
    prepare(&b, addr_len, 0, 0, false);
    b.packet[ip_len + 13] = 0x10;
    EXPECT(rk_probe_fill(&b.plan, &b.batch, 0, 6), 6, "probes with ACK");
    for (uint32_t i = 0; i < 6; i++) {
        const uint8_t *tcp = b.arena + b.frames[i].offset + ip_len;
        EXPECT(rk_load_be32(tcp + 4), 0x77777777, "sequence number of the template");
        EXPECT(rk_load_be32(tcp + 8), cookie_of(&b, addresses[i / 2], ports[i % 2]), "acknowledgement");
        uint32_t sum = rk_csum_pseudo(source, addresses[i / 2], addr_len, 6, 24);
        EXPECT(rk_csum_add(sum, tcp, 24), 0xffff, "checksum");
    }
    uint32_t cookie = cookie_of(&b, target, 80), len = put_segment(octets, &b, target, 80, 0x04, 5);
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "RST with another sequence number");
    rk_store_be32(octets + ip_len + 4, cookie);
    EXPECT(match_one(&b, octets, len, 0, &reply), 1, "RST");
    check_reply(&b, &reply, target, target, 80, RK_PROBE_CLOSED);
    octets[ip_len + 13] = 0x12;
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "SYN-ACK");
    len = put_error(octets, &b, addresses[1], target, 80, addr_len == 4 ? 3 : 1, 1);
    EXPECT(match_one(&b, octets, len, 0, &reply), 0, "an error that quotes no acknowledgement");
    memset(octets + len, 0, 4);
    put_ip(octets, addr_len, addresses[1], source, addr_len == 4 ? 1 : 58, 8 + ip_len + 12);
    EXPECT(match_one(&b, octets, len + 4, 0, &reply), 0, "an error that quotes another acknowledgement");
    rk_store_be32(octets + len, cookie);
    EXPECT(match_one(&b, octets, len + 4, 0, &reply), 1, "an error that quotes the probe");
    check_reply(&b, &reply, target, addresses[1], 80, RK_PROBE_FILTERED);
}

int main(void)
{
    for (uint32_t payload_len = 0; payload_len < 4; payload_len++) {
        for (uint32_t options_len = 0; options_len <= 40; options_len += 4)
            check_fill(4, options_len, payload_len, options_len & 4);
        for (uint32_t options_len = 0; options_len <= 40; options_len += 8)
            check_fill(16, options_len, payload_len, options_len & 8);
    }
    check_next_hops(4);
    check_next_hops(16);
    check_match(4);
    check_match(16);
    check_flags(4);
    check_flags(16);
    check_extensions();
    check_families();
    check_data();
    check_batches();
    printf("%d failures\n", failures);
    return failures != 0;
}
