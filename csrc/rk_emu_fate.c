/* The fate of a packet on an emulated link: random numbers, the models of rawkit/sim/models.py, and schedules. */
#include "rk_emu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 u128;

/* ---- random numbers (rawkit/transport/chance.py) ------------------------------------------------ */

uint64_t rk_emu_draw(uint64_t key, uint64_t position)
{
    /* SplitMix64 (Steele, Lea, Flood 2014), at any position. */
    uint64_t z = key + (position + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double rk_emu_chance(uint64_t key, uint64_t position)
{
    return (double)(rk_emu_draw(key, position) >> 11) * 0x1p-53;
}

uint64_t rk_emu_share(uint64_t bits, uint64_t n)
{
    return (uint64_t)((u128)bits * n >> 64);
}

/* ---- models --------------------------------------------------------------------------------------- */

bool rk_emu_grow(void *array, uint32_t *room, uint32_t n, size_t size)
{
    if (n < *room)
        return true;
    uint32_t wanted = *room ? 2 * *room : 64;
    void *old, *new;
    memcpy(&old, array, sizeof old);
    new = realloc(old, wanted * size);
    if (!new)
        return false;
    memcpy(array, &new, sizeof new);
    *room = wanted;
    return true;
}

static bool add_flip(struct rk_emu *emu, struct fate *fate, uint64_t bit)
{
    if (!rk_emu_grow(&emu->flips, &emu->flips_room, fate->flips_n, sizeof *emu->flips))
        return false;
    emu->flips[fate->flips_n++] = bit;
    return true;
}

static bool add_copy(struct rk_emu *emu, struct fate *fate, int64_t gap_ns)
{
    if (!rk_emu_grow(&emu->copies, &emu->copies_room, fate->copies_n, sizeof *emu->copies))
        return false;
    emu->copies[fate->copies_n++] = gap_ns;
    return true;
}

static bool corrupt(struct rk_emu *emu, const struct rk_emu_model *model, const struct packet *packet,
                    uint64_t number, struct fate *fate)
{
    uint64_t bits = 8u * (uint64_t)packet->size, own = rk_emu_draw(model->key, number);
    if (bits == 0)
        return true;
    if (model->p > 0 && rk_emu_chance(own, 0) < model->p && !add_flip(emu, fate, rk_emu_share(rk_emu_draw(own, 1), bits)))
        return false;
    double scale = log(1.0 - model->r);
    if (!(scale < 0))
        return true;
    double bit = -1; /* exact: far below 2**53, or beyond the packet */
    for (uint64_t position = 2;; position++) { /* from one error to the next: the gap is geometric */
        bit += 1 + trunc(log(1.0 - rk_emu_chance(own, position)) / scale);
        if (bit >= (double)bits)
            return true;
        if (!add_flip(emu, fate, (uint64_t)bit))
            return false;
    }
}

static bool among(const struct rk_emu_model *model, uint64_t number)
{
    uint32_t low = 0, high = model->numbers_n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (model->numbers[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < model->numbers_n && model->numbers[low] == number;
}

/* Let a model add to the fate of a packet; false without memory. */
static bool judge(struct rk_emu *emu, uint32_t i, const struct packet *packet, uint64_t number, struct fate *fate)
{
    const struct rk_emu_model *model = &emu->models[i];
    switch (model->kind) {
    case RK_EMU_BERNOULLI:
        if (rk_emu_chance(model->key, number) < model->p)
            fate->cause = RK_EMU_LOSS;
        return true;
    case RK_EMU_GILBERT_ELLIOTT: {
        double step = rk_emu_chance(model->key, 2 * number);
        emu->bad[i] = emu->bad[i] ? step >= model->r : step < model->p;
        if (rk_emu_chance(model->key, 2 * number + 1) >= (emu->bad[i] ? model->h : model->k))
            fate->cause = emu->bad[i] ? RK_EMU_BURST_LOSS : RK_EMU_LOSS;
        return true;
    }
    case RK_EMU_PERIODIC:
        if (number % model->n == model->n - 1)
            fate->cause = RK_EMU_LOSS;
        return true;
    case RK_EMU_BURST:
        if (number % model->n >= model->n - model->m)
            fate->cause = RK_EMU_BURST_LOSS;
        return true;
    case RK_EMU_NUMBERS:
        if (among(model, number))
            fate->cause = RK_EMU_LOSS;
        return true;
    case RK_EMU_BLACKHOLE:
        if (model->from_ns <= emu->now_ns && emu->now_ns < model->to_ns)
            fate->cause = RK_EMU_BLACK;
        return true;
    case RK_EMU_CORRUPT:
        return corrupt(emu, model, packet, number, fate);
    case RK_EMU_DUPLICATE:
        return rk_emu_chance(model->key, number) >= model->p || add_copy(emu, fate, model->from_ns);
    case RK_EMU_REORDER:
        if (rk_emu_chance(model->key, number) < model->p) {
            if (model->n > fate->behind)
                fate->behind = (uint32_t)model->n;
            fate->late_ns += model->from_ns;
        }
        return true;
    default: /* RK_EMU_JITTER */
        fate->late_ns += (int64_t)rk_emu_share(rk_emu_draw(model->key, number), (uint64_t)model->from_ns + 1);
        return true;
    }
}

static bool apply(struct rk_emu *emu, const struct rk_emu_fault *fault, const struct packet *packet,
                  struct fate *fate)
{
    switch (fault->action) {
    case RK_EMU_DROP:
        fate->cause = RK_EMU_SCHEDULED;
        return true;
    case RK_EMU_DELAY:
        fate->late_ns += (int64_t)fault->amount;
        return true;
    case RK_EMU_SWAP:
        if (fate->behind < fault->amount)
            fate->behind = (uint32_t)fault->amount;
        return true;
    case RK_EMU_COPY:
        return add_copy(emu, fate, 0);
    default: { /* RK_EMU_FLIP: a bit of what is above IP */
        uint64_t below = packet->overhead, above = packet->size - packet->overhead;
        return above == 0 || add_flip(emu, fate, below * 8 + fault->amount % (above * 8));
    }
    }
}

/* What the schedule says: of the n-th packet of this direction, of both, or of a time. */
static bool follow_schedule(struct rk_emu *emu, const struct packet *packet, struct fate *fate)
{
    bool fits = true;
    const struct rk_emu_fault *faults = emu->faults; /* in the simulator's order: by all, by own, by time */
    for (uint32_t by = RK_EMU_BY_BOTH; by <= RK_EMU_BY_DIRECTION; by++) {
        uint64_t n = by == RK_EMU_BY_BOTH ? *emu->count : emu->own_count;
        uint32_t i = emu->next_fault[by], end = emu->faults_end[by];
        while (i < end && faults[i].n < n) /* of the other direction's packets */
            i++;
        for (; i < end && faults[i].n == n; i++)
            fits = apply(emu, &faults[i], packet, fate) && fits;
        emu->next_fault[by] = i;
    }
    for (uint32_t i = emu->faults_end[RK_EMU_BY_DIRECTION]; i < emu->faults_end[RK_EMU_BY_TIME]; i++)
        if (faults[i].from_ns <= emu->now_ns && emu->now_ns < faults[i].to_ns)
            fits = apply(emu, &faults[i], packet, fate) && fits;
    emu->own_count++;
    (*emu->count)++;
    return fits;
}

bool rk_emu_judge(struct rk_emu *emu, const struct packet *packet, uint64_t number, struct fate *fate)
{
    bool fits = emu->spec.faults_n == 0 || follow_schedule(emu, packet, fate);
    for (uint32_t i = 0; fits && fate->cause == 0 && i < emu->spec.models_n; i++)
        fits = judge(emu, i, packet, number, fate);
    return fits;
}
