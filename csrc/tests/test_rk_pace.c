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

static uint64_t failed_n(const struct rk_pace *pace)
{
    uint64_t n = 0;
    for (int i = 0; i < RK_PACE_ERRNOS; i++)
        n += pace->failed[i];
    return n;
}

static uint64_t late_n(const struct rk_pace *pace, uint32_t from)
{
    uint64_t n = 0;
    for (uint32_t i = from; i < RK_PACE_BINS; i++)
        n += pace->late[i];
    return n;
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
    int64_t due[N];
    memset(due, 0, sizeof due);
    static struct rk_pace pace = {.catch_up = 1}, other = {.catch_up = 1};
    EXPECT(rk_pace_send(&pace, RK_BY_PACKET, sock, batch, 0, N, due, in_ms(5000)), N);
    EXPECT(pace.sent, N - 1);
    EXPECT(pace.octets, (N - 1) * 60);
    EXPECT(pace.failed[EINVAL], 1);
    EXPECT(failed_n(&pace), 1);
    EXPECT(late_n(&pace, 0), N - 1);
    EXPECT(pace.first_ns > 0 && pace.last_ns >= pace.first_ns && pace.latest_ns == pace.last_ns, 1);
    EXPECT(pace.moved_ns, 0);

    int64_t start = in_ms(2);
    for (int i = 0; i < N; i++)
        due[i] = start + i * MS / 4;
    other.spin_ns = 100000;
    EXPECT(rk_pace_send(&other, RK_BY_PACKET, sock, batch, 100, 40, due, INT64_MAX), 40);
    EXPECT(other.first_ns >= due[100] && other.last_ns >= due[139], 1);
    EXPECT(late_n(&other, 0), 40);

    /* Row by row at the deadline, even when all of it is overdue. */
    for (int i = 0; i < N; i++)
        due[i] = i < 5 ? 0 : in_ms(10000);
    EXPECT(rk_pace_send(&pace, RK_BY_PACKET, sock, batch, 0, N, due, in_ms(20)), 5);
    EXPECT(rk_pace_send(&pace, RK_BY_PACKET, sock, batch, 5, 3, due, 0), 0);
    memset(due, 0, sizeof due);
    int got = rk_pace_send(&pace, RK_BY_PACKET, sock, batch, 0, N, due, 0);
    EXPECT(got > 0 && got <= 70, 1);
    due[4] = in_ms(10000);
    interrupt_in_ms(20);
    EXPECT(rk_pace_send(&pace, RK_BY_PACKET, sock, batch, 0, 5, due, INT64_MAX), 4);
    EXPECT(rk_pace_send(&pace, RK_BY_PACKET, sock, batch, 1, N, due, 0), -EINVAL);
    EXPECT(rk_pace_send(&pace, 0, sock, batch, 0, 1, due, 0), -EINVAL);
    EXPECT(rk_pace_send(&pace, 4, sock, batch, 0, 1, due, 0), -EINVAL);

    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq down = {.ifr_name = "lo"};
    EXPECT(ioctl(fd, SIOCSIFFLAGS, &down), 0);
    close(fd);
    EXPECT(rk_pace_send(&pace, RK_BY_PACKET, sock, batch, 0, 3, due, INT64_MAX), -ENETDOWN);
    drop_batch(batch);
    rk_packet_close(sock);
}

/* Stamps come for frames that go one by one or some together, not for hundreds at a time; a refusal does no harm. */
static void check_stamps(void)
{
    struct rk_packet *sock;
    EXPECT(rk_packet_open(&sock, 1, 0, 0, NULL, 0, 0), 0);
    enum { N = 600 };
    struct rk_batch *batch = new_batch(N, 100000);
    uint8_t octets[60] = {[12] = 0x88, [13] = 0xb5};
    for (int i = 0; i < N; i++)
        add(batch, octets, i == 70 ? 13 : 60);
    static int64_t due[N];
    static struct rk_pace pace = {.catch_up = 1, .stamps = 1}, raw = {.catch_up = 1, .stamps = 1};
    int64_t start = in_ms(2);
    for (int i = 0; i < N; i++)
        due[i] = start + i / 3 * MS / 10;
    EXPECT(rk_pace_send(&pace, RK_BY_PACKET, sock, batch, 0, 120, due, INT64_MAX), 120);
    if (pace.stamps == RK_PACE_STAMPED) { /* not so when the machine was away for as long as 256 frames */
        rk_pace_settle(&pace, in_ms(2000));
        EXPECT(pace.stamped, 119);
        EXPECT(pace.sent, 119);
        uint64_t n = 0;
        for (uint32_t i = 0; i < RK_PACE_BINS; i++)
            n += pace.stamp_late[i];
        EXPECT(n, 119);
        EXPECT(pace.stamp_latest_ns >= pace.latest_ns / 2, 1);
    }
    memset(due, 0, sizeof due);
    EXPECT(rk_pace_send(&pace, RK_BY_PACKET, sock, batch, 100, 500, due, INT64_MAX), 500);
    EXPECT(pace.stamps, 0);
    rk_pace_settle(&pace, INT64_MAX);
    EXPECT(rk_pace_send(&raw, RK_BY_PACKET, sock, batch, 0, 0, due, INT64_MAX), 0);
    rk_pace_settle(&raw, 0);
    drop_batch(batch);
    rk_packet_close(sock);
}

/* After a pause: all at once with catch_up, otherwise what is later than the slack moves what follows. */
static void check_pause(void)
{
    struct rk_packet *sock;
    EXPECT(rk_packet_open(&sock, 1, 0, 0, NULL, 0, 0), 0);
    enum { N = 20 };
    struct rk_batch *batch = new_batch(N, N * 60);
    uint8_t octets[60] = {[12] = 0x88, [13] = 0xb5};
    for (int i = 0; i < N; i++)
        add(batch, octets, 60);
    int64_t due[N];
    for (uint32_t catch_up = 0; catch_up < 2; catch_up++) {
        struct rk_pace *pace = calloc(1, sizeof *pace);
        pace->catch_up = catch_up;
        pace->slack_ns = 2 * MS;
        int64_t start = rk_monotonic_ns();
        for (int i = 0; i < N; i++)
            due[i] = start - 1000 * MS + i * MS; /* 20 ms of frames, a second late */
        EXPECT(rk_pace_send(pace, RK_BY_PACKET, sock, batch, 0, N, due, INT64_MAX), N);
        int64_t took = rk_monotonic_ns() - start;
        if (catch_up) {
            EXPECT(pace->moved_ns, 0);
            EXPECT(pace->latest_ns >= 1000 * MS, 1);
        } else {
            EXPECT(pace->moved_ns >= 998 * MS, 1);
            EXPECT(took >= 17 * MS, 1); /* the slack's worth at once, the rest at its pace */
        }
        free(pace);
    }
    drop_batch(batch);
    rk_packet_close(sock);
}

static void check_bins(void)
{
    static const int64_t late[] = {0, 255, 256, 257, 258, 511, 512, 1000000, INT64_MAX};
    static const uint32_t bins[] = {0, 255, 256, 256, 257, 383, 384, 1780, RK_PACE_BINS - 1};
    for (size_t i = 0; i < sizeof late / sizeof *late; i++) {
        static struct rk_pace pace;
        struct rk_frame frame = {.cap_len = 60};
        memset(&pace, 0, sizeof pace);
        rk_pace_count(&pace, &frame, 0, late[i]);
        EXPECT(pace.late[bins[i]], 1);
        EXPECT(pace.latest_ns, late[i]);
        rk_pace_count(&pace, &frame, 0, -EPERM);
        rk_pace_count(&pace, &frame, 0, -5000);
        EXPECT(pace.failed[EPERM], 1);
        EXPECT(pace.failed[0], 1);
        EXPECT(pace.sent, 1);
    }
}

/* Moments come from the count, not from each other: no drift, however odd the rate. */
static void check_plan(void)
{
    enum { N = 1000 };
    struct rk_batch *batch = new_batch(N, N * 100);
    uint8_t octets[100] = {0};
    for (int i = 0; i < N; i++)
        add(batch, octets, i % 2 ? 100 : 60);
    static int64_t due[N];
    struct rk_rate rate = {.start_ns = 5, .units = 3, .period_ns = 10};
    EXPECT(rk_rate_plan(&rate, batch, 0, 400, due), 0);
    EXPECT(rk_rate_plan(&rate, batch, 400, 600, due), 0);
    for (int i = 0; i < N; i++)
        EXPECT(due[i], 5 + i * 10 / 3);
    /* A terabit a second for half a year: 64 bits would not do. */
    rate = (struct rk_rate){.used = 1ull << 63, .units = 1000, .period_ns = 1, .in_bits = 1, .overhead_len = 24};
    EXPECT(rk_rate_plan(&rate, batch, 0, 3, due), 0);
    EXPECT(due[0], (1ull << 63) / 1000);
    EXPECT(rate.used - (1ull << 63), (84 + 124 + 84) * 8);
    EXPECT(due[2], ((1ull << 63) + (84 + 124) * 8) / 1000);
    EXPECT(rk_rate_plan(&rate, batch, 1, N, due), -EINVAL);
    rate.units = 0;
    EXPECT(rk_rate_plan(&rate, batch, 0, 1, due), -EINVAL);
    rate = (struct rk_rate){.units = 1};
    EXPECT(rk_rate_plan(&rate, batch, 0, 1, due), -EINVAL);
    drop_batch(batch);
}

/* By the frames' own times, twice as fast: never backwards, and any numbers may stand in a file. */
static void check_times(void)
{
    struct rk_batch *batch = new_batch(5, 5);
    const int64_t at[] = {1000, 1500, 900, 1502, INT64_MAX};
    for (int i = 0; i < 5; i++)
        rk_batch_append(batch, (const uint8_t *)"x", 1, &(uint32_t){1}, 1, at[i]);
    int64_t due[5] = {0};
    struct rk_times times = {.start_ns = 7, .base_ns = 1000, .num = 1, .den = 2};
    EXPECT(rk_times_plan(&times, batch, 0, 2, due), 0);
    EXPECT(rk_times_plan(&times, batch, 2, 2, due), 0);
    EXPECT(due[0], 7);
    EXPECT(due[1], 257);
    EXPECT(due[2], 257);
    EXPECT(due[3], 258);
    EXPECT(due[4], 0);
    times.num = 1000;
    times.base_ns = INT64_MIN;
    EXPECT(rk_times_plan(&times, batch, 4, 1, due), 0);
    EXPECT(due[4], 7 + INT64_MAX / 2);
    EXPECT(rk_times_plan(&times, batch, 1, 5, due), -EINVAL);
    times.den = 0;
    EXPECT(rk_times_plan(&times, batch, 0, 1, due), -EINVAL);
    drop_batch(batch);
}

int main(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    EXPECT(rk_realtime_ns() / SECOND_NS_ - time.tv_sec <= 1, 1);
    int64_t a = rk_monotonic_ns(), b = rk_monotonic_ns();
    EXPECT(a > 0 && b >= a, 1);
    check_wait();
    check_bins();
    check_plan();
    check_times();
    if (enter_private_network()) {
        check_stamps();
    check_pause();
        check_send();
    }
    return result();
}
