/* Runs over loopback, whose kernel answers echo requests at once: every probe leaves once a round, every answer counts
 * once, whichever thread sent it, however small the portions are, and whatever the kernel refuses. */
#include "rk_test.h"

#include "rk_internal.h"

#include <linux/if_packet.h>

#define ROWS 6000
#define REFUSED 3
#define REPLIES 256

static const uint8_t template[40] = {
    0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 1, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, /* IPv4 */
    8, 0, 0, 0, 0x9c, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4,     /* ICMP */
};
/* The last ones are where no route leads to. */
static const struct rk_span spans[2] = {
    {.first = {127, 1, 0, 0}, .before = 0, .n = ROWS - REFUSED},
    {.first = {192, 0, 2, 1}, .before = ROWS - REFUSED, .n = REFUSED},
};
static const uint16_t ports[2][1] = {{1}, {2}};

struct round {
    struct rk_probe_plan plans[2];
    struct rk_board boards[2];
    struct rk_run_board both[2];
    struct rk_timing timing;
    struct rk_run_way ways[2];
    struct rk_run_inlet inlets[2];
    struct rk_run run;
    uint8_t states[2][ROWS], probes[2][ROWS], seen[2][ROWS];
    int64_t sent_ns[2][ROWS];
    uint32_t rows[2][64], replies_board[REPLIES], replies_row[REPLIES];
    struct rk_probe_reply replies[REPLIES];
};

static struct round *begin(uint32_t inlets_n, uint32_t inbox_n, uint32_t replies_n)
{
    struct round *it = calloc(1, sizeof *it);
    for (uint32_t i = 0; i < 2; i++) {
        it->plans[i] = (struct rk_probe_plan){.packet = template, .packet_len = sizeof template, .spans = spans,
                                              .spans_n = 2, .addresses_n = ROWS, .ports = ports[i], .ports_n = 1,
                                              .key = "a key of 16 oct"};
        it->boards[i] = (struct rk_board){.step = 1, .rows_n = ROWS, .left = ROWS, .states = it->states[i],
                                          .probes = it->probes[i], .sent_ns = it->sent_ns[i], .timing = &it->timing};
        it->both[i] = (struct rk_run_board){&it->plans[i], &it->boards[i]};
        struct rk_rawip *sender;
        EXPECT(rk_rawip_open(&sender, 4, 255, 0, 0, NULL, 0, 0), 0);
        it->ways[i] = (struct rk_run_way){.sender = sender, .by = RK_BY_RAWIP, .batch = new_batch(64, 64 * 64),
                                          .rows = it->rows[i]};
        it->ways[i].batch->n = 0;
    }
    for (uint32_t i = 0; i < 2; i++) {
        struct rk_packet *receiver;
        EXPECT(rk_packet_open(&receiver, 0, 0x0800, RK_PACKET_COOKED, NULL, 0, 8 << 20), 0);
        int fanout = PACKET_FANOUT_CPU << 16 | (int)(getpid() & 0xffff);
        if (inlets_n > 1)
            EXPECT(setsockopt(rk_packet_fd(receiver), SOL_PACKET, PACKET_FANOUT, &fanout, sizeof fanout), 0);
        it->inlets[i] =
            (struct rk_run_inlet){.receiver = receiver, .by = RK_BY_PACKET, .inbox = new_batch(inbox_n, inbox_n * 128)};
    }
    it->run = (struct rk_run){.boards = it->both, .boards_n = 2, .ways = it->ways, .ways_n = 2,
                              .inlets = it->inlets, .inlets_n = inlets_n, .replies = it->replies,
                              .replies_board = it->replies_board, .replies_row = it->replies_row,
                              .replies_n = replies_n};
    return it;
}

static void end(struct round *it)
{
    for (uint32_t i = 0; i < 2; i++) {
        rk_rawip_close(it->ways[i].sender);
        drop_batch(it->ways[i].batch);
        rk_packet_close(it->inlets[i].receiver);
        drop_batch(it->inlets[i].inbox);
    }
    free(it);
}

/* One call; what was found is ticked off, what was refused is counted. */
static uint32_t step(struct round *it, uint32_t n, uint32_t *refused)
{
    EXPECT(rk_board_run(&it->run, n, in_ms(1000)), 0);
    for (uint32_t i = 0; i < it->run.found; i++) {
        uint32_t board = it->replies_board[i], row = it->replies_row[i];
        EXPECT(it->seen[board][row]++, 0);
        EXPECT(it->replies[i].state, RK_PROBE_OPEN);
        EXPECT(it->replies[i].port, board + 1);
        EXPECT(rk_load_be32(it->replies[i].address), rk_load_be32(spans[0].first) + row);
    }
    for (uint32_t i = 0; i < 2; i++)
        if (it->ways[i].error != 0) {
            EXPECT(it->ways[i].error, -ENETUNREACH);
            EXPECT(it->ways[i].refused_row >= ROWS - REFUSED, 1);
            ++*refused;
        }
    return it->run.sent;
}

static void whole(uint32_t inlets_n, uint32_t portion, uint32_t inbox_n, uint32_t replies_n)
{
    struct round *it = begin(inlets_n, inbox_n, replies_n);
    uint32_t sent = 0, refused = 0;
    int64_t give_up = in_ms(20000);
    rk_timing_begin_epoch(&it->timing, rk_realtime_ns());
    while (it->boards[0].left > 0 && rk_monotonic_ns() < give_up) {
        uint32_t more = step(it, portion, &refused);
        EXPECT(more <= portion, 1);
        sent += more;
    }
    EXPECT(it->boards[0].left, 0);
    EXPECT(sent, ROWS - REFUSED);
    EXPECT(refused, REFUSED);
    EXPECT(it->timing.rtt_n, ROWS - REFUSED);
    EXPECT(it->timing.epoch_answers[0], ROWS - REFUSED);
    EXPECT(it->boards[0].duplicates, 0);
    EXPECT(it->run.strays, 0);
    for (uint32_t row = 0; row < ROWS; row++) {
        EXPECT(it->seen[0][row], row < ROWS - REFUSED);
        EXPECT(it->probes[0][row], row < ROWS - REFUSED);
        EXPECT(it->states[0][row], RK_BOARD_ANSWERED);
    }
    EXPECT(it->boards[1].left, ROWS);
    end(it);
}

/* Answers that are not wanted one by one; those that come while another board's probes leave; those to neither. */
static void two_boards(void)
{
    struct round *it = begin(1, 16, 16);
    uint32_t sent = 0, refused = 0;
    it->boards[0].rows_n = it->boards[0].left = 100;
    it->boards[1].rows_n = it->boards[1].left = 100;
    while (sent < 100) /* each time there is room for the answers to some only */
        sent += step(it, 64, &refused);
    EXPECT(it->boards[0].left > 0, 1);
    EXPECT(it->run.more, 1);
    it->run.board = 1;
    it->run.cursor = 0;
    it->run.counted = 1u << RK_PROBE_OPEN;
    for (int64_t give_up = in_ms(20000); it->boards[0].left + it->boards[1].left > 0 && rk_monotonic_ns() < give_up;)
        step(it, 64, &refused);
    uint32_t told = 0;
    for (uint32_t row = 0; row < 100; row++)
        told += it->seen[0][row];
    EXPECT(it->boards[0].counted + told, 100);
    EXPECT(it->boards[1].counted, 100);
    EXPECT(refused, 0);
    /* Somebody else's probe. */
    struct rk_batch *other = new_batch(1, 64);
    EXPECT(rk_probe_fill(&it->plans[0], other, 5000, 1), 1);
    EXPECT(rk_rawip_send(it->ways[0].sender, other, 0, 1, in_ms(1000)), 1);
    for (int64_t give_up = in_ms(20000); it->run.strays == 0 && rk_monotonic_ns() < give_up;)
        step(it, 0, &refused);
    EXPECT(it->run.strays, 1);
    EXPECT(it->boards[0].duplicates + it->boards[1].duplicates, 0);
    drop_batch(other);
    end(it);
}

/* Nobody has time: what was filled in and did not leave is the first to leave later. */
static void little_at_a_time(void)
{
    struct round *it = begin(1, 64, REPLIES);
    EXPECT(rk_board_run(&it->run, 0, in_ms(1000)), 0);
    EXPECT(it->run.sent + it->run.cursor, 0);
    EXPECT(rk_board_run(&it->run, ROWS, 0), 0);
    EXPECT(it->run.sent > 0 && it->run.sent <= 128, 1); /* a batch of each way */
    EXPECT(it->run.cursor, it->run.sent);
    EXPECT(rk_board_run(&it->run, 10, in_ms(1000)), 0);
    EXPECT(it->run.sent, 10);
    end(it);
}

static void absent(void)
{
    struct round *it = begin(1, 64, REPLIES);
    uint8_t link[14] = {0}, *next_hops = calloc(ROWS, 6);
    for (uint32_t i = 0; i < 2; i++) {
        it->plans[i].link = link;
        it->plans[i].link_len = sizeof link;
        it->plans[i].next_hops = next_hops;
    }
    EXPECT(rk_board_run(&it->run, ROWS, in_ms(1000)), 0);
    EXPECT(it->run.sent, 0);
    EXPECT(it->boards[0].left, 0);
    EXPECT(it->states[0][ROWS - 1], RK_BOARD_ABSENT);
    EXPECT(it->boards[1].left, ROWS);
    free(next_hops);
    end(it);
}

static void wrong(void)
{
    struct round *it = begin(1, 64, REPLIES);
    const struct rk_run right = it->run;
    for (int i = 0; i < 8; i++) {
        it->run = right;
        if (i == 0)
            it->run.ways_n = 0;
        if (i == 1)
            it->run.ways_n = 9;
        if (i == 2)
            it->run.replies_n = it->inlets[0].inbox->capacity - 1;
        if (i == 3)
            it->run.board = 2;
        if (i == 4)
            it->inlets[0].by = RK_BY_XDP;
        else
            it->inlets[0].by = RK_BY_PACKET;
        it->ways[1].by = i == 5 ? 0 : RK_BY_RAWIP;
        it->ways[1].next = i == 6 ? 1 : 0;
        it->boards[1].step = i == 7 ? 2 : 1;
        EXPECT(rk_board_run(&it->run, 1, 0), -EINVAL);
    }
    end(it);
}

int main(void)
{
    if (!enter_private_network())
        return 0;
    for (uint32_t inlets_n = 1; inlets_n <= 2; inlets_n++) {
        whole(inlets_n, ROWS, 64, REPLIES);
        whole(inlets_n, 1000, 256, 256);
        whole(inlets_n, 100, 16, 16);
    }
    two_boards();
    little_at_a_time();
    absent();
    wrong();
    return result();
}
