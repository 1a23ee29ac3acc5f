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
#include "rk_emu.h"

#include "rk_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    ETHERNET_LEN = 14,
    TAG_LEN = 4,
    IPV6_LEN = 40,
    MAX_LEN = 1 << 18, /* of a frame */
    MAX_CAPACITY = 1 << 22,
};
static const int64_t HOLD_NS = 100000000; /* how long what others are to overtake waits for them */

/* ---- memory --------------------------------------------------------------------------------------- */

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
    if (!rk_emu_grow(&emu->heap, &emu->heap_room, emu->heap_n, sizeof *emu->heap))
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

/* ---- queue ------------------------------------------------------------------------------------------ */

/* Whether the packet goes on after the queue's verdict; else it is gone. */
static bool heed(struct rk_emu *emu, enum rk_emu_said said, struct packet *packet)
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
    if (!heed(emu, rk_emu_arrive(emu, packet, emu->turns_n, start_ns - emu->now_ns), packet))
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
    if (!held || !rk_emu_grow(&emu->held, &emu->held_room, emu->held_n, sizeof *emu->held)
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
            arrives += (int64_t)rk_emu_share(rk_emu_draw(emu->spec.jitter_key, ++emu->jittered),
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
        if (!heed(emu, rk_emu_leave(emu, emu->now_ns - packet->time_ns), packet))
            continue;
        int64_t end_ns = rk_emu_is_infinitely_fast(emu) ? emu->now_ns : rk_emu_finish(emu, emu->now_ns, packet);
        if (end_ns == RK_EMU_FOREVER) {
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
    if (!heed(emu, rk_emu_arrive(emu, packet, emu->line_n, emu->serving), packet))
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
    if (!rk_emu_is_infinitely_fast(emu) && !admit(emu, packet, start_ns))
        return;
    int64_t end_ns = rk_emu_finish(emu, start_ns, packet);
    emu->busy_ns = end_ns;
    if (end_ns == RK_EMU_FOREVER)
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
    if (!rk_emu_judge(emu, packet, number, &fate))
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
    return emu->heap_n > 0 ? emu->heap[0].time_ns : RK_EMU_FOREVER;
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

static bool fault_ok(const struct rk_emu_fault *fault, const struct rk_emu_fault *before)
{
    if (before && (fault->by < before->by || (fault->by == before->by && fault->n < before->n)))
        return false;
    return fault->by <= RK_EMU_BY_TIME && fault->action >= RK_EMU_DROP && fault->action <= RK_EMU_FLIP
           && (fault->action != RK_EMU_SWAP || fault->amount <= UINT32_MAX);
}

static bool spec_ok(const struct rk_emu_spec *spec)
{
    for (uint32_t i = 0; i < spec->models_n; i++)
        if (!model_ok(&spec->models[i]))
            return false;
    for (uint32_t i = 0; i < spec->faults_n; i++)
        if (!fault_ok(&spec->faults[i], i > 0 ? &spec->faults[i - 1] : NULL))
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
    for (uint32_t by = RK_EMU_BY_BOTH, i = 0; by <= RK_EMU_BY_TIME; by++) {
        if (by < RK_EMU_BY_TIME)
            emu->next_fault[by] = i;
        while (i < spec->faults_n && spec->faults[i].by == by)
            i++;
        emu->faults_end[by] = i;
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
