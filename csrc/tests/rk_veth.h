/* rk_veth.h: two Ethernet interfaces joined by a wire, and frames for them. */
#ifndef RK_VETH_H
#define RK_VETH_H

#include "rk_test.h"
#include "../rk_io.h"

#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>

#define LOCAL_EXPERIMENT 0x88b5

struct message {
    _Alignas(struct nlmsghdr) uint8_t octets[512];
    struct nlmsghdr *header;
};

/* Append an attribute; one that holds others is closed by close_attribute. */
static inline struct rtattr *attribute(struct message *m, uint16_t type, const void *data, uint16_t len)
{
    struct rtattr *rta = (struct rtattr *)(void *)(m->octets + NLMSG_ALIGN(m->header->nlmsg_len));
    rta->rta_type = type;
    rta->rta_len = (uint16_t)RTA_LENGTH(len);
    if (len > 0)
        memcpy(RTA_DATA(rta), data, len);
    m->header->nlmsg_len = NLMSG_ALIGN(m->header->nlmsg_len) + RTA_ALIGN(rta->rta_len);
    return rta;
}

static inline void close_attribute(struct message *m, struct rtattr *rta)
{
    rta->rta_len = (uint16_t)(m->octets + m->header->nlmsg_len - (uint8_t *)rta);
}

/* Make veth interfaces v0 and v1; the kernel's answer. */
static inline int make_pair(void)
{
    struct message m = {.octets = {0}};
    m.header = (struct nlmsghdr *)(void *)m.octets;
    *m.header = (struct nlmsghdr){.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
                                  .nlmsg_type = RTM_NEWLINK,
                                  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL};
    attribute(&m, IFLA_IFNAME, "v0", 3);
    struct rtattr *info = attribute(&m, IFLA_LINKINFO, NULL, 0);
    attribute(&m, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = attribute(&m, IFLA_INFO_DATA, NULL, 0);
    struct ifinfomsg peer_info = {0};
    struct rtattr *peer = attribute(&m, VETH_INFO_PEER, &peer_info, sizeof peer_info);
    attribute(&m, IFLA_IFNAME, "v1", 3);
    close_attribute(&m, peer);
    close_attribute(&m, data);
    close_attribute(&m, info);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    union {
        struct nlmsghdr header;
        uint8_t octets[1024];
    } answer;
    int error = -EIO;
    if (send(fd, m.octets, m.header->nlmsg_len, 0) > 0 && recv(fd, &answer, sizeof answer, 0) > 0 &&
        answer.header.nlmsg_type == NLMSG_ERROR)
        error = ((struct nlmsgerr *)NLMSG_DATA(&answer.header))->error;
    close(fd);
    return error;
}

static inline void set_interface(const char *name, bool up, uint32_t mtu, bool gro)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_flags = (short)(up ? IFF_UP : 0)};
    strcpy(request.ifr_name, name);
    EXPECT(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    request.ifr_mtu = (int)mtu;
    EXPECT(ioctl(fd, SIOCSIFMTU, &request), 0);
    struct ethtool_value value = {.cmd = ETHTOOL_SGRO, .data = gro};
    request.ifr_data = (void *)&value;
    EXPECT(ioctl(fd, SIOCETHTOOL, &request), 0);
    close(fd);
}

static inline int listen_on(const char *name)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    int room = 8 << 20;
    struct timeval patience = {.tv_sec = 1};
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(LOCAL_EXPERIMENT),
                             .sll_ifindex = (int)if_nametoindex(name)};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) != 0) /* not root of the machine */
        EXPECT(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room), 0);
    EXPECT(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    EXPECT(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static inline uint32_t length_of(uint32_t i)
{
    return 14 + i * 37 % 1500;
}

static inline void make_frame(uint8_t *octets, uint32_t i)
{
    for (uint32_t k = 0; k < length_of(i); k++)
        octets[k] = (uint8_t)(i + k);
    memset(octets, 0xff, 12);
    octets[12] = LOCAL_EXPERIMENT >> 8;
    octets[13] = LOCAL_EXPERIMENT & 0xff;
}

static inline struct rk_batch *make_frames(uint32_t n)
{
    uint8_t octets[1600];
    struct rk_batch *batch = new_batch(n, n * 1600);
    for (uint32_t i = 0; i < n; i++) {
        make_frame(octets, i);
        add(batch, octets, length_of(i));
    }
    return batch;
}

/* The next frames at the far end are these, whole. */
static inline void expect_frames(int far, uint32_t first, uint32_t n)
{
    uint8_t want[1600], got[2048];
    for (uint32_t i = first; i < first + n; i++) {
        ssize_t len = recv(far, got, sizeof got, 0);
        make_frame(want, i);
        EXPECT(len, length_of(i));
        EXPECT(len == length_of(i) && memcmp(got, want, length_of(i)) == 0, 1);
        if (len < 0)
            return;
    }
}

static inline void expect_silence(int far)
{
    uint8_t got[2048];
    EXPECT(recv(far, got, sizeof got, MSG_DONTWAIT), -1);
}

/* rk_xsk_offer, or rk_txring_offer. */
typedef int ring_offer(void *ring, const struct rk_batch *batch, uint32_t first, uint32_t *n);

/* All frames of a batch go by the ring, however often it wraps. */
static inline void expect_all(ring_offer *offer, void *ring, const struct rk_batch *batch, int far)
{
    for (uint32_t from = 0; from < batch->n;) {
        uint32_t n = from == 0 ? 1 : batch->n - from;
        int sent = offer(ring, batch, from, &n);
        EXPECT(sent, n < RK_CHUNK ? n : RK_CHUNK);
        if (sent <= 0)
            return;
        expect_frames(far, from, (uint32_t)sent);
        from += (uint32_t)sent;
    }
    expect_silence(far);
}

/* What does not fit an interface whose MTU is 1500, or does not lie within the batch, is left to another socket. */
static inline void expect_unfit_left(ring_offer *offer, void *ring)
{
    static const uint8_t octets[4000];
    struct rk_batch *batch = new_batch(8, 12000);
    add(batch, octets, 13);
    add(batch, octets, 1515);
    add(batch, octets, 4000);
    add(batch, octets, 60);
    uint32_t n = 4;
    EXPECT(offer(ring, batch, 0, &n), 0);
    EXPECT(n, 3);
    n = 2;
    EXPECT(offer(ring, batch, 3, &n), 1);
    batch->frames[3].offset = batch->arena_len - 59;
    n = 1;
    EXPECT(offer(ring, batch, 3, &n), 0);
    EXPECT(n, 1);
    drop_batch(batch);
}

/* Frames go by it again, some time after the interface came up. */
static inline void expect_again(ring_offer *offer, void *ring, const struct rk_batch *batch)
{
    uint32_t n = 20;
    int sent;
    for (int64_t end_ns = in_ms(5000); (sent = offer(ring, batch, 0, &n)) < 20 && rk_monotonic_ns() < end_ns; n = 20)
        usleep(1000);
    EXPECT(sent, 20);
}

#endif
