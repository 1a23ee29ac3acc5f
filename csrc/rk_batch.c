/* Batches: an arena of octets and one record per frame, the only thing that moves many frames between
 * the engine and its callers. */
#include "rk.h"
#include "rk_internal.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct rk_frame) == 40, "Python reads the records with this layout");

int rk_batch_append(struct rk_batch *batch, const uint8_t *octets, size_t octets_len,
                    const uint32_t *lens, uint32_t n, int64_t time_ns)
{
    size_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (lens[i] > octets_len - total)
            return -EINVAL;
        total += lens[i];
    }
    if (total != octets_len)
        return -EINVAL;
    if (batch->n > batch->capacity || batch->arena_used > batch->arena_len)
        return -EINVAL;
    if (n > batch->capacity - batch->n || octets_len > batch->arena_len - batch->arena_used)
        return -ENOSPC;

    if (octets_len > 0)
        memcpy(batch->arena + batch->arena_used, octets, octets_len);
    for (uint32_t i = 0; i < n; i++) {
        batch->frames[batch->n++] = (struct rk_frame){
            .time_ns = time_ns,
            .offset = batch->arena_used,
            .cap_len = lens[i],
            .wire_len = lens[i],
        };
        batch->arena_used += lens[i];
    }
    return 0;
}

int64_t rk_batch_odd(const struct rk_batch *batch, uint32_t first, uint32_t n, uint32_t least, uint32_t most)
{
    if (!rk_range_ok(first, n, batch->n))
        return -EINVAL;
    uint32_t row = first;
    for (; row < first + n; row++) {
        const struct rk_frame *frame = &batch->frames[row];
        if (frame->cap_len != frame->wire_len || frame->cap_len < least || frame->cap_len > most)
            break;
    }
    return row;
}

int64_t rk_batch_octets(const struct rk_batch *batch, uint32_t first, uint32_t n)
{
    if (!rk_range_ok(first, n, batch->n))
        return -EINVAL;
    int64_t octets = 0;
    for (uint32_t row = first; row < first + n; row++)
        octets += batch->frames[row].cap_len;
    return octets;
}

/* The rest whose next frame has the earliest time, until_ns at the latest; NULL when there is none. */
static struct rk_batch_rest *earliest(struct rk_batch_rest *rests, uint32_t rests_n, int64_t until_ns)
{
    struct rk_batch_rest *found = NULL;
    for (uint32_t i = 0; i < rests_n; i++) {
        if (rests[i].at >= rests[i].batch->n)
            continue;
        int64_t time_ns = rests[i].batch->frames[rests[i].at].time_ns;
        if (found ? time_ns < until_ns : time_ns <= until_ns) {
            found = &rests[i];
            until_ns = time_ns;
        }
    }
    return found;
}

int rk_batch_merge(struct rk_batch *batch, struct rk_batch_rest *rests, uint32_t rests_n, int64_t until_ns,
                   uint32_t n)
{
    if (batch->n > batch->capacity || batch->arena_used > batch->arena_len)
        return -EINVAL;
    for (uint32_t i = 0; i < rests_n; i++)
        if (rests[i].at > rests[i].batch->n)
            return -EINVAL;
    uint32_t done = 0;
    for (bool last = false; done < n && !last; done++) {
        struct rk_batch_rest *rest = earliest(rests, rests_n, until_ns);
        if (!rest)
            break;
        const struct rk_frame *frame = &rest->batch->frames[rest->at];
        if (!rk_range_ok(frame->offset, frame->cap_len, rest->batch->arena_len))
            return -EINVAL;
        if (batch->n == batch->capacity || frame->cap_len > batch->arena_len - batch->arena_used) {
            if (done == 0)
                return -ENOSPC;
            break;
        }
        memcpy(batch->arena + batch->arena_used, rest->batch->arena + frame->offset, frame->cap_len);
        batch->frames[batch->n] = *frame;
        batch->frames[batch->n++].offset = batch->arena_used;
        batch->arena_used += frame->cap_len;
        last = ++rest->at == rest->batch->n;
    }
    return (int)done;
}

int rk_batch_within(const struct rk_batch *batch, int64_t from_ns, int64_t until_ns, uint8_t *keep)
{
    int n = 0;
    for (uint32_t i = 0; i < batch->n; i++) {
        int64_t time_ns = batch->frames[i].time_ns;
        keep[i] = keep[i] && time_ns >= from_ns && time_ns < until_ns;
        n += keep[i];
    }
    return n;
}

static void tally(struct rk_tally *tally, const struct rk_frame *frame)
{
    if (tally->packets == 0) {
        tally->first_ns = tally->earliest_ns = tally->latest_ns = frame->time_ns;
        tally->shortest = frame->cap_len;
    } else if (frame->time_ns < tally->last_ns) {
        tally->backwards++;
    }
    tally->packets++;
    tally->octets += frame->cap_len;
    tally->wire_octets += frame->wire_len;
    tally->cut += frame->cap_len < frame->wire_len;
    tally->last_ns = frame->time_ns;
    if (frame->time_ns < tally->earliest_ns)
        tally->earliest_ns = frame->time_ns;
    if (frame->time_ns > tally->latest_ns)
        tally->latest_ns = frame->time_ns;
    if (frame->cap_len < tally->shortest)
        tally->shortest = frame->cap_len;
    if (frame->cap_len > tally->longest)
        tally->longest = frame->cap_len;
}

void rk_batch_tally(const struct rk_batch *batch, struct rk_tally *tallies, uint32_t tallies_n)
{
    for (uint32_t i = 0; i < batch->n; i++) {
        const struct rk_frame *frame = &batch->frames[i];
        tally(&tallies[0], frame);
        if (frame->ifindex > 0 && (uint32_t)frame->ifindex < tallies_n)
            tally(&tallies[frame->ifindex], frame);
    }
}

uint32_t rk_batch_rates(const struct rk_batch *batch, uint32_t first, int64_t start_ns, int64_t interval_ns,
                        struct rk_interval *rates, uint32_t rates_n)
{
    for (uint32_t i = first; i < batch->n; i++) {
        const struct rk_frame *frame = &batch->frames[i];
        int64_t since;
        if (interval_ns < 1 || frame->time_ns < start_ns || __builtin_sub_overflow(frame->time_ns, start_ns, &since) ||
            since / interval_ns >= rates_n)
            return i;
        struct rk_interval *rate = &rates[since / interval_ns];
        rate->packets++;
        rate->octets += frame->wire_len;
    }
    return batch->n;
}
