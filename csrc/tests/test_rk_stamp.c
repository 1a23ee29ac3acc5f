/* Transmit time stamps: of every kind of socket we send by, over the loopback of a namespace of our own. */
#include "rk_test.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netpacket/packet.h>

/* Send n times and see that each has a stamp, numbered from first, taken meanwhile. */
static void check_sends(int fd, const void *octets, size_t len, const struct sockaddr *to, socklen_t to_len,
                        uint32_t first, uint32_t n)
{
    int64_t before = rk_realtime_ns();
    for (uint32_t i = 0; i < n; i++)
        EXPECT(sendto(fd, octets, len, 0, to, to_len), (ssize_t)len);
    struct rk_stamp stamps[16] = {{0}};
    int got = 0;
    for (int64_t end = in_ms(2000); got < (int)n && rk_monotonic_ns() < end;) {
        int more = rk_stamp_read(fd, stamps + got, 16 - (uint32_t)got);
        EXPECT(more >= 0, 1);
        got += more > 0 ? more : 0;
    }
    EXPECT(got, n);
    for (int i = 0; i < got; i++) {
        EXPECT(stamps[i].number, first + (uint32_t)i);
        EXPECT(stamps[i].time_ns >= before && stamps[i].time_ns <= rk_realtime_ns(), 1);
    }
    EXPECT(rk_stamp_read(fd, stamps, 16), 0);
}

static void check_socket(int fd, const void *octets, size_t len, const void *to, socklen_t to_len)
{
    EXPECT(fd >= 0, 1);
    EXPECT(rk_stamp_start(fd), 0);
    check_sends(fd, octets, len, to, to_len, 0, 3);
    check_sends(fd, octets, len, to, to_len, 3, 2);
    EXPECT(rk_stamp_start(fd), 0);
    check_sends(fd, octets, len, to, to_len, 0, 1);
    /* No more at once than asked for; the rest stays. */
    for (int i = 0; i < 3; i++)
        EXPECT(sendto(fd, octets, len, 0, to, to_len), (ssize_t)len);
    struct rk_stamp stamps[3];
    for (int64_t end = in_ms(2000); rk_stamp_read(fd, stamps, 1) == 0 && rk_monotonic_ns() < end;)
        ;
    EXPECT(stamps[0].number, 1);
    int left = 0;
    for (int64_t end = in_ms(2000); left < 2 && rk_monotonic_ns() < end;)
        left += rk_stamp_read(fd, stamps, 3);
    EXPECT(left, 2);
    close(fd);
}

/* An ICMP error in the same queue is no stamp, and does not hide those behind it. */
static void check_errors_between(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int one = 1;
    EXPECT(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof one), 0);
    struct sockaddr_in closed = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    EXPECT(rk_stamp_start(fd), 0);
    uint32_t stamped = 0;
    for (int i = 0; i < 4; i++) {
        while (sendto(fd, "x", 1, 0, (struct sockaddr *)&closed, sizeof closed) < 0)
            EXPECT(errno, ECONNREFUSED);
        struct rk_stamp stamp;
        for (int64_t end = in_ms(2000); rk_monotonic_ns() < end;)
            if (rk_stamp_read(fd, &stamp, 1) == 1) {
                stamped++;
                break;
            }
    }
    EXPECT(stamped, 4);
    close(fd);
}

/* A stamp that nobody takes makes the descriptor ready; receiving ends at its deadline all the same. */
static void check_receiving(void)
{
    struct rk_rawip *sock;
    EXPECT(rk_rawip_open(&sock, 4, 253, RK_RAWIP_HEADER_INCLUDED, 0, NULL, 0, 0), 0);
    EXPECT(rk_stamp_start(rk_rawip_fd(sock)), 0);
    uint8_t packet[20] = {0x45, [3] = 20, [8] = 64, [9] = 254, [12] = 127, [15] = 1, [16] = 127, [19] = 1};
    struct rk_batch *batch = new_batch(4, 4096);
    add(batch, packet, sizeof packet);
    EXPECT(rk_rawip_send(sock, batch, 0, 1, in_ms(1000)), 1);
    int fd = rk_rawip_fd(sock);
    EXPECT(rk_wait(&fd, 1, in_ms(2000)), 1);
    int64_t end = in_ms(20);
    EXPECT(rk_rawip_receive(sock, batch, end), 0);
    EXPECT(rk_monotonic_ns() >= end, 1);
    EXPECT(rk_rawip_receive(sock, batch, 0), 0);
    struct rk_stamp stamp;
    EXPECT(rk_stamp_read(fd, &stamp, 1), 1);
    EXPECT(rk_wait(&fd, 1, in_ms(1)), 0);
    int fds[RK_WAIT_MAX + 1] = {0};
    EXPECT(rk_wait(fds, RK_WAIT_MAX + 1, 0), -EINVAL);
    EXPECT(rk_wait(NULL, 0, 0), 0);
    drop_batch(batch);
    rk_rawip_close(sock);
}

int main(void)
{
    EXPECT(rk_stamp_start(-1), -EBADF);
    struct rk_stamp stamp;
    EXPECT(rk_stamp_read(-1, &stamp, 1), -EBADF);
    EXPECT(rk_stamp_read(-1, &stamp, 0), 0);
    if (!enter_private_network())
        return result();
    /* Somebody listens, so that no ICMP error comes back. */
    int ear = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(9000)};
    EXPECT(bind(ear, (struct sockaddr *)&any6, sizeof any6), 0);
    struct sockaddr_in to4 = {
        .sin_family = AF_INET, .sin_port = htons(9000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 to6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(9000), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    check_socket(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "x", 1, &to4, sizeof to4);
    check_socket(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), "x", 1, &to6, sizeof to6);
    uint8_t packet[28] = {0x45, [3] = 28, [8] = 64, [9] = 17, [12] = 127, [15] = 1, [16] = 127, [19] = 1};
    to4.sin_port = 0;
    check_socket(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW), packet, sizeof packet, &to4, sizeof to4);
    uint8_t frame[60] = {[12] = 0x88, [13] = 0xb5};
    struct sockaddr_ll lo = {
        .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("lo"), .sll_protocol = htons(ETH_P_ALL)};
    check_socket(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), frame, sizeof frame, &lo, sizeof lo);
    check_errors_between();
    check_receiving();
    close(ear);
    return result();
}
