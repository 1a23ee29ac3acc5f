/* Raw IP and ICMP datagram sockets (raw(7), ip(7), ipv6(7), icmp(7), RFC 3542): the kernel chooses the
 * route and finds the next hop.
 *
 * Callers always hand over and get whole IP packets.  Where the kernel wants or gives a payload only, the
 * header's facts travel as ancillary data, and the header is taken off or rebuilt here. */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define IP4_LEN 20
#define IP6_LEN 40
#define ICMP_LEN 8 /* of the part in front of what an error quotes */
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11 /* linux/in6.h, which does not go together with netinet/in.h */
#endif

struct rk_rawip {
    int fd;
    int family; /* 4 or 6 */
    int protocol;
    uint32_t flags;
    bool whole;    /* what is sent starts with its own IP header */
    bool rebuild;  /* what is received does not */
    uint32_t drops_seen;
    struct rk_counters counters;
    struct rk_inbox inbox;
    struct rk_outbox outbox;
    struct iovec out_iov[RK_CHUNK];
    struct sockaddr_storage out_names[RK_CHUNK];
    _Alignas(struct cmsghdr) uint8_t out_control[RK_CHUNK][RK_CONTROL_LEN];
};

/* ---- opening -------------------------------------------------------------------------------- */

/* Everything that has to be known about a packet besides its payload. */
static int ask_for_facts(const struct rk_rawip *sock)
{
    static const struct {
        int level;
        int option;
    } v4[] = {{IPPROTO_IP, IP_RECVTTL}, {IPPROTO_IP, IP_RECVTOS}, {IPPROTO_IP, IP_PKTINFO}},
      v6[] = {{IPPROTO_IPV6, IPV6_RECVHOPLIMIT}, {IPPROTO_IPV6, IPV6_FLOWINFO}, {IPPROTO_IPV6, IPV6_RECVPKTINFO}};
    int error = rk_io_set_option(sock->fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    for (int i = 0; i < 3 && error == 0; i++)
        error = sock->family == 4 ? rk_io_set_option(sock->fd, v4[i].level, v4[i].option, 1)
                                  : rk_io_set_option(sock->fd, v6[i].level, v6[i].option, 1);
    return error;
}

static int set_up(struct rk_rawip *sock, int ifindex, const struct rk_insn *insns, uint32_t insns_n,
                  uint32_t buffer_len)
{
    /* Unlike a packet socket this one hears everything from the moment it exists: plug its ears, and
     * throw away what came before. */
    const struct rk_insn nothing = {.code = BPF_RET | BPF_K, .k = 0};
    int error = rk_io_attach_filter(sock->fd, &nothing, 1);
    if (error != 0)
        return error;
    if ((error = rk_io_set_buffer(sock->fd, buffer_len)) != 0 || (error = ask_for_facts(sock)) != 0)
        return error;
    if (ifindex != 0) {
        /* The kernel would take any number and wait for an interface that never comes. */
        struct ifreq request = {.ifr_ifindex = ifindex};
        if (ioctl(sock->fd, SIOCGIFNAME, &request) != 0)
            return -errno;
        if ((error = rk_io_set_option(sock->fd, SOL_SOCKET, SO_BINDTOIFINDEX, ifindex)) != 0)
            return error;
    }
    if (sock->family == 4 && sock->whole && (error = rk_io_set_option(sock->fd, IPPROTO_IP, IP_HDRINCL, 1)) != 0)
        return error;
    if (sock->flags & RK_RAWIP_ICMP_DATAGRAM) {
        /* Binding makes the kernel choose the identifier now, not with the first request. */
        struct sockaddr_storage any = {.ss_family = sock->family == 4 ? AF_INET : AF_INET6};
        if ((error = sock->family == 4 ? rk_io_set_option(sock->fd, IPPROTO_IP, IP_RECVERR, 1)
                                       : rk_io_set_option(sock->fd, IPPROTO_IPV6, IPV6_RECVERR, 1)) != 0)
            return error;
        sock->inbox.errors = true;
        if (bind(sock->fd, (struct sockaddr *)&any,
                 sock->family == 4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) != 0)
            return -errno;
    }
    uint8_t octet;
    while (recv(sock->fd, &octet, sizeof octet, MSG_DONTWAIT) >= 0)
        ;
    if (insns_n == 0) {
        return rk_io_set_option(sock->fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
    } else if ((error = rk_io_attach_filter(sock->fd, insns, insns_n)) != 0 ||
               (error = rk_io_set_option(sock->fd, SOL_SOCKET, SO_LOCK_FILTER, 1)) != 0) {
        return error;
    }
    return 0;
}

int rk_rawip_open(struct rk_rawip **out, int family, int protocol, uint32_t flags, int ifindex,
                  const struct rk_insn *insns, uint32_t insns_n, uint32_t buffer_len)
{
    bool datagram = flags & RK_RAWIP_ICMP_DATAGRAM;
    if ((family != 4 && family != 6) || protocol < 0 || protocol > 255 || ifindex < 0 ||
        flags & ~(uint32_t)(RK_RAWIP_HEADER_INCLUDED | RK_RAWIP_ICMP_DATAGRAM) ||
        (datagram && protocol != (family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)))
        return -EINVAL;
    struct rk_rawip *sock = calloc(1, sizeof *sock);
    if (!sock)
        return -ENOMEM;
    sock->family = family;
    sock->protocol = protocol;
    sock->flags = flags;
    sock->whole = protocol == IPPROTO_RAW || (family == 4 && !datagram && flags & RK_RAWIP_HEADER_INCLUDED);
    sock->rebuild = family == 6 || datagram;
    int error;
    sock->fd = socket(family == 4 ? AF_INET : AF_INET6,
                      (datagram ? SOCK_DGRAM : SOCK_RAW) | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (sock->fd < 0)
        error = -errno;
    else if ((error = rk_inbox_open(&sock->inbox)) == 0)
        error = set_up(sock, ifindex, insns, insns_n, buffer_len);
    if (error != 0) {
        rk_rawip_close(sock);
        return error;
    }
    *out = sock;
    return 0;
}

void rk_rawip_close(struct rk_rawip *sock)
{
    if (!sock)
        return;
    if (sock->fd >= 0)
        close(sock->fd);
    rk_inbox_close(&sock->inbox);
    free(sock);
}

int rk_rawip_fd(const struct rk_rawip *sock)
{
    return sock->fd;
}

int rk_rawip_icmp_id(const struct rk_rawip *sock)
{
    if (!(sock->flags & RK_RAWIP_ICMP_DATAGRAM))
        return -EINVAL;
    struct sockaddr_storage name;
    socklen_t name_len = sizeof name;
    if (getsockname(sock->fd, (struct sockaddr *)&name, &name_len) != 0)
        return -errno;
    /* The port of both families is in the same place. */
    struct sockaddr_in in;
    memcpy(&in, &name, sizeof in);
    return ntohs(in.sin_port);
}

/* ---- sending -------------------------------------------------------------------------------- */

/* Add one piece of ancillary data to a message whose control buffer has room for it. */
static void add_control(struct msghdr *message, int level, int type, const void *data, size_t data_len)
{
    struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)message->msg_control + message->msg_controllen);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(data_len);
    memcpy(CMSG_DATA(c), data, data_len);
    message->msg_controllen += CMSG_SPACE(data_len);
}

static int prepare_v4(struct rk_rawip *sock, uint8_t *octets, uint32_t len, uint32_t slot,
                      struct msghdr *message)
{
    if (len < IP4_LEN || octets[0] >> 4 != 4)
        return -EINVAL;
    struct sockaddr_in *name = (void *)&sock->out_names[slot];
    *name = (struct sockaddr_in){.sin_family = AF_INET};
    memcpy(&name->sin_addr, octets + 16, 4);
    message->msg_namelen = sizeof *name;
    if (sock->whole)
        return 0;
    /* Options cannot go along without meaning something else to the kernel (a source route changes the
     * destination); they need a socket with the header included. */
    if ((octets[0] & 0x0f) != IP4_LEN / 4 || octets[9] != sock->protocol)
        return -EINVAL;
    sock->out_iov[slot] = (struct iovec){octets + IP4_LEN, len - IP4_LEN};
    message->msg_control = sock->out_control[slot];
    int tos = octets[1], ttl = octets[8];
    add_control(message, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    if (ttl > 0) /* the kernel refuses 0, which no router would forward either */
        add_control(message, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
    if (rk_load_be32(octets + 12) != 0) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, octets + 12, 4);
        add_control(message, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
    return 0;
}

static int prepare_v6(struct rk_rawip *sock, const struct rk_frame *frame, uint8_t *octets, uint32_t slot,
                      struct msghdr *message)
{
    uint32_t len = frame->cap_len;
    if (len < IP6_LEN || octets[0] >> 4 != 6)
        return -EINVAL;
    struct sockaddr_in6 *name = (void *)&sock->out_names[slot];
    *name = (struct sockaddr_in6){.sin6_family = AF_INET6};
    memcpy(&name->sin6_addr, octets + 24, 16);
    if (IN6_IS_ADDR_LINKLOCAL(&name->sin6_addr) || IN6_IS_ADDR_MULTICAST(&name->sin6_addr))
        name->sin6_scope_id = (uint32_t)frame->ifindex;
    message->msg_namelen = sizeof *name;
    if (sock->whole)
        return 0;
    if (octets[6] != sock->protocol)
        return -EINVAL;
    sock->out_iov[slot] = (struct iovec){octets + IP6_LEN, len - IP6_LEN};
    message->msg_control = sock->out_control[slot];
    int traffic_class = (rk_load_be16(octets) >> 4) & 0xff, hop_limit = octets[7];
    add_control(message, IPPROTO_IPV6, IPV6_TCLASS, &traffic_class, sizeof traffic_class);
    add_control(message, IPPROTO_IPV6, IPV6_HOPLIMIT, &hop_limit, sizeof hop_limit);
    struct in6_pktinfo info = {0};
    memcpy(&info.ipi6_addr, octets + 8, 16);
    if (!IN6_IS_ADDR_UNSPECIFIED(&info.ipi6_addr)) {
        /* A link-local source says nothing without its link. */
        if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
            info.ipi6_ifindex = (unsigned)frame->ifindex;
        add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    }
    return 0;
}

static int prepare(void *owner, const struct rk_frame *frame, uint8_t *octets, uint32_t slot,
                   struct msghdr *message)
{
    struct rk_rawip *sock = owner;
    sock->out_iov[slot] = (struct iovec){octets, frame->cap_len};
    message->msg_name = &sock->out_names[slot];
    message->msg_iov = &sock->out_iov[slot];
    message->msg_iovlen = 1;
    return sock->family == 4 ? prepare_v4(sock, octets, frame->cap_len, slot, message)
                             : prepare_v6(sock, frame, octets, slot, message);
}

/* Whether an ICMP error about an earlier packet can be behind an error of the socket (icmp(7), IP_RECVERR; the
 * kernel's icmp_err_convert and its like for IPv6).  The error queue holds the message itself. */
static bool is_news(int error)
{
    switch (-error) {
    case EACCES:
    case ECONNREFUSED:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case EMSGSIZE:
    case ENETUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPROTO:
        return true;
    }
    return false;
}

static int offer(void *owner, const struct rk_batch *batch, uint32_t first, uint32_t n)
{
    struct rk_rawip *sock = owner;
    int sent = rk_outbox_offer(&sock->outbox, sock->fd, batch, first, n, sock, prepare);
    if (sock->inbox.errors && is_news(sent)) /* of an earlier packet, perhaps: then it is told only once */
        sent = rk_outbox_offer(&sock->outbox, sock->fd, batch, first, n, sock, prepare);
    return sent;
}

int rk_rawip_send(struct rk_rawip *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                  int64_t deadline_ns)
{
    return rk_outbox_send(&sock->outbox, sock->fd, batch, first, n, deadline_ns, sock, offer);
}

int rk_rawip_send_one(struct rk_rawip *sock, const uint8_t *octets, uint32_t len, int32_t ifindex,
                      int64_t deadline_ns)
{
    struct rk_frame frame = {.cap_len = len, .wire_len = len, .ifindex = ifindex};
    struct rk_batch batch = {
        .arena = (uint8_t *)octets, .frames = &frame, .arena_len = len, .capacity = 1, .n = 1};
    return rk_rawip_send(sock, &batch, 0, 1, deadline_ns);
}

uint64_t rk_rawip_full(const struct rk_rawip *sock)
{
    return sock->outbox.full_n;
}

/* ---- receiving ------------------------------------------------------------------------------ */

/* What ancillary data tells of a packet's header. */
struct facts {
    uint8_t destination[16];
    uint32_t flow; /* IPv6: traffic class and flow label, as in the header's first word */
    uint8_t hop_limit;
    uint8_t traffic_class;
    struct sock_extended_err error;
    uint8_t offender[16]; /* who sent the ICMP error */
};

static int int_of(const struct cmsghdr *c)
{
    int value;
    memcpy(&value, CMSG_DATA(c), sizeof value);
    return value;
}

/* An error with the address of who reported it behind (ip(7), IP_RECVERR). */
static void read_error(const struct cmsghdr *c, size_t address_at, size_t address_len, struct facts *facts)
{
    if (c->cmsg_len < CMSG_LEN(sizeof facts->error + address_at + address_len))
        return;
    memcpy(&facts->error, CMSG_DATA(c), sizeof facts->error);
    memcpy(facts->offender, CMSG_DATA(c) + sizeof facts->error + address_at, address_len);
}

static void read_control(const struct cmsghdr *c, struct rk_frame *frame, struct facts *facts)
{
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec time;
        memcpy(&time, CMSG_DATA(c), sizeof time);
        frame->time_ns = rk_io_time(&time);
        frame->flags |= RK_FRAME_KERNEL_TIME;
    } else if (c->cmsg_level == IPPROTO_IP) {
        struct in_pktinfo info;
        switch (c->cmsg_type) {
        case IP_TTL:
            facts->hop_limit = (uint8_t)int_of(c);
            break;
        case IP_TOS: /* one octet, unlike the others */
            facts->traffic_class = *CMSG_DATA(c);
            break;
        case IP_PKTINFO:
            memcpy(&info, CMSG_DATA(c), sizeof info);
            memcpy(facts->destination, &info.ipi_addr, 4);
            frame->ifindex = info.ipi_ifindex;
            break;
        case IP_RECVERR:
            read_error(c, offsetof(struct sockaddr_in, sin_addr), 4, facts);
            break;
        }
    } else if (c->cmsg_level == IPPROTO_IPV6) {
        struct in6_pktinfo info;
        switch (c->cmsg_type) {
        case IPV6_HOPLIMIT:
            facts->hop_limit = (uint8_t)int_of(c);
            break;
        case IPV6_FLOWINFO:
            facts->flow = rk_load_be32(CMSG_DATA(c)) & 0x0fffffff;
            break;
        case IPV6_PKTINFO:
            memcpy(&info, CMSG_DATA(c), sizeof info);
            memcpy(facts->destination, &info.ipi6_addr, 16);
            frame->ifindex = (int32_t)info.ipi6_ifindex;
            break;
        case IPV6_RECVERR:
            read_error(c, offsetof(struct sockaddr_in6, sin6_addr), 16, facts);
            break;
        }
    }
}

static void write_v4(uint8_t *header, const struct rk_rawip *sock, const void *src, const void *dst,
                     uint8_t traffic_class, uint8_t ttl, uint32_t payload_len)
{
    memset(header, 0, IP4_LEN);
    header[0] = 0x45;
    header[1] = traffic_class;
    rk_store_be16(header + 2, (uint16_t)(IP4_LEN + payload_len));
    header[8] = ttl;
    header[9] = (uint8_t)sock->protocol;
    memcpy(header + 12, src, 4);
    memcpy(header + 16, dst, 4);
    rk_store_be16(header + 10, rk_csum(header, IP4_LEN));
}

static void write_v6(uint8_t *header, const struct rk_rawip *sock, const void *src, const void *dst,
                     uint32_t flow, uint8_t hop_limit, uint32_t payload_len)
{
    rk_store_be32(header, 0x60000000 | flow);
    rk_store_be16(header + 4, (uint16_t)payload_len);
    header[6] = (uint8_t)sock->protocol;
    header[7] = hop_limit;
    memcpy(header + 8, src, 16);
    memcpy(header + 24, dst, 16);
}

/* Put the IP header back; extension headers are lost: the kernel delivers what comes after them. */
static void rebuild(const struct rk_rawip *sock, const struct facts *facts, const struct sockaddr_storage *source,
                    struct rk_arrival *arrival)
{
    if (sock->family == 4)
        write_v4(arrival->extra, sock, &((const struct sockaddr_in *)source)->sin_addr, facts->destination,
                 facts->traffic_class, facts->hop_limit, arrival->frame.wire_len);
    else
        write_v6(arrival->extra, sock, &((const struct sockaddr_in6 *)source)->sin6_addr, facts->destination,
                 facts->flow, facts->hop_limit, arrival->frame.wire_len);
    arrival->extra_len = sock->family == 4 ? IP4_LEN : IP6_LEN;
}

/* From the error queue comes what an ICMP error quoted of a message of ours; put back what was in front of that:
 * the error's IP and ICMP headers, and the quoted IP header (RFC 792, RFC 4443 section 3).  Its hop limit,
 * identification and the like are not known, and 0 here. */
static void rebuild_error(const struct rk_rawip *sock, const struct facts *facts,
                          const struct sockaddr_storage *asked, struct rk_arrival *arrival)
{
    const struct sock_extended_err *error = &facts->error;
    bool v4 = sock->family == 4;
    arrival->unwanted = error->ee_origin != (v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6);
    if (arrival->unwanted)
        return; /* the kernel's own, which the call that met it has already returned */
    uint32_t head = v4 ? IP4_LEN : IP6_LEN, quoted_len = arrival->frame.wire_len;
    uint32_t message_len = ICMP_LEN + head + quoted_len;
    uint8_t *message = arrival->extra + head, *quoted = message + ICMP_LEN;
    if (v4) {
        write_v4(arrival->extra, sock, facts->offender, facts->destination, facts->traffic_class, facts->hop_limit,
                 message_len);
        write_v4(quoted, sock, facts->destination, &((const struct sockaddr_in *)asked)->sin_addr, 0, 0, quoted_len);
    } else {
        write_v6(arrival->extra, sock, facts->offender, facts->destination, facts->flow, facts->hop_limit,
                 message_len);
        write_v6(quoted, sock, facts->destination, &((const struct sockaddr_in6 *)asked)->sin6_addr, 0, 0,
                 quoted_len);
    }
    memset(message, 0, ICMP_LEN);
    message[0] = error->ee_type;
    message[1] = error->ee_code;
    /* MTU or pointer: where IPv4 has them in a part of the word (RFC 1191 section 4, RFC 792). */
    rk_store_be32(message + 4, v4 && error->ee_type == ICMP_PARAMETERPROB ? error->ee_info << 24 : error->ee_info);
    uint32_t sum = v4 ? 0 : rk_csum_pseudo(facts->offender, facts->destination, 16, IPPROTO_ICMPV6, message_len);
    sum = rk_csum_add(sum, message, ICMP_LEN + head);
    rk_store_be16(message + 2, (uint16_t)~rk_csum_add(sum, arrival->octets, arrival->octets_len));
    arrival->extra_len = 2 * head + ICMP_LEN;
}

static void describe(const void *owner, const struct msghdr *message, const uint8_t *prefix,
                     struct rk_arrival *arrival)
{
    (void)prefix;
    const struct rk_rawip *sock = owner;
    struct facts facts = {0};
    struct rk_frame *frame = &arrival->frame;
    frame->protocol = sock->family == 4 ? 0x0800 : 0x86dd;
    /* The CMSG macros want a header that may be written; nothing is. */
    struct msghdr *header = (struct msghdr *)message;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c))
        read_control(c, frame, &facts);
    if (!sock->rebuild)
        return;
    frame->flags |= RK_FRAME_REBUILT_IP;
    if (message->msg_flags & MSG_ERRQUEUE)
        rebuild_error(sock, &facts, message->msg_name, arrival);
    else
        rebuild(sock, &facts, message->msg_name, arrival);
}

static int receive_failed(void *owner, int error)
{
    const struct rk_rawip *sock = owner;
    return sock->inbox.errors && is_news(error) ? 0 : error;
}

int rk_rawip_receive(struct rk_rawip *sock, struct rk_batch *batch, int64_t deadline_ns)
{
    int got = rk_inbox_receive(&sock->inbox, sock->fd, batch, deadline_ns, sock, describe, receive_failed);
    if (got > 0)
        sock->counters.received += (uint32_t)got;
    return got;
}

int rk_rawip_counters(struct rk_rawip *sock, struct rk_counters *out)
{
    /* SO_RXQ_OVFL would tell only with the next packet, which may never come. */
    uint32_t memory[SK_MEMINFO_DROPS + 1];
    socklen_t len = sizeof memory;
    if (getsockopt(sock->fd, SOL_SOCKET, SO_MEMINFO, memory, &len) != 0)
        return -errno;
    if (len < sizeof memory)
        return -ENOTSUP;
    sock->counters.dropped += memory[SK_MEMINFO_DROPS] - sock->drops_seen; /* modulo 2^32, as the kernel counts */
    sock->drops_seen = memory[SK_MEMINFO_DROPS];
    *out = sock->counters;
    out->received += out->dropped;
    return 0;
}
