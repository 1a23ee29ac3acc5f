/* Raw IP sockets: taking headers off and putting them back, then echoes in a namespace of our own. */
#include "../rk_rawip.c"

#include "rk_test.h"

static const uint8_t localhost4[] = {127, 0, 0, 1};

/* Any octets at all: refused, or turned into a message that lies within them and within its own buffers. */
static void check_prepare(void)
{
    static struct rk_rawip sock;
    uint64_t random = 1;
    for (int round = 0; round < 200000; round++) {
        uint32_t len = (uint32_t)(next_number(&random) % 64);
        uint8_t *octets = malloc(len + 1);
        for (uint32_t i = 0; i < len; i++)
            octets[i] = (uint8_t)next_number(&random);
        uint64_t r = next_number(&random);
        sock.family = r & 1 ? 4 : 6;
        sock.whole = r & 2;
        sock.protocol = r & 4 ? 17 : 58;
        if (len > 9 && r & 8) { /* most of it right, so that the rest is reached */
            octets[0] = sock.family == 4 ? 0x45 : 0x60;
            octets[sock.family == 4 ? 9 : 6] = (uint8_t)sock.protocol;
        }
        struct msghdr out = {0};
        struct rk_frame frame = {.cap_len = len, .ifindex = 1};
        int error = prepare(&sock, &frame, octets, RK_CHUNK - 1, &out);
        uint32_t header_len = sock.family == 4 ? IP4_LEN : IP6_LEN;
        if (error == 0) {
            uint32_t off = sock.whole ? 0 : header_len;
            EXPECT((uint8_t *)out.msg_iov->iov_base - octets, off);
            EXPECT(out.msg_iov->iov_len, len - off);
            EXPECT(out.msg_controllen <= RK_CONTROL_LEN, 1);
            for (struct cmsghdr *c = CMSG_FIRSTHDR(&out); c; c = CMSG_NXTHDR(&out, c))
                EXPECT(c->cmsg_level, sock.family == 4 ? IPPROTO_IP : IPPROTO_IPV6);
        } else {
            EXPECT(error, -EINVAL);
            bool version = len > 0 && octets[0] >> 4 == sock.family;
            EXPECT(len >= header_len && version && sock.whole, 0);
        }
        free(octets);
    }
}

static void check_rebuild(void)
{
    struct rk_rawip sock = {.family = 4, .protocol = 1};
    struct facts facts = {.destination = {192, 0, 2, 2}, .hop_limit = 9, .traffic_class = 0xb8};
    struct sockaddr_storage source = {0};
    ((struct sockaddr_in *)&source)->sin_addr.s_addr = htonl(0xc0000201);
    struct rk_arrival arrival = {.frame.wire_len = 8};
    rebuild(&sock, &facts, &source, &arrival);
    EXPECT(arrival.extra_len, 20);
    EXPECT(memcmp(arrival.extra, "\x45\xb8\0\x1c\0\0\0\0\x09\x01", 10), 0);
    EXPECT(memcmp(arrival.extra + 12, "\xc0\0\x02\x01\xc0\0\x02\x02", 8), 0);
    EXPECT(rk_csum(arrival.extra, 20), 0);

    sock = (struct rk_rawip){.family = 6, .protocol = 58};
    facts = (struct facts){.destination = {[15] = 2}, .hop_limit = 255, .flow = 0x0b812345};
    source = (struct sockaddr_storage){0};
    ((struct sockaddr_in6 *)&source)->sin6_addr.s6_addr[15] = 1;
    arrival = (struct rk_arrival){.frame.wire_len = 24};
    rebuild(&sock, &facts, &source, &arrival);
    EXPECT(arrival.extra_len, 40);
    EXPECT(memcmp(arrival.extra, "\x6b\x81\x23\x45\0\x18\x3a\xff", 8), 0);
    EXPECT(arrival.extra[23], 1);
    EXPECT(arrival.extra[39], 2);
}

static void check_rebuild_error(void)
{
    static const uint8_t request[12] = {8, 0, 0x12, 0x34, 0, 1, 0, 2, 'a', 'b', 'c', 'd'};
    struct rk_rawip sock = {.family = 4, .protocol = 1};
    struct facts facts = {.destination = {192, 0, 2, 1}, .hop_limit = 60, .offender = {192, 0, 2, 254}};
    facts.error = (struct sock_extended_err){
        .ee_origin = SO_EE_ORIGIN_ICMP, .ee_type = 3, .ee_code = 4, .ee_info = 1400};
    struct sockaddr_storage asked = {0};
    ((struct sockaddr_in *)&asked)->sin_addr.s_addr = htonl(0xc6336401);
    struct rk_arrival arrival = {.frame.wire_len = sizeof request, .octets = request, .octets_len = sizeof request};
    rebuild_error(&sock, &facts, &asked, &arrival);
    EXPECT(arrival.unwanted, 0);
    EXPECT(arrival.extra_len, 48);
    EXPECT(memcmp(arrival.extra, "\x45\0\0\x3c\0\0\0\0\x3c\x01", 10), 0);
    EXPECT(memcmp(arrival.extra + 12, "\xc0\0\x02\xfe\xc0\0\x02\x01\x03\x04", 10), 0);
    EXPECT(memcmp(arrival.extra + 24, "\0\0\x05\x78\x45\0\0\x20\0\0\0\0\0\x01", 14), 0);
    EXPECT(memcmp(arrival.extra + 40, "\xc0\0\x02\x01\xc6\x33\x64\x01", 8), 0);
    uint32_t sum = rk_csum_add(0, arrival.extra + 20, 28);
    EXPECT(rk_csum_add(sum, request, sizeof request), 0xffff);

    facts.error.ee_type = 12; /* parameter problem: the pointer is the first octet of the word */
    facts.error.ee_info = 5;
    rebuild_error(&sock, &facts, &asked, &arrival);
    EXPECT(memcmp(arrival.extra + 24, "\x05\0\0\0", 4), 0);

    facts.error.ee_origin = SO_EE_ORIGIN_LOCAL;
    rebuild_error(&sock, &facts, &asked, &arrival);
    EXPECT(arrival.unwanted, 1);

    sock = (struct rk_rawip){.family = 6, .protocol = 58};
    facts = (struct facts){.destination = {[15] = 1}, .hop_limit = 60, .offender = {[15] = 0xfe}};
    facts.error = (struct sock_extended_err){.ee_origin = SO_EE_ORIGIN_ICMP6, .ee_type = 3};
    asked = (struct sockaddr_storage){0};
    ((struct sockaddr_in6 *)&asked)->sin6_addr.s6_addr[15] = 9;
    arrival.unwanted = false;
    rebuild_error(&sock, &facts, &asked, &arrival);
    EXPECT(arrival.extra_len, 88);
    EXPECT(rk_load_be16(arrival.extra + 4), 60);
    EXPECT(rk_load_be16(arrival.extra + 52), 12);
    EXPECT(arrival.extra[48 + 39], 9);
    sum = rk_csum_pseudo(arrival.extra + 8, arrival.extra + 24, 16, 58, 60);
    sum = rk_csum_add(sum, arrival.extra + 40, 48);
    EXPECT(rk_csum_add(sum, request, sizeof request), 0xffff);
}

static void check_arguments(void)
{
    struct rk_rawip *sock = NULL;
    EXPECT(rk_rawip_open(&sock, 5, 1, 0, 0, NULL, 0, 0), -EINVAL);
    EXPECT(rk_rawip_open(&sock, 4, 256, 0, 0, NULL, 0, 0), -EINVAL);
    EXPECT(rk_rawip_open(&sock, 4, -1, 0, 0, NULL, 0, 0), -EINVAL);
    EXPECT(rk_rawip_open(&sock, 4, 1, 0, -1, NULL, 0, 0), -EINVAL);
    EXPECT(rk_rawip_open(&sock, 4, 1, 4, 0, NULL, 0, 0), -EINVAL);
    EXPECT(rk_rawip_open(&sock, 4, 58, RK_RAWIP_ICMP_DATAGRAM, 0, NULL, 0, 0), -EINVAL);
    EXPECT(rk_rawip_open(&sock, 4, 1, 0, 4711, NULL, 0, 0), -ENODEV);
    EXPECT(sock == NULL, 1);
    rk_rawip_close(NULL);
}

static void check_echo(int family, uint32_t flags)
{
    struct rk_rawip *sock;
    EXPECT(rk_rawip_open(&sock, family, family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, flags, 1, NULL, 0, 0), 0);
    EXPECT(fcntl(rk_rawip_fd(sock), F_GETFD), FD_CLOEXEC);
    uint8_t packet[64] = {0};
    uint32_t head = family == 4 ? IP4_LEN : IP6_LEN;
    uint8_t *message = packet + head;
    memcpy(message + 4, "\x12\x34\0\x01rawkit", 10);
    if (family == 4) {
        packet[0] = 0x45;
        packet[8] = 64;
        packet[9] = IPPROTO_ICMP;
        memcpy(packet + 16, localhost4, 4);
        message[0] = 8;
        rk_store_be16(message + 2, rk_csum(message, 14));
    } else {
        packet[0] = 0x60;
        packet[6] = IPPROTO_ICMPV6;
        packet[7] = 64;
        packet[39] = 1;
        message[0] = 128;
    }
    struct rk_batch *out = new_batch(3, 300), *in = new_batch(16, 4096);
    for (int i = 0; i < 3; i++)
        add(out, packet, head + 14);
    EXPECT(rk_rawip_send(sock, out, 0, 3, in_ms(1000)), 3);
    EXPECT(rk_rawip_send(sock, out, 2, 2, 0), -EINVAL);
    int replies = 0, got;
    while ((got = rk_rawip_receive(sock, in, in_ms(50))) > 0)
        for (int i = 0; i < got; i++) {
            const uint8_t *octets = in->arena + in->frames[i].offset;
            EXPECT(octets[0] >> 4, family);
            EXPECT(in->frames[i].cap_len, head + 14);
            EXPECT(in->frames[i].flags & RK_FRAME_KERNEL_TIME, RK_FRAME_KERNEL_TIME);
            EXPECT(!!(in->frames[i].flags & RK_FRAME_REBUILT_IP), family == 6 || flags & RK_RAWIP_ICMP_DATAGRAM);
            if (octets[head] == (family == 4 ? 0 : 129)) {
                replies++;
                EXPECT(memcmp(octets + head + 8, "rawkit", 6), 0);
                if (flags & RK_RAWIP_ICMP_DATAGRAM)
                    EXPECT(rk_load_be16(octets + head + 4), rk_rawip_icmp_id(sock));
            }
        }
    EXPECT(got, 0);
    EXPECT(replies, 3);
    struct rk_counters counters = {0};
    EXPECT(rk_rawip_counters(sock, &counters), 0);
    EXPECT(counters.received >= 3, 1);
    EXPECT(counters.dropped, 0);
    if (!(flags & RK_RAWIP_ICMP_DATAGRAM))
        EXPECT(rk_rawip_icmp_id(sock), -EINVAL);
    drop_batch(out);
    drop_batch(in);
    rk_rawip_close(sock);
}

int main(void)
{
    check_prepare();
    check_rebuild();
    check_rebuild_error();
    if (!enter_private_network())
        return result();
    check_arguments();
    check_echo(4, RK_RAWIP_HEADER_INCLUDED);
    check_echo(4, 0);
    check_echo(6, 0);
    struct rk_rawip *sock;
    EXPECT(rk_rawip_open(&sock, 4, 1, RK_RAWIP_ICMP_DATAGRAM, 0, NULL, 0, 0), -EACCES);
    if (write_file("/proc/sys/net/ipv4/ping_group_range", "0 0")) {
        check_echo(4, RK_RAWIP_ICMP_DATAGRAM);
        check_echo(6, RK_RAWIP_ICMP_DATAGRAM);
    } else {
        puts("skipped: ICMP datagrams: ping_group_range cannot be written here");
    }
    return result();
}
