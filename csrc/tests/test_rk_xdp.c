/* XDP live frames: over a veth pair in a namespace of our own; skipped without the capabilities. */
#include "rk_test.h"

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
static struct rtattr *attribute(struct message *m, uint16_t type, const void *data, uint16_t len)
{
    struct rtattr *rta = (struct rtattr *)(void *)(m->octets + NLMSG_ALIGN(m->header->nlmsg_len));
    rta->rta_type = type;
    rta->rta_len = (uint16_t)RTA_LENGTH(len);
    if (len > 0)
        memcpy(RTA_DATA(rta), data, len);
    m->header->nlmsg_len = NLMSG_ALIGN(m->header->nlmsg_len) + RTA_ALIGN(rta->rta_len);
    return rta;
}

static void close_attribute(struct message *m, struct rtattr *rta)
{
    rta->rta_len = (uint16_t)(m->octets + m->header->nlmsg_len - (uint8_t *)rta);
}

/* Make veth interfaces v0 and v1; the kernel's answer. */
static int make_pair(void)
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

static void set_interface(const char *name, bool up, uint32_t mtu, bool gro)
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

static int listen_on(const char *name)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    int room = 8 << 20;
    struct timeval patience = {.tv_sec = 1};
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(LOCAL_EXPERIMENT),
                             .sll_ifindex = (int)if_nametoindex(name)};
    EXPECT(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room), 0);
    EXPECT(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    EXPECT(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static uint32_t length_of(uint32_t i)
{
    return 14 + i * 37 % 1500;
}

static void make_frame(uint8_t *octets, uint32_t i)
{
    for (uint32_t k = 0; k < length_of(i); k++)
        octets[k] = (uint8_t)(i + k);
    memset(octets, 0xff, 12);
    octets[12] = LOCAL_EXPERIMENT >> 8;
    octets[13] = LOCAL_EXPERIMENT & 0xff;
}

/* Frames of many lengths arrive whole, in order, none missing, also past what the map holds at once. */
static void check_lengths(struct rk_xdp *xdp, int far)
{
    uint8_t want[1600], got[2048];
    struct rk_batch *batch = new_batch(3000, 3000 * 1600);
    for (uint32_t i = 0; i < 3000; i++) {
        make_frame(want, i);
        add(batch, want, length_of(i));
    }
    uint32_t from = 0, received = 0;
    while (from < 3000) { /* few at a time: the socket's buffer has to hold them */
        uint32_t n = from == 0 ? 1 : 3000 - from < 1499 ? 3000 - from : 1499;
        EXPECT(rk_xdp_send(xdp, batch, from, n, INT64_MAX), n);
        for (from += n; received < from; received++) {
            ssize_t len = recv(far, got, sizeof got, 0);
            if (len < 0)
                break;
            make_frame(want, received);
            EXPECT(len, length_of(received));
            EXPECT(memcmp(got, want, length_of(received)), 0);
        }
    }
    EXPECT(received, 3000);
    drop_batch(batch);
}

static void check_refusals(struct rk_xdp *xdp)
{
    static const uint8_t octets[4000];
    struct rk_batch *batch = new_batch(8, 10000);
    add(batch, octets, 60);
    add(batch, octets, 1519);
    add(batch, octets, 13);
    EXPECT(rk_xdp_send(xdp, batch, 0, 4, INT64_MAX), -EINVAL);
    EXPECT(rk_xdp_send(xdp, batch, 0, 0, INT64_MAX), 0);
    EXPECT(rk_xdp_send(xdp, batch, 0, 3, INT64_MAX), 1); /* a refused frame does not hold back those before it */
    EXPECT(rk_xdp_send(xdp, batch, 1, 2, INT64_MAX), -EMSGSIZE);
    EXPECT(rk_xdp_send(xdp, batch, 2, 1, INT64_MAX), -EINVAL);
    set_interface("v0", true, 3000, true);
    set_interface("v1", true, 3000, true);
    add(batch, octets, RK_XDP_FRAME_LEN);
    add(batch, octets, RK_XDP_FRAME_LEN + 1);
    EXPECT(rk_xdp_send(xdp, batch, 3, 1, INT64_MAX), 1);
    EXPECT(rk_xdp_send(xdp, batch, 4, 1, INT64_MAX), -EFBIG);
    set_interface("v0", false, 1500, true);
    EXPECT(rk_xdp_send(xdp, batch, 0, 1, INT64_MAX), -ENETDOWN);
    drop_batch(batch);
}

/* The deadline ends a long batch between two slices, and the count says where. */
static void check_deadline(struct rk_xdp *xdp)
{
    static const uint8_t octets[14];
    struct rk_batch *batch = new_batch(5000, 5000 * 14);
    for (uint32_t i = 0; i < 5000; i++)
        add(batch, octets, 14);
    EXPECT(rk_xdp_send(xdp, batch, 0, 5000, 0), 4096);
    EXPECT(rk_xdp_send(xdp, batch, 4096, 5000 - 4096, INT64_MAX), 5000 - 4096);
    drop_batch(batch);
}

int main(void)
{
    struct rk_xdp *xdp = NULL;
    if (!enter_private_network())
        return 77;
    if (make_pair() != 0) {
        printf("skipped: no veth pair here\n");
        return 77;
    }
    set_interface("v0", true, 1500, true);
    set_interface("v1", true, 1500, true);
    int error = rk_xdp_open(&xdp, (int)if_nametoindex("v0"));
    if (error == -EPERM || error == -EOPNOTSUPP || error == -ENOSYS) {
        printf("skipped: no XDP here: %s\n", strerror(-error));
        return 77;
    }
    EXPECT(error, 0);
    if (error != 0)
        return result();
    struct rk_xdp *none = NULL;
    EXPECT(rk_xdp_open(&none, 9999), -ENODEV);
    EXPECT(none == NULL, true);

    int far = listen_on("v1");
    check_lengths(xdp, far);
    close(far);
    check_deadline(xdp);

    /* Elsewhere, where no such interface exists: the handle keeps to its own. */
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    static const uint8_t octets[60];
    struct rk_batch *batch = new_batch(1, 60);
    add(batch, octets, 60);
    EXPECT(unshare(CLONE_NEWNET), 0);
    EXPECT(rk_xdp_send(xdp, batch, 0, 1, INT64_MAX), 1);
    EXPECT(setns(home, CLONE_NEWNET), 0);
    close(home);

    check_refusals(xdp);
    drop_batch(batch);
    rk_xdp_close(xdp);
    return result();
}
