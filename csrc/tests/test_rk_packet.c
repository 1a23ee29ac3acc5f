/* Packet sockets: what the kernel's side information becomes, then loopback in a namespace of our own. */
#include "../rk_packet.c"

#include "rk_test.h"

#include <linux/filter.h>

static union {
    uint8_t octets[256];
    struct cmsghdr align;
} control;

/* A frame as the kernel would deliver it with this side information. */
static struct rk_arrival describe_with(struct rk_packet *sock, struct tpacket_auxdata aux, uint8_t kind,
                                       const uint8_t *octets, uint32_t len)
{
    struct sockaddr_ll name = {.sll_family = AF_PACKET,
                               .sll_protocol = htons(ETH_P_IP),
                               .sll_ifindex = 7,
                               .sll_hatype = 1,
                               .sll_pkttype = kind,
                               .sll_halen = 6,
                               .sll_addr = {1, 2, 3, 4, 5, 6}};
    struct msghdr message = {.msg_name = &name, .msg_control = &control, .msg_controllen = sizeof control};
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_PACKET;
    c->cmsg_type = PACKET_AUXDATA;
    c->cmsg_len = CMSG_LEN(sizeof aux);
    memcpy(CMSG_DATA(c), &aux, sizeof aux);
    c = CMSG_NXTHDR(&message, c);
    struct timespec time = {.tv_sec = 1600000000, .tv_nsec = 123};
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_TIMESTAMPNS;
    c->cmsg_len = CMSG_LEN(sizeof time);
    memcpy(CMSG_DATA(c), &time, sizeof time);
    message.msg_controllen = CMSG_SPACE(sizeof aux) + CMSG_SPACE(sizeof time);

    struct virtio_net_hdr virtio = {.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1448};
    struct rk_arrival arrival = {.frame.wire_len = len, .octets = octets, .octets_len = len};
    describe(sock, &message, (const uint8_t *)&virtio, &arrival);
    return arrival;
}

static void check_describe(void)
{
    static struct rk_packet sock;
    const uint8_t octets[60] = {0};
    struct rk_arrival a = describe_with(&sock, (struct tpacket_auxdata){0}, PACKET_HOST, octets, 60);
    EXPECT(a.frame.flags, RK_FRAME_KERNEL_TIME);
    EXPECT(a.frame.time_ns, 1600000000000000123LL);
    EXPECT(a.frame.ifindex, 7);
    EXPECT(a.frame.protocol, ETH_P_IP);
    EXPECT(a.frame.wire_len, 60);
    EXPECT(a.frame.gso_len, 0);
    EXPECT(a.extra_len, 0);

    struct tpacket_auxdata tagged = {.tp_status = TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID,
                                     .tp_len = 900,
                                     .tp_vlan_tci = 0xe00a,
                                     .tp_vlan_tpid = ETH_P_8021AD};
    a = describe_with(&sock, tagged, PACKET_OUTGOING, octets, 60);
    EXPECT(a.frame.flags, RK_FRAME_KERNEL_TIME | RK_FRAME_VLAN | RK_FRAME_OUTGOING);
    EXPECT(a.frame.wire_len, 900); /* before the filter cut it */
    EXPECT(a.at, 12);
    EXPECT(a.extra_len, 4);
    EXPECT(memcmp(a.extra, "\x88\xa8\xe0\x0a", 4), 0);
    tagged.tp_status = TP_STATUS_VLAN_VALID; /* kernels before 3.14 know one kind only */
    a = describe_with(&sock, tagged, PACKET_HOST, octets, 60);
    EXPECT(a.frame.vlan_tpid, ETH_P_8021Q);
    a = describe_with(&sock, tagged, PACKET_HOST, octets, 11); /* no place to put it */
    EXPECT(a.extra_len, 0);

    a = describe_with(&sock, (struct tpacket_auxdata){.tp_status = TP_STATUS_CSUMNOTREADY}, PACKET_HOST, octets, 60);
    EXPECT(a.frame.flags & (RK_FRAME_CSUM_NOT_READY | RK_FRAME_CSUM_VALID), RK_FRAME_CSUM_NOT_READY);
    a = describe_with(&sock, (struct tpacket_auxdata){.tp_status = TP_STATUS_CSUM_VALID}, PACKET_HOST, octets, 60);
    EXPECT(a.frame.flags & (RK_FRAME_CSUM_NOT_READY | RK_FRAME_CSUM_VALID), RK_FRAME_CSUM_VALID);

    sock.inbox.prefixed = true;
    a = describe_with(&sock, (struct tpacket_auxdata){0}, PACKET_HOST, octets, 60);
    EXPECT(a.frame.gso_len, 1448);
    sock.inbox.prefixed = false;

    sock.flags = RK_PACKET_COOKED;
    tagged.tp_status |= TP_STATUS_VLAN_TPID_VALID;
    a = describe_with(&sock, tagged, PACKET_HOST, octets, 60);
    EXPECT(a.extra_len, 0);
    EXPECT(a.frame.vlan_tci, 0xe00a);
    sock.flags |= RK_PACKET_SLL2;
    a = describe_with(&sock, tagged, PACKET_BROADCAST, octets, 60);
    EXPECT(a.extra_len, 20);
    EXPECT(memcmp(a.extra, "\x08\x00\0\0\0\0\0\x07\0\x01\x01\x06\x01\x02\x03\x04\x05\x06\0\0", 20), 0);
}

/* The prefix is given up, with one frame, when the kernel meets a frame it cannot describe. */
static void check_prefix_fallback(void)
{
    static struct rk_packet sock = {.fd = -1};
    pthread_mutex_init(&sock.prefix_lock, NULL);
    sock.inbox.prefixed = true;
    EXPECT(receive_failed(&sock, -EINVAL), 0);
    EXPECT(sock.inbox.prefixed, 0);
    EXPECT(sock.counters.dropped, 1);
    EXPECT(receive_failed(&sock, -EINVAL), -EINVAL);
    EXPECT(sock.counters.dropped, 1);
    EXPECT(receive_failed(&sock, -ENETDOWN), -ENETDOWN);
    EXPECT(sock.went_down, 1);
}

static void check_arguments(void)
{
    struct rk_packet *sock = NULL;
    EXPECT(rk_packet_open(&sock, -1, 3, 0, NULL, 0, 0), -EINVAL);
    EXPECT(rk_packet_open(&sock, 1, 3, 0x100, NULL, 0, 0), -EINVAL);
    EXPECT(rk_packet_open(&sock, 0, 3, RK_PACKET_PROMISCUOUS, NULL, 0, 0), -EINVAL);
    EXPECT(rk_packet_open(&sock, 0, 3, RK_PACKET_SLL2 | RK_PACKET_BARE, NULL, 0, 0), -EINVAL);
    EXPECT(rk_packet_open(&sock, 4711, 3, 0, NULL, 0, 0), -ENODEV);
    const struct rk_insn endless = {.code = BPF_JMP | BPF_JA, .k = 5};
    EXPECT(rk_packet_open(&sock, 1, 3, 0, &endless, 1, 0), -EINVAL);
    EXPECT(rk_packet_open(&sock, 1, 3, 0, &endless, UINT32_MAX, 0), -EINVAL);
    EXPECT(sock == NULL, 1);
    rk_packet_close(NULL);
}

/* Threads close: before long the descriptor is gone. */
static bool goes(int fd)
{
    for (int64_t until_ns = rk_monotonic_ns() + 20000000000; rk_monotonic_ns() < until_ns; sched_yield())
        if (fcntl(fd, F_GETFD) == -1)
            return true;
    return false;
}

static void check_closing_many(void)
{
    struct rk_packet *socks[40];
    int fds[40];
    for (uint32_t i = 0; i < 40; i++) {
        EXPECT(rk_packet_open(&socks[i], 1, 0, 0, NULL, 0, 0), 0);
        fds[i] = rk_packet_fd(socks[i]);
    }
    rk_packet_close_all(socks, 0);
    EXPECT(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    rk_packet_close_all(socks, 1);
    EXPECT(goes(fds[0]), true);
    EXPECT(fcntl(fds[1], F_GETFD), FD_CLOEXEC);
    rk_packet_close_all(socks + 1, 39);
    for (uint32_t i = 0; i < 40; i++)
        EXPECT(goes(fds[i]), true);
}

static void check_loopback(uint32_t flags)
{
    /* Frames of an experimental type, longer than 99 octets. */
    const struct rk_insn insns[] = {
        {BPF_LD | BPF_W | BPF_LEN, 0, 0, 0}, {BPF_JMP | BPF_JGT | BPF_K, 0, 1, 99}, {BPF_RET | BPF_K, 0, 0, 262144},
        {BPF_RET | BPF_K, 0, 0, 0}};
    struct rk_packet *sender, *receiver;
    EXPECT(rk_packet_open(&sender, 1, 0, flags, NULL, 0, 0), 0);
    EXPECT(rk_packet_open(&receiver, 1, 0x88b5, flags | RK_PACKET_IGNORE_OUTGOING, insns, 4, 1 << 20), 0);
    EXPECT(fcntl(rk_packet_fd(receiver), F_GETFD), FD_CLOEXEC);

    uint32_t n = 150;
    struct rk_batch *out = new_batch(n, n * 300), *in = new_batch(20, 5000);
    uint8_t octets[300] = {[12] = 0x88, [13] = 0xb5};
    for (uint32_t i = 0; i < n; i++) {
        octets[14] = (uint8_t)i;
        add(out, octets, 60 + i);
        out->frames[i].protocol = 0x88b5;
    }
    EXPECT(rk_packet_send(sender, out, 0, n, in_ms(1000)), n);
    EXPECT(rk_packet_send(sender, out, n, 0, 0), 0);
    EXPECT(rk_packet_send(sender, out, n, 1, 0), -EINVAL);
    EXPECT(rk_packet_send(sender, out, 1, UINT32_MAX, 0), -EINVAL);
    uint32_t expected = 40; /* frames 40..149 are long enough */
    int got;
    while ((got = rk_packet_receive(receiver, in, in_ms(50))) > 0)
        for (int i = 0; i < got; i++, expected++) {
            EXPECT(in->frames[i].cap_len, 60 + expected);
            EXPECT(in->arena[in->frames[i].offset + 14], expected);
            EXPECT(in->frames[i].flags & RK_FRAME_OUTGOING, 0);
        }
    EXPECT(got, 0);
    EXPECT(expected, n);
    struct rk_counters counters = {0};
    EXPECT(rk_packet_counters(receiver, &counters), 0);
    EXPECT(counters.received, n - 40);
    EXPECT(counters.dropped, 0);

    out->frames[3].offset = out->arena_len - 10; /* outside the arena: refused when its turn comes */
    EXPECT(rk_packet_send(sender, out, 0, n, in_ms(1000)), 3);
    EXPECT(rk_packet_send(sender, out, 3, 1, in_ms(1000)), -EINVAL);
    drop_batch(out);
    drop_batch(in);
    rk_packet_close(sender);
    rk_packet_close(receiver);
}

int main(void)
{
    check_describe();
    check_prefix_fallback();
    if (enter_private_network()) {
        check_arguments();
        check_closing_many();
        check_loopback(0);
        check_loopback(RK_PACKET_COOKED);
    }
    return result();
}
