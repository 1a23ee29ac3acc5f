/* Boards: which probes of a plan are still without an answer, and what is known of each.
 *
 * A scan moves a board over its positions, as long a part at a time as memory allows. Answers are recognised
 * without it (rk_probe.c); the board sees to it that each counts once, and that what is repeated is what
 * had no answer. */
#include <errno.h>

#include "rk.h"
#include "rk_internal.h"
#include "rk_probe.h"

int rk_board_prepare(const struct rk_probe_plan *plan, const struct rk_board *board, struct rk_probe_writer *writer)
{
    uint64_t last;
    if (rk_probe_prepare(plan, writer) != 0 || board->step == 0)
        return -EINVAL;
    if (board->rows_n != 0 && (__builtin_mul_overflow(board->step, (uint64_t)board->rows_n - 1, &last) ||
                               __builtin_add_overflow(last, board->first, &last) || last >= writer->probes_n))
        return -EINVAL;
    return 0;
}

uint32_t rk_board_claim(const struct rk_board *board, uint32_t *cursor, uint32_t n, uint32_t *rows)
{
    uint32_t found = 0;
    while (found < n && *cursor < board->rows_n) {
        const uint8_t *next = memchr(board->states + *cursor, RK_BOARD_UNANSWERED, board->rows_n - *cursor);
        *cursor = next ? (uint32_t)(next - board->states) : board->rows_n;
        if (next)
            rows[found++] = (*cursor)++;
    }
    return found;
}

uint32_t rk_board_write(const struct rk_probe_plan *plan, const struct rk_probe_writer *writer,
                        const struct rk_board *board, uint32_t *rows, uint32_t n, struct rk_batch *batch)
{
    static const uint8_t nobody[RK_MAC_LEN];
    uint32_t first = batch->n, absent_n = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = rows[i];
        struct rk_probe_place target;
        rk_probe_find_target(plan, writer->addr_len, board->first + row * board->step, &target);
        if (plan->next_hops && memcmp(plan->next_hops + RK_MAC_LEN * target.address_i, nobody, RK_MAC_LEN) == 0) {
            absent_n++;
            continue;
        }
        /* Those that nobody has come last. */
        rows[i] = rows[i - absent_n];
        rows[i - absent_n] = row;
        rk_probe_write(plan, writer, &target, batch);
    }
    return batch->n - first;
}

void rk_board_absent(struct rk_board *board, const uint32_t *rows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        board->states[rows[i]] = RK_BOARD_ABSENT;
    board->left -= n;
}

int rk_board_fill(const struct rk_probe_plan *plan, struct rk_board *board, struct rk_batch *batch, uint32_t from,
                  uint32_t n, uint32_t *rows)
{
    struct rk_probe_writer writer;
    if (rk_board_prepare(plan, board, &writer) != 0)
        return -EINVAL;
    uint32_t fit = rk_probe_room(&writer, batch, n);
    batch->n = batch->arena_used = 0;
    while (batch->n < fit) {
        uint32_t filled = batch->n, *more = rows + filled;
        uint32_t claimed = rk_board_claim(board, &from, fit - filled, more);
        if (claimed == 0)
            break;
        uint32_t written = rk_board_write(plan, &writer, board, more, claimed, batch);
        rk_board_absent(board, more + written, claimed - written);
    }
    return (int)batch->n;
}

void rk_timing_begin_epoch(struct rk_timing *timing, int64_t now_ns)
{
    memmove(timing->epoch_ns + 1, timing->epoch_ns, sizeof timing->epoch_ns - sizeof timing->epoch_ns[0]);
    memmove(timing->epoch_answers + 1, timing->epoch_answers,
            sizeof timing->epoch_answers - sizeof timing->epoch_answers[0]);
    timing->epoch_ns[0] = now_ns;
    timing->epoch_answers[0] = 0;
}

void rk_board_sent(struct rk_board *board, const uint32_t *rows, uint32_t n, int64_t now_ns)
{
    for (uint32_t i = 0; i < n; i++) {
        if (board->probes[rows[i]] < UINT8_MAX)
            board->probes[rows[i]]++;
        board->sent_ns[rows[i]] = now_ns;
    }
}

/* Time the first answer to a row. */
static void time_answer(struct rk_board *board, uint32_t row, int64_t time_ns)
{
    struct rk_timing *timing = board->timing;
    uint32_t epoch = 0;
    while (epoch < RK_TIMING_EPOCHS && board->sent_ns[row] < timing->epoch_ns[epoch])
        epoch++;
    if (epoch < RK_TIMING_EPOCHS)
        timing->epoch_answers[epoch]++;
    /* Karn's algorithm (RFC 6298 section 3): of a probe sent twice nobody knows which was answered.  A negative
     * time says that somebody set the clock. */
    int64_t rtt_ns = time_ns - board->sent_ns[row];
    if (board->probes[row] != 1 || rtt_ns < 0)
        return;
    if (board->rtt_ns)
        board->rtt_ns[row] = rtt_ns;
    timing->rtt_n++;
    timing->rtt_sum_ns += rtt_ns;
    if (rtt_ns > timing->rtt_max_ns)
        timing->rtt_max_ns = rtt_ns;
}

int rk_board_take(const struct rk_probe_plan *plan, struct rk_board *board, uint32_t addr_len,
                  const struct rk_probe_reply *reply, uint32_t counted, uint32_t *row)
{
    uint64_t position;
    if (!rk_probe_find_position(plan, addr_len, reply->address, reply->port, &position) || position < board->first ||
        (position - board->first) % board->step != 0 || (position - board->first) / board->step >= board->rows_n)
        return -ENOENT;
    *row = (uint32_t)((position - board->first) / board->step);
    if (board->states[*row] != RK_BOARD_UNANSWERED) {
        board->duplicates++;
        return 0;
    }
    board->states[*row] = RK_BOARD_ANSWERED;
    board->left--;
    time_answer(board, *row, reply->time_ns);
    if (!(counted >> reply->state & 1))
        return 1;
    board->counted++;
    return 0;
}
