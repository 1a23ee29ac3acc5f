/* Runs: a board's probes leave and their answers are taken, in one call for thousands of both.
 *
 * On a virtual link all that a probe sets off, up to its answer, happens within the call that sends it, so what there
 * is to gain is a second processor: each way out is a thread that claims rows, fills in their probes, sends these, and
 * receives where it has an inlet of its own.  What they share, the board and what the run is told, is changed under
 * a lock; writing probes and recognising answers needs none. */
#define _GNU_SOURCE
#include "rk_io.h"

#include "rk_internal.h"
#include "rk_probe.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define THREADS_MIN 128   /* probes that are worth a thread */
#define WAYS_MAX 8
#define MATCHED_N 64
#define BATCHES_AT_ONCE 16 /* of what came, between looks at what is to be sent */

struct job {
    struct rk_run *run;
    const struct rk_probe_plan *plan; /* of what leaves */
    struct rk_board *board;
    struct rk_probe_writer writer;
    pthread_mutex_t lock;
    uint32_t budget;   /* probes that may still be sent */
    uint32_t reserved; /* places for replies that may be in what is looked at */
    uint32_t processor; /* that the first way began on */
    int64_t deadline_ns;
    _Atomic bool stop;
    _Atomic bool more;
};

struct worker {
    struct job *job;
    uint32_t i; /* of its way */
    int error;
    pthread_t thread;
};

/* Without the transmit ring, whose closing makes the kernel wait a second time: 15 ms are more than it saves on fewer
 * than 200,000 probes, most of whose time goes to their answers. */
static int send_by(const struct rk_run_way *way, uint32_t n, int64_t deadline_ns)
{
    return way->by == RK_BY_PACKET ? rk_packet_send_alone(way->sender, way->batch, way->next, n, deadline_ns)
                                   : rk_rawip_send(way->sender, way->batch, way->next, n, deadline_ns);
}

/* Have frames to send, of which *n may be sent now; false when there are none. */
static bool prepare(struct job *job, struct rk_run_way *way, uint32_t *n)
{
    struct rk_run *run = job->run;
    uint32_t room = rk_probe_room(&job->writer, way->batch, RK_CHUNK);
    pthread_mutex_lock(&job->lock);
    for (;;) {
        uint32_t waiting = way->batch->n - way->next, may = waiting ? waiting : room;
        may = may < job->budget ? may : job->budget;
        if (waiting > 0 || may == 0) {
            *n = may;
            break;
        }
        way->batch->n = way->batch->arena_used = way->next = 0;
        uint32_t claimed = rk_board_claim(job->board, &run->cursor, may, way->rows);
        if (claimed == 0) {
            *n = 0;
            break;
        }
        job->budget -= claimed; /* they are this thread's from here on */
        pthread_mutex_unlock(&job->lock);
        uint32_t written = rk_board_write(job->plan, &job->writer, job->board, way->rows, claimed, way->batch);
        pthread_mutex_lock(&job->lock);
        job->budget += claimed;
        rk_board_absent(job->board, way->rows + written, claimed - written);
    }
    job->budget -= *n;
    if (*n > 0) /* before they leave: the other thread may have an answer before this one goes on */
        rk_board_sent(job->board, way->rows + way->next, *n, rk_realtime_ns());
    pthread_mutex_unlock(&job->lock);
    return *n > 0;
}

/* What became of n frames: the kernel took some, or says what is wrong with the first. */
static void settle(struct job *job, struct rk_run_way *way, uint32_t n, int result)
{
    struct rk_board *board = job->board;
    uint32_t took = result > 0 ? (uint32_t)result : 0;
    pthread_mutex_lock(&job->lock);
    job->run->sent += took;
    way->next += took;
    for (uint32_t i = 0; i < n - took; i++)
        if (board->probes[way->rows[way->next + i]] > 0)
            board->probes[way->rows[way->next + i]]--;
    if (result <= 0) {
        job->stop = true;
        way->error = result == -EINTR ? 0 : result == 0 ? -ENOBUFS : result;
    }
    if (way->error != 0 && way->error != -ENOBUFS) {
        way->refused_row = way->rows[way->next++];
        if (board->states[way->refused_row] == RK_BOARD_UNANSWERED) {
            board->states[way->refused_row] = RK_BOARD_ANSWERED;
            board->left--;
        }
        took++;
    }
    job->budget += n - took;
    pthread_mutex_unlock(&job->lock);
}

/* Find the board that an answer belongs to: mostly the one whose probes are leaving. */
static void take(struct job *job, const struct rk_probe_reply *reply)
{
    struct rk_run *run = job->run;
    uint32_t board = run->board, row;
    int taken = -ENOENT;
    for (uint32_t i = 0; i < run->boards_n && taken < 0; i++) {
        board = (run->board + i) % run->boards_n;
        const struct rk_run_board *one = &run->boards[board];
        taken = rk_board_take(one->plan, one->board, job->writer.addr_len, reply, run->counted, &row);
    }
    run->strays += taken < 0;
    if (taken <= 0)
        return;
    run->replies[run->found] = *reply;
    run->replies_board[run->found] = board;
    run->replies_row[run->found++] = row;
}

/* Keep places for the replies that n frames may be; false where there is no room. */
static bool reserve(struct job *job, uint32_t n)
{
    pthread_mutex_lock(&job->lock);
    bool room = job->run->replies_n - job->run->found - job->reserved >= n;
    if (room)
        job->reserved += n;
    pthread_mutex_unlock(&job->lock);
    return room;
}

/* Take the answers that are in an inbox, for which so many places are reserved. */
static int match(struct job *job, const struct rk_batch *inbox, uint32_t reserved)
{
    struct rk_probe_reply matched[MATCHED_N];
    int n = 0;
    for (uint32_t next = 0; next < inbox->n && n >= 0;) {
        n = rk_probe_match(job->plan, inbox, 0, next, matched, MATCHED_N, &next);
        pthread_mutex_lock(&job->lock);
        uint32_t before = job->run->found;
        for (int i = 0; i < n; i++)
            take(job, &matched[i]);
        uint32_t found = job->run->found - before;
        reserved -= found;
        job->reserved -= found;
        pthread_mutex_unlock(&job->lock);
    }
    pthread_mutex_lock(&job->lock);
    job->reserved -= reserved;
    pthread_mutex_unlock(&job->lock);
    return n < 0 ? n : 0;
}

/* Take the answers that are here.  0, or a negative errno. */
static int receive(struct job *job, const struct rk_run_inlet *inlet)
{
    for (uint32_t i = 0; i < BATCHES_AT_ONCE; i++) {
        uint32_t reserved = inlet->inbox->capacity;
        if (!reserve(job, reserved)) {
            job->more = true;
            job->stop = true;
            return 0;
        }
        int got = inlet->by == RK_BY_PACKET ? rk_packet_receive(inlet->receiver, inlet->inbox, 0)
                                            : rk_rawip_receive(inlet->receiver, inlet->inbox, 0);
        if (got <= 0)
            inlet->inbox->n = 0;
        int error = match(job, inlet->inbox, reserved);
        if (got <= 0)
            return got == -EINTR ? 0 : got;
        if (error != 0)
            return error;
    }
    job->more = true;
    return 0;
}

/* Send until there is nothing to send, or a reason to stop; receive between system calls. */
static int work(struct job *job, uint32_t i)
{
    struct rk_run *run = job->run;
    uint32_t n;
    int error = 0;
    /* Where each processor has its socket, a way takes the answers to its own probes. */
    const uint32_t shared = run->inlets_n < run->ways_n ? run->inlets_n : run->ways_n;
    while (error == 0 && !job->stop && prepare(job, &run->ways[i], &n)) {
        settle(job, &run->ways[i], n, send_by(&run->ways[i], n, job->deadline_ns));
        if (i < shared)
            error = receive(job, &run->inlets[(job->processor + i) % shared]);
        if (rk_monotonic_ns() >= job->deadline_ns)
            break;
    }
    if (error != 0)
        job->stop = true;
    return error;
}

static void *work_beside(void *argument)
{
    struct worker *worker = argument;
    worker->error = work(worker->job, worker->i);
    return NULL;
}

static bool kind_ok(int by)
{
    return by == RK_BY_PACKET || by == RK_BY_RAWIP;
}

static bool run_ok(const struct rk_run *run, struct rk_probe_writer *writer)
{
    if (run->ways_n < 1 || run->ways_n > WAYS_MAX || run->board >= run->boards_n)
        return false;
    /* The one whose probes leave last: its writer stays. */
    for (uint32_t i = 1; i <= run->boards_n; i++) {
        const struct rk_run_board *one = &run->boards[(run->board + i) % run->boards_n];
        uint32_t addr_len = writer->addr_len;
        if (rk_board_prepare(one->plan, one->board, writer) != 0 || (i > 1 && writer->addr_len != addr_len))
            return false;
    }
    for (uint32_t i = 0; i < run->ways_n; i++)
        if (!kind_ok(run->ways[i].by) || run->ways[i].next > run->ways[i].batch->n)
            return false;
    for (uint32_t i = 0; i < run->inlets_n; i++)
        if (!kind_ok(run->inlets[i].by) || run->inlets[i].inbox->capacity > run->replies_n)
            return false;
    return true;
}

int rk_board_run(struct rk_run *run, uint32_t n, int64_t deadline_ns)
{
    const int processor = sched_getcpu();
    struct job job = {.run = run,
                      .budget = n,
                      .deadline_ns = deadline_ns,
                      .processor = processor < 0 ? 0 : (uint32_t)processor};
    struct worker workers[WAYS_MAX];
    if (!run_ok(run, &job.writer))
        return -EINVAL;
    job.plan = run->boards[run->board].plan;
    job.board = run->boards[run->board].board;
    pthread_mutex_init(&job.lock, NULL);
    run->found = run->sent = 0;
    for (uint32_t i = 0; i < run->ways_n; i++)
        run->ways[i].error = 0;
    uint32_t started = 1;
    for (; n >= THREADS_MIN && started < run->ways_n; started++) {
        workers[started] = (struct worker){.job = &job, .i = started};
        if (rk_io_start(&workers[started].thread, work_beside, &workers[started]) != 0)
            break; /* the others do its work */
    }
    int error = work(&job, 0);
    for (uint32_t i = 1; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        if (error == 0)
            error = workers[i].error;
    }
    /* What a way could not send earlier, where it has no thread now. */
    for (uint32_t i = started; i < run->ways_n && error == 0; i++)
        if (run->ways[i].next < run->ways[i].batch->n)
            error = work(&job, i);
    job.more = false;
    for (uint32_t i = 0; i < run->inlets_n && error == 0; i++)
        error = receive(&job, &run->inlets[i]);
    run->more = job.more;
    pthread_mutex_destroy(&job.lock);
    return error;
}
