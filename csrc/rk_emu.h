/* rk_emu.h: an emulated direction from inside: what its parts (fates, queues, the way through) share. */
#ifndef RK_EMU_H
#define RK_EMU_H

#include "rk.h"

#include <stdatomic.h>
#include <stdbool.h>

#define RK_EMU_FOREVER INT64_MAX

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
    uint32_t faults_end[3], next_fault[2]; /* of each kind of `by`; the first whose packet may be still to come */
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

enum rk_emu_said { TAKE, DROP, EARLY, MARK };

/* ---- rk_emu_fate.c ------------------------------------------------------------------------------- */

/* 64 random bits at a position of the stream `key`; a number in 0 <= x < 1; one in 0 .. n - 1. */
uint64_t rk_emu_draw(uint64_t key, uint64_t position);
double rk_emu_chance(uint64_t key, uint64_t position);
uint64_t rk_emu_share(uint64_t bits, uint64_t n);
/* Room for one more in an array (a pointer to it) of elements of `size` octets; false when there is none. */
bool rk_emu_grow(void *array, uint32_t *room, uint32_t n, size_t size);
/* What schedule and models say of the packet that is the number-th here; false without memory. */
bool rk_emu_judge(struct rk_emu *emu, const struct packet *packet, uint64_t number, struct fate *fate);

/* ---- rk_emu_queue.c ------------------------------------------------------------------------------ */

bool rk_emu_is_infinitely_fast(const struct rk_emu *emu);
/* When a packet has left whose turn comes at start_ns; RK_EMU_FOREVER where the link is suspended for good. */
int64_t rk_emu_finish(struct rk_emu *emu, int64_t start_ns, const struct packet *packet);
/* What the queue says to a packet that finds so many waiting, and would wait so long. */
enum rk_emu_said rk_emu_arrive(struct rk_emu *emu, const struct packet *packet, uint64_t packets, int64_t wait_ns);
/* What CoDel says to a packet whose turn has come. */
enum rk_emu_said rk_emu_leave(struct rk_emu *emu, int64_t sojourn_ns);

#endif
