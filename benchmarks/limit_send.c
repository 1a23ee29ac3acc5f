/* What the kernel allows a packet socket that does nothing but send: the bound beside which benchmarks/send.py puts
 * the packet backend.
 *
 *     limit_send INTERFACE FRAME_IN_HEX COUNT AT_ONCE
 *
 * The same frame COUNT times, AT_ONCE (1 to 1024) in each sendmmsg, whose message headers are written once. */
#define _GNU_SOURCE
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

int main(int argc, char **argv)
{
    static uint8_t frame[2048];
    static struct mmsghdr messages[1024];
    if (argc != 5)
        return 2;
    size_t len = strlen(argv[2]) / 2;
    long count = atol(argv[3]), at_once = atol(argv[4]);
    if (len > sizeof frame || at_once < 1 || at_once > 1024)
        return 2;
    for (size_t i = 0; i < len; i++)
        sscanf(argv[2] + 2 * i, "%2hhx", &frame[i]);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argv[1])};
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror(argv[1]);
        return 1;
    }
    struct iovec iov = {frame, len};
    for (long i = 0; i < at_once; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
    while (count > 0) {
        int sent = sendmmsg(fd, messages, (unsigned)(count < at_once ? count : at_once), 0);
        if (sent < 0) {
            perror("sendmmsg");
            return 1;
        }
        count -= sent;
    }
    return 0;
}
