/* rk_rewrite.h: what the two halves of rewriting share: links and IP on one side, what IP carries on the other. */
#ifndef RK_REWRITE_H
#define RK_REWRITE_H

#include "rk.h"
#include "rk_internal.h"

enum { ICMP = 1, IGMP = 2, IP_IN_IP = 4, TCP = 6, UDP = 17, DCCP = 33, IP6_IN_IP = 41, GRE = 47, ESP = 50, AH = 51,
       ICMP6 = 58, PIM = 103, SCTP = 132, UDP_LITE = 136 };

#define RK_EITHER_END (RK_REWRITE_SRC | RK_REWRITE_DST)

/* The octets of a frame that became zero last, and lie side by side. */
struct rk_blank {
    uint8_t *from;
    uint8_t *to;
};

/* An IP packet being changed. */
struct rk_changed {
    const struct rk_rewrite *rules;
    struct rk_blank *blank;
    uint8_t *src, *dst; /* the addresses that the pseudo-header has: a routing header knows the last hop */
    uint32_t addr_len;
    uint32_t upper_len; /* as the IP header says */
    uint32_t pseudo;    /* what their change adds to the pseudo-header's sum */
    uint32_t depth;     /* packets that this one is in */
    bool pseudo_changed;
    bool quoted;        /* by an ICMP error: only its beginning may be there */
    bool first;         /* the upper header begins here */
    bool whole;         /* all that the upper checksum covers is here */
    bool not_ready;     /* its transport checksum is still to be computed */
    bool finished;      /* that was done */
};

/* An Ethernet frame. */
void rk_rewrite_ethernet(struct rk_changed *packet, uint8_t *octets, uint32_t len);
/* What is in a packet and begins with an IP header. */
void rk_rewrite_ip(struct rk_changed *packet, uint8_t *octets, uint32_t len);
/* What follows the IP header and those that extend it. */
void rk_rewrite_upper(struct rk_changed *packet, uint8_t protocol, uint8_t *octets, uint32_t len);
/* An address by the rules for one of two ends, or for both. */
void rk_map_address(const struct rk_rewrite *rules, uint8_t *address, uint32_t addr_len, uint32_t end);
/* Anonymous: zeros in place of octets, and a note of where. */
void rk_blank_out(struct rk_changed *packet, uint8_t *octets, uint32_t len);

/* sum, plus the difference that new octets in place of old ones make; len is even. */
static inline uint32_t rk_add_change(uint32_t sum, const uint8_t *old_octets, const uint8_t *new_octets, size_t len)
{
    sum += (uint16_t)~rk_csum_add(0, old_octets, len);
    return rk_csum_add(sum, new_octets, len);
}

/* RFC 1624 section 3, equation 3, for the sum of any number of changed words. */
static inline void rk_update_at(uint8_t *at, uint32_t change)
{
    uint32_t sum = (uint16_t)~rk_load_be16(at) + change;
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    rk_store_be16(at, (uint16_t)~sum);
}

#endif
