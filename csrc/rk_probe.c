#include "rk.h"
int rk_probe_fill(const struct rk_probe_plan *plan, struct rk_batch *batch, uint64_t index, uint32_t n){ return (int)-38; }
int rk_probe_match(const struct rk_probe_plan *plan, const struct rk_batch *batch, uint32_t link_skip,
                   uint32_t first, struct rk_probe_reply *replies, uint32_t replies_n, uint32_t *next){ return (int)-38; }
