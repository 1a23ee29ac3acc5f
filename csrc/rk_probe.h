/* rk_probe.h: how boards make probes and find their places; see rk_probe.c. */
#ifndef RK_PROBE_H
#define RK_PROBE_H

#include "rk.h"

#include <stdbool.h>

#define RK_MAC_LEN 6

/* What is worked out once for many probes of a plan. */
struct rk_probe_writer {
    uint64_t probes_n;
    uint64_t frame_len;
    uint32_t header_len; /* of IP */
    uint32_t addr_len;
    uint32_t dst_at;
    uint32_t length_at;
    uint32_t ip_base; /* sums of what all probes have in common */
    uint32_t upper_base;
    uint32_t port_at; /* of the header after IP, as the following */
    uint32_t checksum_at;
    uint32_t cookie_at;
    uint32_t cookie_len;
    uint16_t length;
    uint16_t sport;
    bool pseudo; /* the upper checksum covers the addresses */
};

/* A probe's target. */
struct rk_probe_place {
    uint64_t address_i;
    uint8_t address[16];
    uint16_t port;
};

/* 0, or -EINVAL for a plan whose parts do not fit. */
int rk_probe_prepare(const struct rk_probe_plan *plan, struct rk_probe_writer *writer);
/* How many of n probes an empty batch takes. */
uint32_t rk_probe_room(const struct rk_probe_writer *writer, const struct rk_batch *batch, uint32_t n);
/* The target of the probe at a position, which is inside the plan. */
void rk_probe_find_target(const struct rk_probe_plan *plan, uint32_t addr_len, uint64_t position,
                          struct rk_probe_place *out);
/* The reverse; false for what is no target of the plan. */
bool rk_probe_find_position(const struct rk_probe_plan *plan, uint32_t addr_len, const uint8_t *address,
                            uint16_t port, uint64_t *position);
/* Append a probe to a batch that has room for it. */
void rk_probe_write(const struct rk_probe_plan *plan, const struct rk_probe_writer *writer,
                    const struct rk_probe_place *target, struct rk_batch *batch);

/* Boards (rk_board.c). 0, or -EINVAL for a board outside its plan, or a plan as above. */
int rk_board_prepare(const struct rk_probe_plan *plan, const struct rk_board *board, struct rk_probe_writer *writer);
/* Find the next n unanswered rows from the cursor on, which moves behind them. Returns how many there were. */
uint32_t rk_board_claim(const struct rk_board *board, uint32_t *cursor, uint32_t n, uint32_t *rows);
/* Append the probes of n rows to a batch that has room for them. Rows without next hop are moved behind the others.
 * Returns how many others there are. Changes nothing of the board: no answer can make a row another target's. */
uint32_t rk_board_write(const struct rk_probe_plan *plan, const struct rk_probe_writer *writer,
                        const struct rk_board *board, uint32_t *rows, uint32_t n, struct rk_batch *batch);
/* n rows, unanswered until now, become RK_BOARD_ABSENT. */
void rk_board_absent(struct rk_board *board, const uint32_t *rows, uint32_t n);
/* The probes of n rows were sent, or are about to be. */
void rk_board_sent(struct rk_board *board, const uint32_t *rows, uint32_t n, int64_t now_ns);
/* Mark the row that a reply answers. Returns 1 for its first answer; 0 for a further one, or one of a state whose bit
 * (1 << RK_PROBE_...) is set in `counted`, which are counted; -ENOENT when it is no answer to a row. */
int rk_board_take(const struct rk_probe_plan *plan, struct rk_board *board, uint32_t addr_len,
                  const struct rk_probe_reply *reply, uint32_t counted, uint32_t *row);

#endif
