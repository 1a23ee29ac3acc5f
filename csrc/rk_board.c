/* Boards: which probes of a plan are still without an answer, and what is known of each.
 *
 * A scan moves a board over its positions, as long a part at a time as memory allows. Answers are recognised
 * without it (rk_probe.c); the board sees to it that each counts once, and that what is repeated is what
 * had no answer. */
#include <errno.h>

#include "rk.h"
#include "rk_internal.h"
#include "rk_probe.h"

#define MATCHED_N 64

static bool board_ok(const struct rk_probe_writer *writer, const struct rk_board *board)
{
    uint64_t last;
    return board->step > 0 && (board->rows_n == 0 ||
                               (!__builtin_mul_overflow(board->step, (uint64_t)board->rows_n - 1, &last) &&
                                !__builtin_add_overflow(last, board->first, &last) && last < writer->probes_n));
}

int rk_board_fill(const struct rk_probe_plan *plan, struct rk_board *board, struct rk_batch *batch, uint32_t from,
                  uint32_t n, uint32_t *rows)
{
    static const uint8_t nobody[RK_MAC_LEN];
    struct rk_probe_writer writer;
    if (rk_probe_prepare(plan, &writer) != 0 || !board_ok(&writer, board))
        return -EINVAL;
    uint32_t fit = rk_probe_room(&writer, batch, n);
    batch->n = batch->arena_used = 0;
    for (uint32_t row = from; row < board->rows_n && batch->n < fit; row++) {
        const uint8_t *next = memchr(board->states + row, RK_BOARD_UNANSWERED, board->rows_n - row);
        if (next == NULL)
            break;
        row = (uint32_t)(next - board->states);
        struct rk_probe_place target;
        rk_probe_find_target(plan, writer.addr_len, board->first + row * board->step, &target);
        if (plan->next_hops && memcmp(plan->next_hops + RK_MAC_LEN * target.address_i, nobody, RK_MAC_LEN) == 0) {
            board->states[row] = RK_BOARD_ABSENT;
            board->left--;
            continue;
        }
        rows[batch->n] = row;
        rk_probe_write(plan, &writer, &target, batch);
    }
    return (int)batch->n;
}

void rk_board_begin_epoch(struct rk_board *board, int64_t now_ns)
{
    memmove(board->epoch_ns + 1, board->epoch_ns, sizeof board->epoch_ns - sizeof board->epoch_ns[0]);
    memmove(board->epoch_answers + 1, board->epoch_answers, sizeof board->epoch_answers - sizeof board->epoch_answers[0]);
    board->epoch_ns[0] = now_ns;
    board->epoch_answers[0] = 0;
}

void rk_board_sent(struct rk_board *board, const uint32_t *rows, uint32_t n, int64_t now_ns)
{
    for (uint32_t i = 0; i < n; i++) {
        if (board->probes[rows[i]] < UINT8_MAX)
            board->probes[rows[i]]++;
        board->sent_ns[rows[i]] = now_ns;
    }
}

/* The row that a reply answers, if it is the first to do so. */
static bool take(const struct rk_probe_plan *plan, struct rk_board *board, uint32_t addr_len,
                 const struct rk_probe_reply *reply, uint32_t *row)
{
    uint64_t position;
    if (!rk_probe_find_position(plan, addr_len, reply->address, reply->port, &position) || position < board->first ||
        (position - board->first) % board->step != 0 || (position - board->first) / board->step >= board->rows_n) {
        board->strays++;
        return false;
    }
    *row = (uint32_t)((position - board->first) / board->step);
    if (board->states[*row] != RK_BOARD_UNANSWERED) {
        board->duplicates++;
        return false;
    }
    board->states[*row] = RK_BOARD_ANSWERED;
    board->left--;
    uint32_t epoch = 0;
    while (epoch < RK_BOARD_EPOCHS && board->sent_ns[*row] < board->epoch_ns[epoch])
        epoch++;
    if (epoch < RK_BOARD_EPOCHS)
        board->epoch_answers[epoch]++;
    /* Karn's algorithm (RFC 6298 section 3): of a probe sent twice nobody knows which was answered.  A negative
     * time says that somebody set the clock. */
    int64_t rtt_ns = reply->time_ns - board->sent_ns[*row];
    if (board->probes[*row] == 1 && rtt_ns >= 0) {
        if (board->rtt_ns)
            board->rtt_ns[*row] = rtt_ns;
        board->rtt_n++;
        board->rtt_sum_ns += rtt_ns;
        if (rtt_ns > board->rtt_max_ns)
            board->rtt_max_ns = rtt_ns;
    }
    return true;
}

int rk_board_match(const struct rk_probe_plan *plan, struct rk_board *board, const struct rk_batch *batch,
                   uint32_t link_skip, uint32_t counted, uint32_t first, struct rk_probe_reply *replies,
                   uint32_t *rows_out, uint32_t replies_n, uint32_t *next)
{
    struct rk_probe_writer writer;
    if (rk_probe_prepare(plan, &writer) != 0 || !board_ok(&writer, board))
        return -EINVAL;
    struct rk_probe_reply matched[MATCHED_N];
    uint32_t n = 0;
    *next = first;
    while (n < replies_n && *next < batch->n) {
        uint32_t room = replies_n - n < MATCHED_N ? replies_n - n : MATCHED_N;
        int found = rk_probe_match(plan, batch, link_skip, *next, matched, room, next);
        if (found < 0)
            return found;
        for (int i = 0; i < found; i++) {
            uint32_t row;
            if (!take(plan, board, writer.addr_len, &matched[i], &row))
                continue;
            if (counted >> matched[i].state & 1) {
                board->counted++;
                continue;
            }
            replies[n] = matched[i];
            rows_out[n++] = row;
        }
    }
    return (int)n;
}
