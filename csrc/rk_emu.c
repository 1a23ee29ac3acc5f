/* One direction of an emulated link: what rawkit/sim/link.py and its models do to packets, on frames.
 *
 * The simulator is the specification, and a property test compares the two packet by packet: the same arithmetic in
 * integers, the same random numbers from the same keys, the same order of what happens at one time.  The engine is a
 * function of the times that it is told; it reads no clock and opens no socket.
 *
 *     mtu check -> fate (loss, duplication, corruption) -> queue (limit, AQM, ECN) -> serializer
 *               -> propagation (delay, jitter, reordering) -> delivery
 *
 * What a link says for itself (ARP, neighbour discovery, group membership) has no number and no fate: it is only
 * delayed, so that the k-th packet here is the k-th packet there. */
#include "rk.h"

#include "rk_internal.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 i128;

enum {
    ETHERNET_LEN = 14,
    TAG_LEN = 4,
    IPV6_LEN = 40,
    MAX_LEN = 1 << 18, /* of a frame */
    MAX_CAPACITY = 1 << 22,
    OCTETS_MAHIMAHI = 1500, /* of an opportunity in a delivery trace */
};
static const uint64_t PER_OCTET = 8000000000u;   /* bits per second times nanoseconds */
static const int64_t HOLD_NS = 100000000;        /* how long what others are to overtake waits for them */
static const int64_t MS = 1000000;
static const int64_t FOREVER = INT64_MAX;

struct packet {
    struct packet *next; /* in the line, or among those that came out */
    int64_t time_ns;     /* since when it waits in line; when it came out */
    int64_t late_ns;     /* what its fate adds to the delay */
    uint32_t behind;     /* how many are to overtake it */
    bool own;            /* the link's own talk */
    uint32_t ip;         /* where the IP packet begins, */
    uint32_t size;       /* its octets, */
    uint32_t overhead;   /* and those of its header; 0 when it is none */
    uint32_t len;
    uint8_t octets[];
};

struct held { /* a packet that others are to overtake */
    struct packet *packet; /* NULL when it has come out */
    uint32_t behind;       /* how many are still to overtake it */
    uint32_t events;       /* that know of it */
};

enum kind { DELIVER, OFFER_COPY, SERVE, RELEASE };

struct event {
    int64_t time_ns;
    uint64_t serial;
    enum kind kind;
    struct packet *packet; /* DELIVER, OFFER_COPY */
    struct held *held;     /* RELEASE */
};

struct turn { /* of what waits: when it comes, and the packet's size */
    int64_t time_ns;
    uint32_t size;
};

struct fate {
    int cause; /* why it is lost; 0 when it is not */
    int64_t late_ns;
    uint32_t behind;
    uint32_t copies_n, flips_n;
};

struct rk_emu {
    struct rk_emu_spec spec;
    struct rk_emu_model *models;
    bool *bad; /* for each model: the state of a Gilbert-Elliott one */
    struct rk_emu_fault *faults;
    struct rk_emu_step *rates, *delays;
    int64_t *opportunities;
    uint64_t **numbers;

    struct event *heap;
    uint32_t heap_n, heap_room;
    uint64_t serial;
    int64_t now_ns;
    uint32_t under_way; /* packets held in memory */

    uint64_t number, jittered;
    uint64_t own_count, *count; /* judged by the schedule: here, and in both directions */
    uint64_t both_count;
    int64_t busy_ns, last_ns;

    struct turn *turns; /* a ring */
    uint32_t turns_room, turns_head, turns_n;
    uint64_t waiting_octets;
    struct packet *line_first, **line_end;
    uint32_t line_n;
    bool serving;
    struct held **held; /* those that wait, in their order */
    uint32_t held_n, held_room;

    int64_t serial_end_ns; /* of a constant rate: when the last packet left, and what a division left over */
    uint64_t serial_left;
    int64_t left;          /* of a delivery trace: octets of the opportunity in use; the next one */
    int64_t next;

    double average; /* RED */
    int64_t since;
    uint64_t queued;
    bool dropping; /* CoDel */
    int64_t first_above_ns, drop_next_ns;
    uint64_t drops, last_drops;

    int64_t *copies;
    uint64_t *flips;
    uint32_t copies_room, flips_room;
    struct packet *out_first, **out_end;
    uint32_t out_n;
    _Atomic uint64_t counts[RK_EMU_CAUSES]; /* written by one thread */
};

/* ---- random numbers (rawkit/transport/chance.py) ------------------------------------------------ */

static uint64_t draw(uint64_t key, uint64_t position)
{
    /* SplitMix64 (Steele, Lea, Flood 2014), at any position. */
    uint64_t z = key + (position + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double chance(uint64_t key, uint64_t position)
{
    return (double)(draw(key, position) >> 11) * 0x1p-53;
}

static uint64_t share(uint64_t bits, uint64_t n)
{
    return (uint64_t)((u128)bits * n >> 64);
}

/* ---- memory --------------------------------------------------------------------------------------- */

/* Room for one more in an array of elements of `size` octets; false when there is none. */
static bool grow(void *array, uint32_t *room, uint32_t n, size_t size)
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

static void count(struct rk_emu *emu, int cause)
{
    uint64_t n = atomic_load_explicit(&emu->counts[cause], memory_order_relaxed);
    atomic_store_explicit(&emu->counts[cause], n + 1, memory_order_relaxed);
}

static void forget(struct rk_emu *emu, struct packet *packet)
{
    emu->under_way--;
    free(packet);
}

static void lose(struct rk_emu *emu, struct packet *packet, int cause)
{
    count(emu, cause);
    forget(emu, packet);
}

static bool before(const struct event *a, const struct event *b)
{
    return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->serial < b->serial;
}

static bool at(struct rk_emu *emu, int64_t time_ns, enum kind kind, struct packet *packet, struct held *held)
{
    if (!grow(&emu->heap, &emu->heap_room, emu->heap_n, sizeof *emu->heap))
        return false;
    struct event event = {.time_ns = time_ns, .serial = emu->serial++, .kind = kind, .packet = packet, .held = held};
    uint32_t i = emu->heap_n++;
    for (; i > 0 && before(&event, &emu->heap[(i - 1) / 2]); i = (i - 1) / 2)
        emu->heap[i] = emu->heap[(i - 1) / 2];
    emu->heap[i] = event;
    return true;
}

static struct event pop(struct rk_emu *emu)
{
    struct event first = emu->heap[0], last = emu->heap[--emu->heap_n];
    uint32_t i = 0, n = emu->heap_n;
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&emu->heap[child + 1], &emu->heap[child]))
            child++;
        if (!before(&emu->heap[child], &last))
            break;
        emu->heap[i] = emu->heap[child];
    }
    emu->heap[i] = last;
    return first;
}

/* ---- packets ------------------------------------------------------------------------------------ */

/* Whether ICMPv6 of this type is about the link: neighbours, routers, groups. */
static bool is_about_the_link(uint8_t type)
{
    return (type >= 130 && type <= 137) || type == 143;
}

/* Find the packet in a frame. */
static void look(struct packet *packet)
{
    const uint8_t *octets = packet->octets;
    uint32_t at_type = ETHERNET_LEN - 2, len = packet->len;
    while (at_type + 2 + TAG_LEN <= len
           && (rk_load_be16(octets + at_type) == 0x8100 || rk_load_be16(octets + at_type) == 0x88a8))
        at_type += TAG_LEN;
    uint32_t type = rk_load_be16(octets + at_type), ip = at_type + 2, rest = len - ip;
    const uint8_t *header = octets + ip;
    packet->ip = ip;
    packet->size = rest;
    packet->own = type == 0x0806;
    if (type == 0x0800 && rest >= 20 && header[0] >> 4 == 4) {
        uint32_t total = rk_load_be16(header + 2), header_len = 4u * (header[0] & 15);
        if (total < header_len || total > rest || header_len < 20)
            return;
        packet->size = total;
        packet->overhead = header_len;
        packet->own = header[9] == 2; /* IGMP */
    } else if (type == 0x86dd && rest >= IPV6_LEN && header[0] >> 4 == 6) {
        uint32_t total = IPV6_LEN + rk_load_be16(header + 4);
        if (total > rest)
            return;
        packet->size = total;
        packet->overhead = IPV6_LEN;
        const uint8_t *next = header + IPV6_LEN;
        if (header[6] == 58 && total > IPV6_LEN)
            packet->own = is_about_the_link(next[0]);
        else if (header[6] == 0 && total > IPV6_LEN + 8 && next[0] == 58 && next[1] == 0)
            packet->own = is_about_the_link(next[8]);
    }
}

static uint8_t *traffic_class(struct packet *packet)
{
    return packet->octets + packet->ip + (packet->octets[packet->ip] >> 4 == 6 ? 0 : 1);
}

static uint32_t ecn_of(struct packet *packet)
{
    if (packet->overhead == 0)
        return 0;
    uint8_t *at_ecn = traffic_class(packet);
    return packet->octets[packet->ip] >> 4 == 6 ? at_ecn[1] >> 4 & 3 : *at_ecn & 3;
}

static void mark(struct packet *packet)
{
    uint8_t *header = packet->octets + packet->ip;
    if (header[0] >> 4 == 6) {
        header[1] |= 0x30;
        return;
    }
    uint16_t old = rk_load_be16(header);
    header[1] |= 3;
    rk_store_be16(header + 10, rk_csum_update(rk_load_be16(header + 10), old, rk_load_be16(header)));
}

static struct packet *copy_of(struct rk_emu *emu, const struct packet *packet)
{
    if (emu->under_way >= emu->spec.capacity)
        return NULL;
    struct packet *copy = malloc(sizeof *copy + packet->len);
    if (!copy)
        return NULL;
    memcpy(copy, packet, sizeof *copy + packet->len);
    emu->under_way++;
    return copy;
}

/* ---- fate ---------------------------------------------------------------------------------------- */

static bool add_flip(struct rk_emu *emu, struct fate *fate, uint64_t bit)
{
    if (!grow(&emu->flips, &emu->flips_room, fate->flips_n, sizeof *emu->flips))
        return false;
    emu->flips[fate->flips_n++] = bit;
    return true;
}

static bool add_copy(struct rk_emu *emu, struct fate *fate, int64_t gap_ns)
{
    if (!grow(&emu->copies, &emu->copies_room, fate->copies_n, sizeof *emu->copies))
        return false;
    emu->copies[fate->copies_n++] = gap_ns;
    return true;
}

static bool corrupt(struct rk_emu *emu, const struct rk_emu_model *model, const struct packet *packet,
                    uint64_t number, struct fate *fate)
{
    uint64_t bits = 8u * (uint64_t)packet->size, own = draw(model->key, number);
    if (bits == 0)
        return true;
    if (model->p > 0 && chance(own, 0) < model->p && !add_flip(emu, fate, share(draw(own, 1), bits)))
        return false;
    double scale = log(1.0 - model->r);
    if (!(scale < 0))
        return true;
    double bit = -1; /* exact: far below 2**53, or beyond the packet */
    for (uint64_t position = 2;; position++) { /* from one error to the next: the gap is geometric */
        bit += 1 + trunc(log(1.0 - chance(own, position)) / scale);
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
        if (chance(model->key, number) < model->p)
            fate->cause = RK_EMU_LOSS;
        return true;
    case RK_EMU_GILBERT_ELLIOTT: {
        double step = chance(model->key, 2 * number);
        emu->bad[i] = emu->bad[i] ? step >= model->r : step < model->p;
        if (chance(model->key, 2 * number + 1) >= (emu->bad[i] ? model->h : model->k))
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
        return chance(model->key, number) >= model->p || add_copy(emu, fate, model->from_ns);
    case RK_EMU_REORDER:
        if (chance(model->key, number) < model->p) {
            if (model->n > fate->behind)
                fate->behind = (uint32_t)model->n;
            fate->late_ns += model->from_ns;
        }
        return true;
    default: /* RK_EMU_JITTER */
        fate->late_ns += (int64_t)share(draw(model->key, number), (uint64_t)model->from_ns + 1);
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
        if (fate->behind < 1)
            fate->behind = 1;
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
    for (int round = 0; round < 3; round++) { /* in the simulator's order: by all, by own, by time */
        for (uint32_t i = 0; i < emu->spec.faults_n; i++) {
            const struct rk_emu_fault *fault = &emu->faults[i];
            bool meant;
            if (fault->by != (uint32_t)round)
                continue;
            if (round == RK_EMU_BY_BOTH)
                meant = fault->n == *emu->count;
            else if (round == RK_EMU_BY_DIRECTION)
                meant = fault->n == emu->own_count;
            else
                meant = fault->from_ns <= emu->now_ns && emu->now_ns < fault->to_ns;
            if (meant)
                fits = apply(emu, fault, packet, fate) && fits;
        }
    }
    emu->own_count++;
    (*emu->count)++;
    return fits;
}

static int damage(struct rk_emu *emu, struct packet *packet, const struct fate *fate)
{
    count(emu, RK_EMU_CORRUPTED);
    uint64_t first = 8u * (uint64_t)packet->overhead;
    for (uint32_t i = 0; i < fate->flips_n; i++)
        if (emu->flips[i] < first)
            return RK_EMU_BAD_HEADER; /* whose own checksum gives it away */
    for (uint32_t i = 0; i < fate->flips_n; i++)
        packet->octets[packet->ip + emu->flips[i] / 8] ^= (uint8_t)(0x80 >> (emu->flips[i] & 7));
    return 0;
}

/* ---- serializer ---------------------------------------------------------------------------------- */

static bool is_infinitely_fast(const struct rk_emu *emu)
{
    return emu->spec.frame_ns == 0 && emu->spec.rates_n == 0 && emu->spec.opportunities_n == 0;
}

static int64_t finish_stepwise(struct rk_emu *emu, int64_t start_ns, uint64_t octets)
{
    uint32_t n = emu->spec.rates_n, i = 0;
    while (i + 1 < n && emu->rates[i + 1].at_ns <= start_ns)
        i++;
    i128 todo = (i128)octets * PER_OCTET;
    for (int64_t time_ns = start_ns;; i++) {
        int64_t rate = emu->rates[i].value;
        int64_t until = i + 1 < n ? emu->rates[i + 1].at_ns : FOREVER;
        if (rate < 0)
            return time_ns; /* infinitely fast */
        if (todo <= (i128)(until - time_ns) * rate)
            return todo == 0 ? time_ns : time_ns + (int64_t)((todo + rate - 1) / rate);
        if (until == FOREVER)
            return FOREVER; /* suspended for good */
        todo -= (i128)(until - time_ns) * rate;
        time_ns = until;
    }
}

static int64_t opportunity_ns(const struct rk_emu *emu, int64_t opportunity)
{
    int64_t n = emu->spec.opportunities_n;
    return (opportunity / n * emu->opportunities[n - 1] + emu->opportunities[opportunity % n]) * MS;
}

static int64_t finish_trace(struct rk_emu *emu, int64_t start_ns, uint64_t octets)
{
    int64_t n = emu->spec.opportunities_n, last_ms = emu->opportunities[n - 1];
    if (emu->next > 0 && emu->left > 0 && opportunity_ns(emu, emu->next - 1) < start_ns)
        emu->left = 0; /* its millisecond has passed */
    while (emu->left < (int64_t)octets) {
        if (opportunity_ns(emu, emu->next) < start_ns) {
            int64_t rounds = start_ns / MS / last_ms - 1;
            if (rounds > 0 && emu->next < rounds * n)
                emu->next = rounds * n;
            while (opportunity_ns(emu, emu->next) < start_ns)
                emu->next++;
        }
        emu->left += OCTETS_MAHIMAHI;
        emu->next++;
    }
    emu->left -= (int64_t)octets;
    int64_t end_ns = emu->next > 0 ? opportunity_ns(emu, emu->next - 1) : 0; /* 0: of nothing but empty packets */
    return end_ns > start_ns ? end_ns : start_ns;
}

/* When a packet has left whose turn comes at start_ns. */
static int64_t finish(struct rk_emu *emu, int64_t start_ns, const struct packet *packet)
{
    uint64_t octets = (uint64_t)packet->size + emu->spec.frame_octets;
    if (emu->spec.frame_ns > 0)
        return start_ns + emu->spec.frame_ns;
    if (emu->spec.opportunities_n > 0)
        return finish_trace(emu, start_ns, octets);
    if (emu->spec.rates_n == 0)
        return start_ns;
    if (emu->spec.rates_n > 1)
        return finish_stepwise(emu, start_ns, octets);
    uint64_t rate = (uint64_t)emu->rates[0].value;
    u128 todo = (u128)octets * PER_OCTET + (start_ns == emu->serial_end_ns ? emu->serial_left : 0);
    emu->serial_left = (uint64_t)(todo % rate);
    return emu->serial_end_ns = start_ns + (int64_t)(todo / rate);
}

/* ---- queues ---------------------------------------------------------------------------------------- */

enum said { TAKE, DROP, EARLY, MARK };

static enum said red(struct rk_emu *emu, uint64_t packets)
{
    const struct rk_emu_spec *spec = &emu->spec;
    double probability;
    emu->average += spec->weight * ((double)packets - emu->average);
    emu->queued++;
    if ((int64_t)packets >= spec->limit) {
        emu->since = 0;
        return DROP;
    }
    if (emu->average < spec->low) {
        emu->since = -1;
        return TAKE;
    }
    if (emu->average < spec->high)
        probability = spec->most * (emu->average - spec->low) / (spec->high - spec->low);
    else
        probability = spec->most + (1 - spec->most) * (emu->average - spec->high) / spec->high;
    emu->since++;
    double before_it = (double)emu->since * probability;
    probability = before_it < 1 ? probability / (1 - before_it) : 1.0;
    if (chance(spec->queue_key, emu->queued) >= probability)
        return TAKE;
    emu->since = 0;
    return emu->average < spec->high ? MARK : EARLY;
}

/* What the queue says to a packet that finds this much waiting. */
static enum said arrive(struct rk_emu *emu, const struct packet *packet, uint64_t packets, int64_t wait_ns)
{
    const struct rk_emu_spec *spec = &emu->spec;
    switch (spec->queue) {
    case RK_EMU_ECN_THRESHOLD:
        if ((int64_t)packets >= spec->limit)
            return DROP;
        return (int64_t)packets >= spec->mark_from ? MARK : TAKE;
    case RK_EMU_RED:
        return red(emu, packets);
    case RK_EMU_CODEL:
        return (int64_t)packets >= spec->limit ? DROP : TAKE;
    default: /* RK_EMU_DROP_TAIL */
        if (wait_ns == 0)
            return TAKE;
        if (spec->limit >= 0 && (int64_t)packets >= spec->limit)
            return DROP;
        if (spec->limit_octets >= 0 && (int64_t)(emu->waiting_octets + packet->size) > spec->limit_octets)
            return DROP;
        return spec->limit_ns >= 0 && wait_ns > spec->limit_ns ? DROP : TAKE;
    }
}

static uint64_t root(uint64_t n)
{
    uint64_t r = (uint64_t)sqrt((double)n);
    while (r * r > n)
        r--;
    while ((r + 1) * (r + 1) <= n)
        r++;
    return r;
}

/* RFC 8289 section 5, with integers: the next drop after one at time_ns. */
static int64_t control_law(const struct rk_emu *emu, int64_t time_ns)
{
    uint64_t drops = emu->drops < 10000000 ? emu->drops : 10000000;
    return time_ns + (int64_t)((u128)emu->spec.interval_ns * 1000000 / root(drops * 1000000000000u));
}

static bool is_above(struct rk_emu *emu, int64_t sojourn_ns)
{
    if (sojourn_ns < emu->spec.target_ns || emu->waiting_octets <= emu->spec.queue_mtu) {
        emu->first_above_ns = 0;
        return false;
    }
    if (emu->first_above_ns == 0) {
        emu->first_above_ns = emu->now_ns + emu->spec.interval_ns;
        return false;
    }
    return emu->now_ns >= emu->first_above_ns;
}

/* What CoDel says to a packet whose turn has come. */
static enum said leave(struct rk_emu *emu, int64_t sojourn_ns)
{
    bool ok_to_drop = is_above(emu, sojourn_ns);
    if (emu->dropping) {
        if (!ok_to_drop) {
            emu->dropping = false;
        } else if (emu->now_ns >= emu->drop_next_ns) {
            emu->drops++;
            emu->drop_next_ns = control_law(emu, emu->drop_next_ns);
            return MARK;
        }
    } else if (ok_to_drop) {
        emu->dropping = true;
        uint64_t delta = emu->drops - emu->last_drops;
        bool recent = emu->now_ns - emu->drop_next_ns < 16 * emu->spec.interval_ns;
        emu->drops = delta > 1 && recent ? delta : 1;
        emu->drop_next_ns = control_law(emu, emu->now_ns);
        emu->last_drops = emu->drops;
        return MARK;
    }
    return TAKE;
}

/* Whether the packet goes on after the queue's verdict; else it is gone. */
static bool heed(struct rk_emu *emu, enum said said, struct packet *packet)
{
    if (said == TAKE)
        return true;
    if (said == MARK && ecn_of(packet) != 0) {
        mark(packet);
        count(emu, RK_EMU_MARKED);
        return true;
    }
    if (said == DROP || emu->spec.queue == RK_EMU_RED || emu->spec.queue == RK_EMU_CODEL) {
        lose(emu, packet, said == DROP ? RK_EMU_QUEUE_FULL : RK_EMU_QUEUE_MANAGEMENT);
        return false;
    }
    return true;
}

static bool push_turn(struct rk_emu *emu, int64_t time_ns, uint32_t size)
{
    if (emu->turns_n == emu->turns_room) {
        uint32_t room = emu->turns_room ? 2 * emu->turns_room : 64;
        struct turn *turns = malloc(room * sizeof *turns);
        if (!turns)
            return false;
        for (uint32_t i = 0; i < emu->turns_n; i++)
            turns[i] = emu->turns[(emu->turns_head + i) % emu->turns_room];
        free(emu->turns);
        emu->turns = turns;
        emu->turns_room = room;
        emu->turns_head = 0;
    }
    emu->turns[(emu->turns_head + emu->turns_n++) % emu->turns_room] =
        (struct turn){.time_ns = time_ns, .size = size};
    emu->waiting_octets += size;
    return true;
}

/* Whether a first-in-first-out queue takes the packet, whose turn would come at start_ns. */
static bool admit(struct rk_emu *emu, struct packet *packet, int64_t start_ns)
{
    while (emu->turns_n > 0 && emu->turns[emu->turns_head].time_ns <= emu->now_ns) {
        emu->waiting_octets -= emu->turns[emu->turns_head].size;
        emu->turns_head = (emu->turns_head + 1) % emu->turns_room;
        emu->turns_n--;
    }
    if (!heed(emu, arrive(emu, packet, emu->turns_n, start_ns - emu->now_ns), packet))
        return false;
    if (start_ns > emu->now_ns && !push_turn(emu, start_ns, packet->size)) {
        lose(emu, packet, RK_EMU_NO_ROOM);
        return false;
    }
    return true;
}

/* ---- propagation ------------------------------------------------------------------------------- */

static void schedule(struct rk_emu *emu, int64_t time_ns, enum kind kind, struct packet *packet)
{
    if (!at(emu, time_ns, kind, packet, NULL))
        lose(emu, packet, RK_EMU_NO_ROOM);
}

static int64_t delay_at(const struct rk_emu *emu, int64_t time_ns)
{
    uint32_t i = emu->spec.delays_n - 1;
    while (i > 0 && emu->delays[i].at_ns > time_ns)
        i--;
    return emu->delays[i].value;
}

static void hold(struct rk_emu *emu, struct packet *packet, int64_t until_ns)
{
    struct held *held = malloc(sizeof *held);
    if (!held || !grow(&emu->held, &emu->held_room, emu->held_n, sizeof *emu->held)
        || !at(emu, until_ns, RELEASE, NULL, held)) {
        free(held);
        lose(emu, packet, RK_EMU_NO_ROOM);
        return;
    }
    *held = (struct held){.packet = packet, .behind = packet->behind, .events = 1};
    emu->held[emu->held_n++] = held;
}

static void propagate(struct rk_emu *emu, int64_t leaves_ns, struct packet *packet)
{
    int64_t arrives = leaves_ns + delay_at(emu, leaves_ns);
    if (emu->spec.delays_n > 1 || emu->spec.jitter_ns > 0) {
        if (emu->spec.jitter_ns > 0)
            arrives += (int64_t)share(draw(emu->spec.jitter_key, ++emu->jittered),
                                      (uint64_t)emu->spec.jitter_ns + 1);
        if (arrives < emu->last_ns)
            arrives = emu->last_ns; /* this link keeps order, unless a model says otherwise */
    }
    if (packet->behind > 0) {
        hold(emu, packet, arrives + packet->late_ns + HOLD_NS);
        return;
    }
    if (packet->late_ns > 0) {
        schedule(emu, arrives + packet->late_ns, DELIVER, packet);
        return;
    }
    emu->last_ns = arrives;
    schedule(emu, arrives, DELIVER, packet);
    for (uint32_t i = 0; i < emu->held_n; i++) {
        struct held *held = emu->held[i];
        if (held->behind > 0 && --held->behind == 0 && at(emu, arrives, RELEASE, NULL, held))
            held->events++;
    }
}

static void come_out(struct rk_emu *emu, struct packet *packet)
{
    if (!packet->own)
        count(emu, RK_EMU_DELIVERED);
    packet->next = NULL;
    packet->time_ns = emu->now_ns;
    *emu->out_end = packet;
    emu->out_end = &packet->next;
    emu->out_n++;
}

static void release(struct rk_emu *emu, struct held *held)
{
    if (held->packet) {
        uint32_t i = 0;
        while (emu->held[i] != held)
            i++;
        memmove(emu->held + i, emu->held + i + 1, (emu->held_n - i - 1) * sizeof *emu->held);
        emu->held_n--;
        come_out(emu, held->packet);
        held->packet = NULL;
    }
    if (--held->events == 0)
        free(held);
}

/* ---- the way through ----------------------------------------------------------------------------- */

/* Let the packet in front of the line go, and so on while the queue management drops them. */
static void serve(struct rk_emu *emu)
{
    emu->serving = false;
    while (emu->line_first) {
        struct packet *packet = emu->line_first;
        emu->line_first = packet->next;
        if (!emu->line_first)
            emu->line_end = &emu->line_first;
        emu->line_n--;
        emu->waiting_octets -= packet->size;
        if (!heed(emu, leave(emu, emu->now_ns - packet->time_ns), packet))
            continue;
        int64_t end_ns = is_infinitely_fast(emu) ? emu->now_ns : finish(emu, emu->now_ns, packet);
        if (end_ns == FOREVER) {
            lose(emu, packet, RK_EMU_SUSPENDED);
            return;
        }
        emu->serving = true;
        propagate(emu, end_ns, packet);
        if (!at(emu, end_ns, SERVE, NULL, NULL))
            emu->serving = false;
        return;
    }
}

static void join_line(struct rk_emu *emu, struct packet *packet)
{
    if (!heed(emu, arrive(emu, packet, emu->line_n, emu->serving), packet))
        return;
    packet->time_ns = emu->now_ns;
    packet->next = NULL;
    *emu->line_end = packet;
    emu->line_end = &packet->next;
    emu->line_n++;
    emu->waiting_octets += packet->size;
    if (!emu->serving)
        serve(emu);
}

static void enter(struct rk_emu *emu, struct packet *packet)
{
    if (emu->spec.queue == RK_EMU_CODEL) {
        join_line(emu, packet);
        return;
    }
    int64_t start_ns = emu->busy_ns > emu->now_ns ? emu->busy_ns : emu->now_ns;
    if (!is_infinitely_fast(emu) && !admit(emu, packet, start_ns))
        return;
    int64_t end_ns = finish(emu, start_ns, packet);
    emu->busy_ns = end_ns;
    if (end_ns == FOREVER)
        lose(emu, packet, RK_EMU_SUSPENDED);
    else
        propagate(emu, end_ns, packet);
}

static void decide(struct rk_emu *emu, struct packet *packet)
{
    uint64_t number = emu->number++;
    if (packet->size > emu->spec.mtu) {
        lose(emu, packet, RK_EMU_TOO_LARGE);
        return;
    }
    struct fate fate = {0};
    bool fits = emu->spec.faults_n == 0 || follow_schedule(emu, packet, &fate);
    for (uint32_t i = 0; fits && fate.cause == 0 && i < emu->spec.models_n; i++)
        fits = judge(emu, i, packet, number, &fate);
    if (!fits)
        fate.cause = RK_EMU_NO_ROOM;
    if (fate.cause != 0) {
        lose(emu, packet, fate.cause);
        return;
    }
    for (uint32_t i = 0; i < fate.copies_n; i++) {
        struct packet *copy = copy_of(emu, packet);
        if (copy)
            schedule(emu, emu->now_ns + emu->copies[i], OFFER_COPY, copy);
        count(emu, copy ? RK_EMU_DUPLICATED : RK_EMU_NO_ROOM);
    }
    int cause = fate.flips_n > 0 ? damage(emu, packet, &fate) : 0;
    if (cause != 0) {
        lose(emu, packet, cause);
        return;
    }
    packet->late_ns = fate.late_ns;
    packet->behind = fate.behind;
    enter(emu, packet);
}

static void run_until(struct rk_emu *emu, int64_t time_ns)
{
    while (emu->heap_n > 0 && emu->heap[0].time_ns <= time_ns) {
        struct event event = pop(emu);
        if (event.time_ns > emu->now_ns)
            emu->now_ns = event.time_ns;
        switch (event.kind) {
        case DELIVER:
            come_out(emu, event.packet);
            break;
        case OFFER_COPY:
            enter(emu, event.packet);
            break;
        case SERVE:
            serve(emu);
            break;
        case RELEASE:
            release(emu, event.held);
            break;
        }
    }
}

int rk_emu_offer(struct rk_emu *emu, int64_t now_ns, const uint8_t *octets, uint32_t len)
{
    if (len < ETHERNET_LEN || len > MAX_LEN)
        return -EINVAL;
    if (now_ns < emu->now_ns)
        now_ns = emu->now_ns + 1; /* all that is due by then comes first */
    run_until(emu, now_ns - 1);
    emu->now_ns = now_ns;
    struct packet *packet = emu->under_way < emu->spec.capacity ? malloc(sizeof *packet + len) : NULL;
    if (!packet) {
        emu->number++;
        count(emu, RK_EMU_NO_ROOM);
        return -ENOBUFS;
    }
    *packet = (struct packet){.len = len};
    memcpy(packet->octets, octets, len);
    emu->under_way++;
    look(packet);
    if (packet->own)
        schedule(emu, emu->now_ns + delay_at(emu, emu->now_ns), DELIVER, packet);
    else
        decide(emu, packet);
    return 0;
}

int64_t rk_emu_next(const struct rk_emu *emu)
{
    return emu->heap_n > 0 ? emu->heap[0].time_ns : FOREVER;
}

uint32_t rk_emu_advance(struct rk_emu *emu, int64_t now_ns)
{
    run_until(emu, now_ns);
    return emu->out_n;
}

uint32_t rk_emu_peek(const struct rk_emu *emu, struct rk_emu_frame *out, uint32_t room)
{
    uint32_t n = 0;
    for (const struct packet *packet = emu->out_first; packet && n < room; packet = packet->next)
        out[n++] = (struct rk_emu_frame){.octets = packet->octets, .len = packet->len, .due_ns = packet->time_ns};
    return n;
}

void rk_emu_take(struct rk_emu *emu, uint32_t n)
{
    for (; n > 0 && emu->out_first; n--) {
        struct packet *packet = emu->out_first;
        emu->out_first = packet->next;
        if (!emu->out_first)
            emu->out_end = &emu->out_first;
        emu->out_n--;
        forget(emu, packet);
    }
}

void rk_emu_read(const struct rk_emu *emu, uint64_t counts[RK_EMU_CAUSES])
{
    for (int i = 0; i < RK_EMU_CAUSES; i++)
        counts[i] = atomic_load_explicit(&emu->counts[i], memory_order_relaxed);
}

/* ---- opening --------------------------------------------------------------------------------------- */

static bool is_share(double value)
{
    return value >= 0 && value <= 1; /* which a value that is no number is not */
}

static bool model_ok(const struct rk_emu_model *model)
{
    if (!is_share(model->p) || !is_share(model->r) || !is_share(model->h) || !is_share(model->k)
        || model->from_ns < 0)
        return false;
    switch (model->kind) {
    case RK_EMU_PERIODIC:
        return model->n >= 1;
    case RK_EMU_BURST:
        return model->m >= 1 && model->m <= model->n;
    case RK_EMU_REORDER:
        return model->n <= UINT32_MAX;
    case RK_EMU_CORRUPT:
        return model->r <= 0.5;
    default:
        return model->kind >= RK_EMU_BERNOULLI && model->kind <= RK_EMU_JITTER;
    }
}

static bool steps_ok(const struct rk_emu_step *steps, uint32_t n, int64_t least)
{
    for (uint32_t i = 0; i < n; i++)
        if (steps[i].at_ns < (i > 0 ? steps[i - 1].at_ns : 0) || steps[i].value < least)
            return false;
    return n == 0 || steps[0].at_ns == 0;
}

static bool spec_ok(const struct rk_emu_spec *spec)
{
    for (uint32_t i = 0; i < spec->models_n; i++)
        if (!model_ok(&spec->models[i]))
            return false;
    for (uint32_t i = 0; i < spec->faults_n; i++)
        if (spec->faults[i].by > RK_EMU_BY_TIME || spec->faults[i].action < RK_EMU_DROP
            || spec->faults[i].action > RK_EMU_FLIP)
            return false;
    int64_t last = 0;
    for (uint32_t i = 0; i < spec->opportunities_n; last = spec->opportunities_ms[i++])
        if (spec->opportunities_ms[i] < last)
            return false;
    if (spec->opportunities_n > 0 && last < 1)
        return false;
    if (spec->queue > RK_EMU_CODEL || (spec->queue != RK_EMU_DROP_TAIL && spec->limit < 0))
        return false;
    if (spec->rates_n == 1 && spec->rates[0].value < 1)
        return false;
    return spec->capacity >= 1 && spec->capacity <= MAX_CAPACITY && spec->frame_ns >= 0 && spec->jitter_ns >= 0
           && spec->target_ns >= 0 && spec->interval_ns >= 0 && spec->delays_n >= 1
           && steps_ok(spec->delays, spec->delays_n, 0) && steps_ok(spec->rates, spec->rates_n, -1);
}

static void *duplicate(const void *from, uint32_t n, size_t size)
{
    void *to = malloc(n > 0 ? n * size : 1);
    if (to && n > 0)
        memcpy(to, from, n * size);
    return to;
}

int rk_emu_open(struct rk_emu **out, const struct rk_emu_spec *spec)
{
    if (!spec_ok(spec))
        return -EINVAL;
    struct rk_emu *emu = calloc(1, sizeof *emu);
    if (!emu)
        return -ENOMEM;
    emu->spec = *spec;
    emu->models = duplicate(spec->models, spec->models_n, sizeof *spec->models);
    emu->faults = duplicate(spec->faults, spec->faults_n, sizeof *spec->faults);
    emu->rates = duplicate(spec->rates, spec->rates_n, sizeof *spec->rates);
    emu->delays = duplicate(spec->delays, spec->delays_n, sizeof *spec->delays);
    emu->opportunities = duplicate(spec->opportunities_ms, spec->opportunities_n, sizeof *spec->opportunities_ms);
    emu->bad = calloc(spec->models_n + 1, sizeof *emu->bad);
    emu->numbers = calloc(spec->models_n + 1, sizeof *emu->numbers);
    bool fits = emu->models && emu->faults && emu->rates && emu->delays && emu->opportunities && emu->bad
                && emu->numbers;
    for (uint32_t i = 0; fits && i < spec->models_n; i++) {
        const struct rk_emu_model *model = &spec->models[i];
        emu->numbers[i] = duplicate(model->numbers, model->numbers_n, sizeof *model->numbers);
        emu->models[i].numbers = emu->numbers[i];
        fits = emu->numbers[i] != NULL;
    }
    emu->line_end = &emu->line_first;
    emu->out_end = &emu->out_first;
    emu->count = &emu->both_count;
    emu->since = -1;
    emu->serial_end_ns = -1;
    if (!fits) {
        rk_emu_close(emu);
        return -ENOMEM;
    }
    *out = emu;
    return 0;
}

void rk_emu_pair(struct rk_emu *one, struct rk_emu *other)
{
    other->count = &one->both_count;
}

void rk_emu_close(struct rk_emu *emu)
{
    if (!emu)
        return;
    while (emu->heap_n > 0) {
        struct event event = pop(emu);
        free(event.packet);
        if (event.held && --event.held->events == 0) {
            free(event.held->packet);
            free(event.held);
        }
    }
    while (emu->line_first) {
        struct packet *packet = emu->line_first;
        emu->line_first = packet->next;
        free(packet);
    }
    rk_emu_take(emu, UINT32_MAX);
    for (uint32_t i = 0; emu->numbers && i < emu->spec.models_n; i++)
        free(emu->numbers[i]);
    free(emu->numbers);
    free(emu->models);
    free(emu->faults);
    free(emu->rates);
    free(emu->delays);
    free(emu->opportunities);
    free(emu->bad);
    free(emu->heap);
    free(emu->turns);
    free(emu->held);
    free(emu->copies);
    free(emu->flips);
    free(emu);
}
