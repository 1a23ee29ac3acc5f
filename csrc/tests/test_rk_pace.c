/* Clocks and pacing; frames are paced over loopback in a namespace of our own. */
#include "rk_test.h"

#include <signal.h>
#include <sys/time.h>
#include <time.h>

#define MS 1000000LL

static void ignore(int number)
{
    (void)number;
}

static void interrupt_in_ms(int ms)
{
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = ms * 1000}, NULL);
}

static void check_wait(void)
{
    for (int spin = 0; spin < 2; spin++)
        for (int i = 0; i < 10; i++) {
            int64_t due = in_ms(2);
            EXPECT(rk_pace_wait(due, spin ? 500000 : 0), 0);
            int64_t late = rk_monotonic_ns() - due;
            EXPECT(late >= 0 && late < 500 * MS, 1);
        }
    int64_t before = rk_monotonic_ns();
    EXPECT(rk_pace_wait(0, 0), 0);
    EXPECT(rk_pace_wait(INT64_MIN, 1000), 0);
    EXPECT(rk_pace_wait(before, INT64_MAX), 0);
    EXPECT(rk_pace_wait(before + 3 * MS, INT64_MAX), 0); /* only spins */
    EXPECT(rk_monotonic_ns() - before >= 3 * MS, 1);
    interrupt_in_ms(20);
    EXPECT(rk_pace_wait(in_ms(5000), 0), -EINTR);
}

static void check_send(void)
{
    struct rk_packet *sock;
    EXPECT(rk_packet_open(&sock, 1, 0, 0, NULL, 0, 0), 0);
    enum { N = 200 };
    struct rk_batch *batch = new_batch(N, 100000);
    uint8_t octets[100] = {[12] = 0x88, [13] = 0xb5};
    for (int i = 0; i < N; i++)
        add(batch, octets, i == 70 ? 13 : 60);
    int64_t due[N], sent[N];
    memset(due, 0, sizeof due);
    EXPECT(rk_pace_send(sock, batch, 0, N, due, sent, 0, in_ms(5000)), N);
    for (int i = 0; i < N; i++)
        if (i == 70)
            EXPECT(sent[i], -EINVAL);
        else
            EXPECT(sent[i] > 0, 1);

    int64_t start = in_ms(2);
    for (int i = 0; i < N; i++)
        due[i] = start + i * MS / 4;
    int got = rk_pace_send(sock, batch, 100, 40, due, sent, 100000, INT64_MAX);
    EXPECT(got, 40);
    for (int i = 100; i < 140; i++)
        EXPECT(sent[i] >= due[i], 1);

    /* Row by row at the deadline, even when all of it is overdue. */
    for (int i = 0; i < N; i++)
        due[i] = i < 5 ? 0 : in_ms(10000);
    EXPECT(rk_pace_send(sock, batch, 0, N, due, sent, 0, in_ms(20)), 5);
    EXPECT(rk_pace_send(sock, batch, 5, 3, due, sent, 0, 0), 0);
    memset(due, 0, sizeof due);
    got = rk_pace_send(sock, batch, 0, N, due, sent, 0, 0);
    EXPECT(got > 0 && got <= 70, 1);
    due[4] = in_ms(10000);
    interrupt_in_ms(20);
    EXPECT(rk_pace_send(sock, batch, 0, 5, due, sent, 0, INT64_MAX), 4);
    EXPECT(rk_pace_send(sock, batch, 1, N, due, sent, 0, 0), -EINVAL);

    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq down = {.ifr_name = "lo"};
    EXPECT(ioctl(fd, SIOCSIFFLAGS, &down), 0);
    close(fd);
    EXPECT(rk_pace_send(sock, batch, 0, 3, due, sent, 0, INT64_MAX), -ENETDOWN);
    drop_batch(batch);
    rk_packet_close(sock);
}

int main(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    EXPECT(rk_realtime_ns() / SECOND_NS_ - time.tv_sec <= 1, 1);
    int64_t a = rk_monotonic_ns(), b = rk_monotonic_ns();
    EXPECT(a > 0 && b >= a, 1);
    check_wait();
    if (enter_private_network())
        check_send();
    return result();
}
