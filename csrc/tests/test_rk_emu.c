/* An emulated direction under frames of any octets: nothing is lost without being counted, nothing is kept, times
 * do not go back.  That it does what the simulator does, tests/lab/test_emulator.py shows. */
#define _GNU_SOURCE
#include "../rk_emu.c"

#include "rk_test.h"

static uint64_t state = 1;

static uint64_t below(uint64_t n)
{
    return rk_emu_draw(state++, 0) % n;
}

static const uint64_t numbers[] = {3, 7, 8, 200};

static struct rk_emu_model random_model(void)
{
    static const double shares[] = {0, 0.1, 0.5, 1};
    struct rk_emu_model model = {
        .kind = RK_EMU_BERNOULLI + (uint32_t)below(RK_EMU_JITTER),
        .key = below(1u << 30),
        .from_ns = (int64_t)below(3000000),
        .to_ns = 5000000,
        .p = shares[below(2)],
        .r = shares[below(3)],
        .h = shares[below(4)],
        .k = shares[1 + below(3)],
        .n = 5 + below(5),
        .m = 1 + below(3),
        .numbers = numbers,
        .numbers_n = 4,
    };
    if (model.kind == RK_EMU_REORDER && below(2))
        model.from_ns = 0;
    return model;
}

static struct rk_emu_fault random_fault(void)
{
    return (struct rk_emu_fault){
        .action = RK_EMU_DROP + (uint32_t)below(RK_EMU_FLIP),
        .by = (uint32_t)below(3),
        .n = below(40),
        .amount = below(2000000),
        .from_ns = 1000000,
        .to_ns = 2000000,
    };
}

static int in_order(const void *one, const void *other)
{
    const struct rk_emu_fault *a = one, *b = other;
    return a->by != b->by ? (a->by > b->by) - (a->by < b->by) : (a->n > b->n) - (a->n < b->n);
}

/* Octets of a frame, often with the beginning of a packet that is not all there. */
static uint32_t random_frame(uint8_t *frame)
{
    static const uint8_t types[][2] = {{8, 0}, {0x86, 0xdd}, {8, 6}, {0x81, 0}, {0x88, 0xb5}};
    uint32_t len = 14 + (uint32_t)below(below(2) ? 80 : 1500);
    for (uint32_t i = 0; i < len; i++)
        frame[i] = (uint8_t)below(256);
    memcpy(frame + 12, types[below(5)], 2);
    if (len > 34 && below(4)) {
        frame[14] = frame[12] == 8 ? 0x45 : 0x60;
        rk_store_be16(frame + (frame[12] == 8 ? 16 : 18), (uint16_t)(len - 14 - (frame[12] == 8 ? 0 : 40)));
    }
    return len;
}

static void check_any_link(void)
{
    struct rk_emu_model models[4];
    struct rk_emu_fault faults[12];
    const struct rk_emu_step rates[2] = {{0, (int64_t)(1000000 + below(100000000))}, {3000000, (int64_t)below(3) * 10000000 - 1}};
    const struct rk_emu_step delays[2] = {{0, (int64_t)below(3000000)}, {4000000, (int64_t)below(3000000)}};
    const int64_t trace[] = {1, 1, 3};
    for (int i = 0; i < 4; i++)
        models[i] = random_model();
    for (int i = 0; i < 12; i++)
        faults[i] = random_fault();
    qsort(faults, 12, sizeof *faults, in_order);
    struct rk_emu_spec spec = {
        .models = models, .models_n = (uint32_t)below(5),
        .faults = faults, .faults_n = (uint32_t)below(13),
        .rates = rates, .rates_n = (uint32_t)below(3),
        .delays = delays, .delays_n = 1 + (uint32_t)below(2),
        .opportunities_ms = trace, .opportunities_n = below(5) ? 0 : 3,
        .queue = (uint32_t)below(4), .limit = (int64_t)below(30), .limit_octets = -1, .limit_ns = -1, .mark_from = 3,
        .low = 1, .high = 5, .most = 0.2, .weight = 0.1, .target_ns = 100000, .interval_ns = 500000,
        .queue_mtu = 1500, .mtu = 1400, .capacity = 1 + (uint32_t)below(300),
        .jitter_ns = below(2) ? 0 : 500000,
    };
    struct rk_emu *emu = NULL;
    int error = rk_emu_open(&emu, &spec);
    if (error == -EINVAL)
        return; /* chance made nonsense */
    EXPECT(error, 0);
    if (error)
        return;
    uint8_t frame[1600];
    struct rk_emu_frame out[7];
    uint64_t offered = 0, came = 0, counts[RK_EMU_CAUSES];
    int64_t now = 0, last = 0;
    for (int i = 0; i < 400; i++) {
        now += below(3) ? 0 : (int64_t)below(100000);
        if (rk_emu_offer(emu, now, frame, random_frame(frame)) != -EINVAL)
            offered++;
        uint32_t n;
        while ((n = rk_emu_peek(emu, out, 7)) > 0 && below(10)) {
            for (uint32_t k = 0; k < n; last = out[k++].due_ns)
                EXPECT(out[k].due_ns >= last && out[k].len >= 14, true);
            rk_emu_take(emu, n);
            came += n;
        }
    }
    if (below(2)) { /* else it is closed with all that is under way */
        rk_emu_advance(emu, INT64_MAX);
        came += emu->out_n;
        rk_emu_take(emu, UINT32_MAX);
        EXPECT(emu->under_way, 0);
        EXPECT(rk_emu_next(emu), INT64_MAX);
        rk_emu_read(emu, counts);
        uint64_t gone = came; /* the link's own talk among them */
        for (int cause = RK_EMU_LOSS; cause < RK_EMU_CAUSES; cause++)
            gone += counts[cause];
        EXPECT(gone >= offered + counts[RK_EMU_DUPLICATED], true);
        EXPECT(counts[RK_EMU_DELIVERED] <= came, true);
    }
    rk_emu_close(emu);
}

static void check_nonsense(void)
{
    const struct rk_emu_step step = {0, 1};
    const struct rk_emu_spec good = {.delays = &step, .delays_n = 1, .limit = -1, .mtu = 1500, .capacity = 1};
    struct rk_emu_spec bad[10] = {good, good, good, good, good, good, good, good, good, good};
    const struct rk_emu_model model = {.kind = 99}, share = {.kind = RK_EMU_BERNOULLI, .p = 0.0 / 0.0};
    const struct rk_emu_step late = {5, 1}, negative = {0, -1};
    const struct rk_emu_fault fault = {.action = 9};
    const struct rk_emu_fault backwards[] = {{.action = RK_EMU_DROP, .n = 2}, {.action = RK_EMU_DROP, .n = 1}};
    const struct rk_emu_fault far = {.action = RK_EMU_SWAP, .amount = 1ull << 32};
    bad[0].models = &model, bad[0].models_n = 1;
    bad[1].models = &share, bad[1].models_n = 1;
    bad[2].delays = &late;
    bad[3].delays = &negative;
    bad[4].capacity = 0;
    bad[5].queue = RK_EMU_RED;
    bad[6].faults = &fault, bad[6].faults_n = 1;
    bad[7].frame_ns = -1;
    bad[8].faults = backwards, bad[8].faults_n = 2;
    bad[9].faults = &far, bad[9].faults_n = 1;
    struct rk_emu *emu = NULL;
    for (int i = 0; i < 10; i++)
        EXPECT(rk_emu_open(&emu, &bad[i]), -EINVAL);
    EXPECT(emu == NULL, true);
    EXPECT(rk_emu_open(&emu, &good), 0);
    EXPECT(rk_emu_offer(emu, 0, (const uint8_t *)"short", 5), -EINVAL);
    rk_emu_close(emu);
    rk_emu_close(NULL);
}

int main(void)
{
    check_nonsense();
    for (int round = 0; round < 1500; round++)
        check_any_link();
    return result();
}
