/* Clocks, waiting until a moment, and sending frames each at its own moment.
 *
 * Moments are absolute, so that being late once never moves what comes after.  Sleeping ends some tens
 * of microseconds late (timer slack, scheduling); the last stretch is therefore spent spinning. */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_internal.h"

#include <errno.h>
#include <time.h>

#define SECOND_NS 1000000000

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

int rk_pace_send(struct rk_packet *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                 const int64_t *due_ns, int64_t *sent_ns, int64_t spin_ns, int64_t deadline_ns)
{
    if (!rk_range_ok(first, n, batch->n))
        return -EINVAL;
    uint32_t done = 0;
    while (done < n) {
        uint32_t row = first + done;
        int64_t now = rk_monotonic_ns();
        if (done > 0 && now >= deadline_ns)
            break;
        if (due_ns[row] > now) {
            if (due_ns[row] > deadline_ns) {
                int error = rk_pace_wait(deadline_ns, 0);
                return error == 0 || error == -EINTR ? (int)done : error;
            }
            int error = rk_pace_wait(due_ns[row], spin_ns);
            if (error != 0)
                return error == -EINTR || done > 0 ? (int)done : error;
            now = rk_monotonic_ns();
        }
        /* What is already late goes along in the same system call. */
        uint32_t together = 1;
        while (together < n - done && together < RK_CHUNK && due_ns[row + together] <= now)
            together++;
        int sent = rk_packet_offer(sock, batch, row, together);
        if (sent > 0) {
            for (int i = 0; i < sent; i++)
                sent_ns[row + (uint32_t)i] = now;
            done += (uint32_t)sent;
        } else if (sent == -EAGAIN || sent == -EWOULDBLOCK) {
            int64_t pause_ns = 0;
            if (rk_io_send_again(rk_packet_fd(sock), sent, deadline_ns, &pause_ns) != 1)
                return (int)done;
        } else if (sent == -ENETDOWN || sent == -ENXIO || sent == -EINTR) {
            return sent == -EINTR || done > 0 ? (int)done : sent;
        } else {
            /* The frame's own fault, or the queue's: trying again would delay the ones behind it. */
            sent_ns[row] = sent;
            done++;
        }
    }
    return (int)done;
}
