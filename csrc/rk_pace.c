/* Clocks, waiting until a moment, and sending frames each at its own moment.
 *
 * Moments are absolute, so that being late once never moves what comes after.  Sleeping ends some tens
 * of microseconds late (timer slack, scheduling); the last stretch is therefore spent spinning. */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_internal.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#define SECOND_NS 1000000000
#define AT_ONCE 256 /* frames that share one moment of sending */
#define SPARE_NS 20000 /* a wait of this length has room for reading stamps */
#define SETTLE_NS 200000
#define WARM_NS 20000
#define WARM_UNTIL_NS 4000 /* a refused send takes a microsecond or two */

static int64_t now_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return rk_io_time(&time);
}

int64_t rk_monotonic_ns(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

int64_t rk_realtime_ns(void)
{
    return now_ns(CLOCK_REALTIME);
}

int rk_pace_wait(int64_t due_ns, int64_t spin_ns)
{
    int64_t now = rk_monotonic_ns();
    if (due_ns > now && due_ns - now > spin_ns) {
        int64_t wake_ns = due_ns - (spin_ns > 0 ? spin_ns : 0);
        struct timespec wake = {.tv_sec = wake_ns / SECOND_NS, .tv_nsec = wake_ns % SECOND_NS};
        int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, NULL);
        if (error != 0)
            return -error;
    }
    while (rk_monotonic_ns() < due_ns)
        ;
    return 0;
}

int rk_rate_plan(struct rk_rate *rate, const struct rk_batch *batch, uint32_t first, uint32_t n, int64_t *due_ns)
{
    __extension__ typedef unsigned __int128 wide;
    if (!rk_range_ok(first, n, batch->n) || rate->units == 0 || rate->period_ns == 0)
        return -EINVAL;
    for (uint32_t row = first; row < first + n; row++) {
        due_ns[row] = rate->start_ns + (int64_t)((wide)rate->used * rate->period_ns / rate->units);
        rate->used += rate->in_bits ? ((uint64_t)batch->frames[row].cap_len + rate->overhead_len) * 8 : 1;
    }
    return 0;
}

int rk_times_plan(struct rk_times *times, const struct rk_batch *batch, uint32_t first, uint32_t n, int64_t *due_ns)
{
    __extension__ typedef __int128 wide;
    if (!rk_range_ok(first, n, batch->n) || times->num == 0 || times->den == 0 || times->num > INT64_MAX ||
        times->den > INT64_MAX)
        return -EINVAL;
    const wide most = INT64_MAX / 2; /* 146 years: a file's times may be any numbers */
    for (uint32_t row = first; row < first + n; row++) {
        wide offset = ((wide)batch->frames[row].time_ns - times->base_ns) * (wide)times->num / (wide)times->den;
        if (offset > times->last_ns)
            times->last_ns = (int64_t)(offset < most ? offset : most);
        due_ns[row] = times->start_ns + times->last_ns;
    }
    return 0;
}

uint32_t rk_pace_bin(int64_t late_ns)
{
    if (late_ns < 256)
        return late_ns < 0 ? 0 : (uint32_t)late_ns;
    uint32_t shift = 56 - (uint32_t)__builtin_clzll((uint64_t)late_ns);
    return shift * 128 + (uint32_t)(late_ns >> shift);
}

void rk_pace_count(struct rk_pace *pace, const struct rk_frame *frame, int64_t due_ns, int64_t now_ns)
{
    if (now_ns < 0) {
        pace->failed[-now_ns < RK_PACE_ERRNOS ? -now_ns : 0]++;
        return;
    }
    int64_t late_ns = now_ns - due_ns;
    if (pace->sent == 0)
        pace->first_ns = now_ns;
    pace->last_ns = now_ns;
    pace->sent++;
    pace->octets += frame->cap_len;
    pace->late[rk_pace_bin(late_ns)]++;
    if (late_ns > pace->latest_ns)
        pace->latest_ns = late_ns;
}

/* ---- transmit stamps ------------------------------------------------------------------------------ */

static void stop_stamps(struct rk_pace *pace)
{
    rk_io_set_option(pace->stamp_fd, SOL_SOCKET, SO_TIMESTAMPING, 0);
    pace->stamps = 0;
}

/* Numbers begin at 0. */
static void start_stamps(struct rk_pace *pace)
{
    pace->stamp_n = 0;
    pace->stamps = rk_stamp_start(pace->stamp_fd) == 0 ? RK_PACE_STAMPED : 0;
}

static void take_stamps(struct rk_pace *pace)
{
    enum { N = 64 };
    struct rk_stamp stamps[N];
    const int64_t apart_ns = rk_realtime_ns() - rk_monotonic_ns();
    for (int got = N; got == N;) {
        got = rk_stamp_read(pace->stamp_fd, stamps, N);
        for (int i = 0; i < got; i++) {
            uint32_t ago = pace->stamp_n - stamps[i].number;
            if (ago > INT32_MAX || ago == 0) { /* the kernel counted a frame that was not sent */
                stop_stamps(pace);
                return;
            }
            if (ago > RK_PACE_STAMPS)
                continue;
            int64_t late_ns = stamps[i].time_ns - apart_ns - pace->stamp_due_ns[stamps[i].number % RK_PACE_STAMPS];
            pace->stamped++;
            pace->stamp_late[rk_pace_bin(late_ns)]++;
            if (late_ns > pace->stamp_latest_ns)
                pace->stamp_latest_ns = late_ns;
        }
    }
}

/* Frames were sent together, the first of them due at first_due_ns. */
static void note_stamps(struct rk_pace *pace, const int64_t *due_ns, uint32_t n, int64_t first_due_ns)
{
    for (uint32_t i = 0; i < n; i++)
        pace->stamp_due_ns[pace->stamp_n++ % RK_PACE_STAMPS] = i == 0 ? first_due_ns : due_ns[i] + pace->moved_ns;
    if (n == AT_ONCE)
        stop_stamps(pace);
    else if (n > 1) /* the socket has room for some hundreds */
        take_stamps(pace);
}

void rk_pace_settle(struct rk_pace *pace, int64_t deadline_ns)
{
    while (pace->stamps == RK_PACE_STAMPED) {
        take_stamps(pace);
        if (pace->stamped >= pace->sent || rk_monotonic_ns() >= deadline_ns)
            return;
        rk_pace_wait(rk_monotonic_ns() + SETTLE_NS, 0);
    }
}

/* Send frames that are due, not waiting beyond the deadline. */
static int send_by(const struct rk_pace *pace, int by, void *sender, const struct rk_batch *batch, uint32_t first,
                   uint32_t n, int64_t deadline_ns)
{
    switch (by) {
    case RK_BY_PACKET:
        return pace->stamps == RK_PACE_STAMPED ? rk_packet_send_alone(sender, batch, first, n, deadline_ns)
                                               : rk_packet_send(sender, batch, first, n, deadline_ns);
    case RK_BY_XDP:
        return rk_xdp_send(sender, batch, first, n, deadline_ns);
    case RK_BY_RAWIP:
        return rk_rawip_send(sender, batch, first, n, deadline_ns);
    default:
        return -EINVAL;
    }
}

/* A frame without octets is refused, but late on its way through the kernel, whose code and data are in the
 * processor's caches then: the frame that follows goes in half the time, and more evenly. */
static int warm_up(const struct rk_pace *pace, int fd, int64_t due_ns)
{
    int error = rk_pace_wait(due_ns - WARM_NS, pace->spin_ns - WARM_NS);
    while (error == 0 && rk_monotonic_ns() < due_ns - WARM_UNTIL_NS)
        if (send(fd, "", 0, MSG_DONTWAIT) == 0)
            break; /* an interface that takes such frames */
    return error;
}

/* Errors of the way, not of the frame. */
static bool ends_all(int error)
{
    return error == -ENETDOWN || error == -ENXIO || error == -EFBIG || error == -EOPNOTSUPP;
}

int rk_pace_send(struct rk_pace *pace, int by, void *sender, const struct rk_batch *batch, uint32_t first,
                 uint32_t n, const int64_t *due_ns, int64_t deadline_ns)
{
    if (!rk_range_ok(first, n, batch->n) || by < RK_BY_PACKET || by > RK_BY_RAWIP)
        return -EINVAL;
    if (pace->stamps == 1) {
        /* Frames of the ring would not be among those that the socket numbers. */
        pace->stamp_fd = by == RK_BY_PACKET && !rk_packet_has_xsk(sender) ? rk_packet_fd(sender) : -1;
        start_stamps(pace);
    }
    uint32_t done = 0;
    while (done < n) {
        uint32_t row = first + done;
        int64_t now = rk_monotonic_ns(), due = due_ns[row] + pace->moved_ns;
        if (done > 0 && now >= deadline_ns)
            break;
        if (due > now) {
            if (pace->stamps == RK_PACE_STAMPED && due - now > SPARE_NS)
                take_stamps(pace);
            if (due > deadline_ns) {
                int error = rk_pace_wait(deadline_ns, 0);
                return error == 0 || error == -EINTR ? (int)done : error;
            }
            bool warm = pace->warm && by == RK_BY_PACKET && pace->spin_ns >= WARM_NS && due - now > WARM_NS;
            int error = warm ? warm_up(pace, rk_packet_fd(sender), due) : 0;
            if (error == 0)
                error = rk_pace_wait(due, pace->spin_ns);
            if (error != 0)
                return error == -EINTR || done > 0 ? (int)done : error;
            now = rk_monotonic_ns();
        }
        const int64_t planned = due;
        if (!pace->catch_up && now - due > pace->slack_ns) {
            pace->moved_ns += now - due - pace->slack_ns;
            due = now - pace->slack_ns;
        }
        /* What is already late goes along in the same system call. */
        uint32_t together = 1;
        while (together < n - done && together < AT_ONCE && due_ns[row + together] + pace->moved_ns <= now)
            together++;
        int sent = send_by(pace, by, sender, batch, row, together, pace->catch_up ? now : deadline_ns);
        if (sent > 0) {
            /* A pause counts as lag once, of the frame that met it. */
            rk_pace_count(pace, &batch->frames[row], planned, now);
            for (uint32_t i = 1; i < (uint32_t)sent; i++)
                rk_pace_count(pace, &batch->frames[row + i], due_ns[row + i] + pace->moved_ns, now);
            if (pace->stamps == RK_PACE_STAMPED)
                note_stamps(pace, due_ns + row, (uint32_t)sent, planned);
            done += (uint32_t)sent;
        } else if (sent == 0 && pace->catch_up) {
            /* The socket's own buffer is full: its frames are still to go, and no frame is at fault. */
            int fd = by == RK_BY_PACKET ? rk_packet_fd(sender) : rk_rawip_fd(sender);
            if (rk_io_wait(fd, POLLOUT, deadline_ns) <= 0)
                return (int)done;
        } else if (sent == 0 || sent == -EINTR || (sent == -ENOBUFS && !pace->catch_up)) {
            return (int)done;
        } else if (ends_all(sent)) {
            return done > 0 ? (int)done : sent;
        } else {
            /* The frame's own fault, or the queue's: trying again would delay the ones behind it. */
            rk_pace_count(pace, &batch->frames[row], due, sent);
            done++;
            if (pace->stamps == RK_PACE_STAMPED) { /* the kernel may have numbered it, or not */
                take_stamps(pace);
                if (pace->stamped < pace->sent) /* others are still queued, with the old numbers */
                    stop_stamps(pace);
                else if (pace->stamps == RK_PACE_STAMPED)
                    start_stamps(pace);
            }
        }
    }
    return (int)done;
}
