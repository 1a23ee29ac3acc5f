/* Boards: each probe goes out once a round until it is answered, each answer counts once, and of a board's rows
 * only; in the order of the plan or a random one, over whole plans, parts and shards of them. */
#include "rk_test.h"

#include "rk_internal.h"
#include "rk_probe.h"

#define SPORT 40000
#define ADDRESSES 7
#define PORTS 3
#define PROBES (ADDRESSES * PORTS)

static const uint8_t template[40] = {
    0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 9, 0, 0, 0, 0, /* IPv4 */
    0x9c, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0,
};
/* Over a border of 16 bits, alone, and the last of all. */
static const struct rk_span spans[3] = {
    {.first = {192, 0, 1, 254}, .before = 0, .n = 4},
    {.first = {198, 51, 100, 7}, .before = 4, .n = 1},
    {.first = {255, 255, 255, 254}, .before = 5, .n = 2},
};
static const uint16_t ports[PORTS] = {1, 80, 65535};
static const uint8_t next_hops[ADDRESSES][6] = {{2, 0, 1}, {2, 0, 2}, {2, 0, 3}, {0}, {2, 0, 5}, {0}, {2, 0, 7}};
static const uint8_t link_header[14] = {0, 0, 0, 0, 0, 0, 2, 1, 1, 1, 1, 1, 8, 0};

static struct rk_probe_plan plan_of(uint64_t seed, bool link)
{
    struct rk_probe_plan plan = {.packet = template,
                                 .packet_len = sizeof template,
                                 .link = link ? link_header : NULL,
                                 .link_len = link ? sizeof link_header : 0,
                                 .next_hops = link ? next_hops[0] : NULL,
                                 .spans = spans,
                                 .spans_n = 3,
                                 .addresses_n = ADDRESSES,
                                 .ports = ports,
                                 .ports_n = PORTS,
                                 .key = "a key of 16 oct"};
    if (seed != 0)
        rk_perm_init(&plan.order, PROBES, seed);
    return plan;
}

struct room {
    struct rk_board board;
    struct rk_timing timing;
    uint8_t states[PROBES], probes[PROBES];
    int64_t sent_ns[PROBES], rtt_ns[PROBES];
    uint32_t rows[PROBES];
};

static void set_up(struct room *room, uint64_t first, uint64_t step, uint32_t rows_n)
{
    memset(room, 0, sizeof *room);
    room->board = (struct rk_board){.first = first, .step = step, .rows_n = rows_n, .left = rows_n,
                                    .states = room->states, .probes = room->probes, .sent_ns = room->sent_ns,
                                    .rtt_ns = room->rtt_ns, .timing = &room->timing};
}

/* What the target of a probe answers: a frame with addresses and ports swapped. */
static uint32_t answer(const uint8_t *probe, uint8_t flags, uint8_t *out)
{
    memcpy(out, probe, sizeof template);
    memcpy(out + 12, probe + 16, 4);
    memcpy(out + 16, probe + 12, 4);
    memcpy(out + 20, probe + 22, 2);
    memcpy(out + 22, probe + 20, 2);
    rk_store_be32(out + 28, rk_load_be32(probe + 24) + 1);
    out[33] = flags;
    return sizeof template;
}

static uint32_t number_of(const uint8_t *probe)
{
    uint32_t address = rk_load_be32(probe + 16), port = rk_load_be16(probe + 22), port_i = 0, address_i = PROBES;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t offset = address - rk_load_be32(spans[i].first);
        if (offset < spans[i].n)
            address_i = (uint32_t)spans[i].before + offset;
    }
    while (port_i < PORTS - 1 && ports[port_i] != port)
        port_i++;
    return address_i * PORTS + port_i;
}

/* First answers of states that are not counted; *strays becomes the answers to no row. */
static int match(const struct rk_probe_plan *plan, struct room *room, const struct rk_batch *batch, uint32_t counted,
                 uint32_t *rows, uint32_t *strays)
{
    struct rk_probe_reply replies[PROBES];
    uint32_t next, taken = 0;
    int n = rk_probe_match(plan, batch, 0, 0, replies, PROBES, &next);
    EXPECT(next, batch->n);
    *strays = 0;
    for (int i = 0; i < n; i++) {
        int found = rk_board_take(plan, &room->board, 4, &replies[i], counted, &rows[taken]);
        *strays += found == -ENOENT;
        taken += found == 1;
    }
    return (int)taken;
}

/* Two rounds, in which every other row answers; every probe once a round. */
static void rounds(uint64_t seed, uint64_t first, uint64_t step, uint32_t rows_n)
{
    struct rk_probe_plan plan = plan_of(seed, false);
    struct room room;
    set_up(&room, first, step, rows_n);
    struct rk_batch *out = new_batch(4, 4096), *in = new_batch(2 * PROBES, 4096);
    bool seen[PROBES] = {false};
    uint32_t from = 0, sent = 0;
    int n;
    while ((n = rk_board_fill(&plan, &room.board, out, from, 100, room.rows)) > 0) {
        EXPECT(n <= 4, 1);
        rk_board_sent(&room.board, room.rows, (uint32_t)n, 1000);
        for (uint32_t i = 0; i < (uint32_t)n; i++, sent++) {
            EXPECT(room.rows[i], sent);
            const uint8_t *probe = out->arena + out->frames[i].offset;
            uint32_t number = number_of(probe);
            EXPECT(seen[number], false);
            seen[number] = true;
            uint64_t position = first + sent * step;
            EXPECT(number, seed ? rk_perm_at(&plan.order, position) : position);
            uint8_t address[16], reply[64];
            uint16_t port;
            EXPECT(rk_probe_target(&plan, position, address, &port), 0);
            EXPECT(memcmp(address, probe + 16, 4), 0);
            EXPECT(port, rk_load_be16(probe + 22));
            if (sent % 2 == 0)
                add(in, reply, answer(probe, sent % 4 == 0 ? 0x12 : 0x14, reply));
        }
        from = room.rows[n - 1] + 1;
    }
    EXPECT(n, 0);
    EXPECT(sent, rows_n);
    for (uint32_t i = 0; i < in->n; i++)
        in->frames[i].time_ns = 1000 + 10 * i;
    uint32_t strays, rows[PROBES], open_n = (rows_n + 3) / 4, answered = (rows_n + 1) / 2;
    EXPECT(match(&plan, &room, in, 1u << RK_PROBE_CLOSED, rows, &strays), open_n);
    EXPECT(room.board.counted, answered - open_n);
    EXPECT(room.board.left, rows_n - answered);
    EXPECT(room.timing.rtt_n, answered);
    EXPECT(room.timing.rtt_max_ns, answered ? 10 * (answered - 1) : 0);
    EXPECT(room.timing.rtt_sum_ns, answered ? 5 * answered * (answered - 1) : 0);
    for (uint32_t i = 0; i < open_n; i++)
        EXPECT(rows[i], 4 * i);
    for (uint32_t i = 0; i < rows_n; i++)
        EXPECT(room.rtt_ns[i], i % 2 == 0 ? 10 * (i / 2) : 0);
    EXPECT(match(&plan, &room, in, 0, rows, &strays), 0);
    EXPECT(room.board.duplicates, answered);
    /* Again, only those without an answer. */
    sent = from = 0;
    while ((n = rk_board_fill(&plan, &room.board, out, from, 100, room.rows)) > 0) {
        rk_board_sent(&room.board, room.rows, 1, 2000); /* the first one only: the others are filled in again */
        EXPECT(room.rows[0], 2 * sent + 1);
        EXPECT(room.probes[room.rows[0]], 2);
        from = room.rows[0] + 1;
        sent++;
    }
    EXPECT(sent, rows_n - answered);
    if (sent > 0) { /* of a probe sent twice nobody knows the round trip */
        uint8_t reply[64];
        in->n = in->arena_used = 0;
        from = 0;
        EXPECT(rk_board_fill(&plan, &room.board, out, 0, 1, room.rows), 1);
        add(in, reply, answer(out->arena, 0x12, reply));
        EXPECT(match(&plan, &room, in, 0, rows, &strays), 1);
        EXPECT(room.timing.rtt_n, answered);
    }
    drop_batch(out);
    drop_batch(in);
}

static void absent(void)
{
    struct rk_probe_plan plan = plan_of(7, true);
    struct room room;
    set_up(&room, 0, 1, PROBES);
    struct rk_batch *out = new_batch(PROBES, 4096);
    EXPECT(rk_board_fill(&plan, &room.board, out, 0, PROBES, room.rows), PROBES - 2 * PORTS);
    EXPECT(room.board.left, PROBES - 2 * PORTS);
    for (uint32_t i = 0; i < out->n; i++)
        EXPECT(out->arena[out->frames[i].offset], 2);
    uint32_t absent_n = 0;
    for (uint32_t row = 0; row < PROBES; row++)
        absent_n += room.states[row] == RK_BOARD_ABSENT;
    EXPECT(absent_n, 2 * PORTS);
    drop_batch(out);
}

/* Answers count for the epoch in which their probe was sent last; the oldest of the epochs are forgotten. */
static void epochs(void)
{
    struct rk_probe_plan plan = plan_of(3, false);
    struct room room;
    set_up(&room, 0, 1, PROBES);
    struct rk_batch *out = new_batch(PROBES, 4096), *in = new_batch(PROBES, 4096);
    uint8_t reply[64];
    uint32_t strays, rows[PROBES];
    for (uint32_t epoch = 0, from = 0; epoch <= RK_TIMING_EPOCHS; from += ++epoch) { /* of 1, 2, 3, ... probes */
        rk_timing_begin_epoch(&room.timing, 1000 * (epoch + 1));
        EXPECT(rk_board_fill(&plan, &room.board, out, from, epoch + 1, room.rows), epoch + 1);
        rk_board_sent(&room.board, room.rows, epoch + 1, 1000 * (epoch + 1));
        for (uint32_t i = 0; i <= epoch; i++)
            add(in, reply, answer(out->arena + out->frames[i].offset, 0x12, reply));
    }
    EXPECT(match(&plan, &room, in, 0, rows, &strays), in->n);
    for (uint32_t age = 0; age < RK_TIMING_EPOCHS; age++)
        EXPECT(room.timing.epoch_answers[age], RK_TIMING_EPOCHS + 1 - age);
    drop_batch(out);
    drop_batch(in);
}

/* An answer to a probe of another part. */
static void strays(void)
{
    struct rk_probe_plan plan = plan_of(3, false);
    struct room room;
    set_up(&room, 0, 2, 5);
    struct rk_batch *out = new_batch(PROBES, 4096), *in = new_batch(PROBES, 4096);
    EXPECT(rk_probe_fill(&plan, out, 0, PROBES), PROBES);
    uint8_t reply[64];
    for (uint32_t i = 0; i < out->n; i++)
        add(in, reply, answer(out->arena + out->frames[i].offset, 0x12, reply));
    uint32_t strays, rows[PROBES];
    EXPECT(match(&plan, &room, in, 0, rows, &strays), 5);
    EXPECT(strays, PROBES - 5);
    EXPECT(room.board.left, 0);
    drop_batch(out);
    drop_batch(in);
}

static void refused(void)
{
    struct rk_probe_plan plan = plan_of(3, false);
    struct room room;
    struct rk_batch *out = new_batch(4, 4096);
    const struct {
        uint64_t first, step;
        uint32_t rows_n;
    } wrong[] = {{0, 0, 1}, {0, 1, PROBES + 1}, {PROBES, 1, 1}, {0, UINT64_MAX, 3}, {UINT64_MAX, 1, 2}, {1, 7, 4}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        set_up(&room, wrong[i].first, wrong[i].step, wrong[i].rows_n);
        EXPECT(rk_board_fill(&plan, &room.board, out, 0, 1, room.rows), -EINVAL);
    }
    set_up(&room, 0, 1, 1);
    plan.order.n = 5;
    EXPECT(rk_board_fill(&plan, &room.board, out, 0, 1, room.rows), -EINVAL);
    plan = plan_of(0, false);
    plan.addresses_n = UINT64_MAX / 2;
    EXPECT(rk_board_fill(&plan, &room.board, out, 0, 1, room.rows), -EINVAL);
    EXPECT(rk_probe_target(&plan, 0, room.states, (uint16_t *)(void *)room.rows), -EINVAL);
    drop_batch(out);
}

int main(void)
{
    for (uint64_t seed = 0; seed < 4; seed++) {
        rounds(seed, 0, 1, PROBES);
        rounds(seed, 5, 1, 10);
        rounds(seed, 2, 3, 6);
        rounds(seed, 0, 1, 0);
    }
    absent();
    epochs();
    strays();
    refused();
    return failures != 0;
}
