/* What a network card does with what the kernel leaves to it: checksums to finish, and segments of up to 64 kB to
 * cut into packets.  Frames on their way between interfaces of one machine are as they would reach the card. */
#include "rk_gso.h"

#include "rk_internal.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4 /* <linux/virtio_net.h> of Linux 6.2 */
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

enum { UDP_LEN = 8, UDP_CSUM = 6, TCP_CSUM = 16, TCP_LEN = 20, IPV4_LEN = 20, IPV6_LEN = 40 };
enum { FIN = 0x01, PSH = 0x08, CWR = 0x80 };

static void finish_sum(uint8_t *from, uint32_t len, uint32_t offset)
{
    uint16_t sum = rk_csum(from, len); /* what the sender left in the field is the pseudo-header's part */
    if (sum == 0 && offset == UDP_CSUM)
        sum = 0xffff; /* RFC 768: 0 is none */
    rk_store_be16(from + offset, sum);
}

/* Where the IP header is, before the upper header at `upper`; 0 where there is none. */
static uint32_t find_ip(const uint8_t *frame, uint32_t upper)
{
    uint32_t at = 14;
    while (at + 4 <= upper && (rk_load_be16(frame + at - 2) == 0x8100 || rk_load_be16(frame + at - 2) == 0x88a8))
        at += 4;
    uint16_t type = rk_load_be16(frame + at - 2);
    if (type == 0x0800 && at + IPV4_LEN <= upper && frame[at] >> 4 == 4)
        return at;
    return type == 0x86dd && at + IPV6_LEN <= upper && frame[at] >> 4 == 6 ? at : 0;
}

static void set_ip_len(uint8_t *ip, uint32_t ip_len, uint32_t upper_at, uint32_t piece)
{
    if (ip[0] >> 4 == 6) {
        rk_store_be16(ip + 4, (uint16_t)(ip_len - IPV6_LEN));
        return;
    }
    rk_store_be16(ip + 2, (uint16_t)ip_len);
    rk_store_be16(ip + 4, (uint16_t)(rk_load_be16(ip + 4) + piece));
    rk_store_be16(ip + 10, 0);
    rk_store_be16(ip + 10, rk_csum(ip, upper_at));
}

static int cut(const struct rk_gso_info *info, const uint8_t *frame, uint32_t len, uint8_t *scratch, uint32_t room,
               void (*emit)(void *context, const uint8_t *frame, uint32_t len), void *context)
{
    const bool is_udp = (info->type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_UDP_L4;
    const uint32_t upper = info->csum_start;
    if (upper + TCP_LEN > len || info->segment_len == 0)
        return -EINVAL;
    const uint32_t ip = find_ip(frame, upper), upper_len = is_udp ? UDP_LEN : 4u * (frame[upper + 12] >> 4);
    const uint32_t header_len = upper + upper_len;
    if (ip == 0 || upper_len < (is_udp ? UDP_LEN : TCP_LEN) || header_len >= len
        || header_len + info->segment_len > room)
        return -EINVAL;
    const bool is_v6 = frame[ip] >> 4 == 6;
    const uint32_t addr_len = is_v6 ? 16 : 4, csum_at = is_udp ? UDP_CSUM : TCP_CSUM;
    const uint32_t seq = rk_load_be32(frame + upper + 4);
    uint32_t done = 0, payload_len = len - header_len;
    int pieces = 0;
    while (done < payload_len) {
        uint32_t n = payload_len - done < info->segment_len ? payload_len - done : info->segment_len;
        uint8_t *ip_out = scratch + ip, *upper_out = scratch + upper;
        memcpy(scratch, frame, header_len);
        memcpy(scratch + header_len, frame + header_len + done, n);
        set_ip_len(ip_out, header_len - ip + n, upper - ip, (uint32_t)pieces);
        if (is_udp) {
            rk_store_be16(upper_out + 4, (uint16_t)(UDP_LEN + n));
        } else {
            rk_store_be32(upper_out + 4, seq + done);
            if (done + n < payload_len)
                upper_out[13] &= (uint8_t) ~(FIN | PSH);
            if (done > 0)
                upper_out[13] &= (uint8_t)~CWR; /* RFC 3168 section 6.1.2: once */
        }
        const uint8_t *src = ip_out + (is_v6 ? 8 : 12);
        uint32_t sum = rk_csum_pseudo(src, src + addr_len, addr_len, is_udp ? IPPROTO_UDP : IPPROTO_TCP, upper_len + n);
        rk_store_be16(upper_out + csum_at, (uint16_t)sum);
        finish_sum(upper_out, upper_len + n, csum_at);
        emit(context, scratch, header_len + n);
        done += n;
        pieces++;
    }
    return pieces;
}

int rk_gso_finish(const struct rk_gso_info *info, uint8_t *frame, uint32_t len, uint8_t *scratch, uint32_t room,
                  void (*emit)(void *context, const uint8_t *frame, uint32_t len), void *context)
{
    const bool unfinished = info->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
    switch (info->type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_NONE:
        if (unfinished && (uint32_t)info->csum_start + info->csum_offset + 2 > len)
            return -EINVAL;
        if (unfinished)
            finish_sum(frame + info->csum_start, len - info->csum_start, info->csum_offset);
        emit(context, frame, len);
        return 1;
    case VIRTIO_NET_HDR_GSO_TCPV4:
    case VIRTIO_NET_HDR_GSO_TCPV6:
    case VIRTIO_NET_HDR_GSO_UDP_L4:
        return cut(info, frame, len, scratch, room, emit, context);
    default:
        return -EINVAL;
    }
}
