/* How long packets are on the wire of an emulated link, and what its queue says to them: rawkit/sim/rates.py and
 * queues.py. */
#include "rk_emu.h"

#include <math.h>

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 i128;

enum { OCTETS_MAHIMAHI = 1500 }; /* of an opportunity in a delivery trace */
static const uint64_t PER_OCTET = 8000000000u; /* bits per second times nanoseconds */
static const int64_t MS = 1000000;

/* ---- serializer ---------------------------------------------------------------------------------- */

bool rk_emu_is_infinitely_fast(const struct rk_emu *emu)
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
        int64_t until = i + 1 < n ? emu->rates[i + 1].at_ns : RK_EMU_FOREVER;
        if (rate < 0)
            return time_ns; /* infinitely fast */
        if (todo <= (i128)(until - time_ns) * rate)
            return todo == 0 ? time_ns : time_ns + (int64_t)((todo + rate - 1) / rate);
        if (until == RK_EMU_FOREVER)
            return RK_EMU_FOREVER; /* suspended for good */
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

int64_t rk_emu_finish(struct rk_emu *emu, int64_t start_ns, const struct packet *packet)
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

static enum rk_emu_said red(struct rk_emu *emu, uint64_t packets)
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
    if (rk_emu_chance(spec->queue_key, emu->queued) >= probability)
        return TAKE;
    emu->since = 0;
    return emu->average < spec->high ? MARK : EARLY;
}

enum rk_emu_said rk_emu_arrive(struct rk_emu *emu, const struct packet *packet, uint64_t packets, int64_t wait_ns)
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

enum rk_emu_said rk_emu_leave(struct rk_emu *emu, int64_t sojourn_ns)
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
