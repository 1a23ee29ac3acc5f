/* What a machine allows whoever sends frames at equal gaps: the bounds beside which benchmarks/replay.py puts the replay.
 *
 *     limit_pace INTERFACE FRAME_IN_HEX COUNT GAP_NS WAY
 *
 * The same frame COUNT times, each at its own moment of an absolute schedule, one send() for each. WAY is
 *   spin   reading the clock until the moment has come;
 *   sleep  clock_nanosleep until then. */
#define _GNU_SOURCE
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv)
{
    static uint8_t frame[1514];
    if (argc != 6)
        return 2;
    size_t len = strlen(argv[2]) / 2;
    if (len > sizeof frame)
        return 2;
    for (size_t i = 0; i < len; i++)
        sscanf(argv[2] + 2 * i, "%2hhx", &frame[i]);
    int64_t count = atoll(argv[3]), gap_ns = atoll(argv[4]);
    bool sleeps = strcmp(argv[5], "sleep") == 0;
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argv[1])};
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror(argv[1]);
        return 1;
    }
    const int64_t start_ns = now_ns() + 2000000;
    for (int64_t i = 0; i < count; i++) {
        int64_t due_ns = start_ns + i * gap_ns;
        struct timespec due = {due_ns / 1000000000, due_ns % 1000000000};
        if (sleeps)
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        else
            while (now_ns() < due_ns)
                ;
        if (send(fd, frame, len, 0) < 0) {
            perror("send");
            return 1;
        }
    }
    return 0;
}
