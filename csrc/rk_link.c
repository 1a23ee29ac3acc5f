#include "rk.h"
int rk_link_open(struct rk_link **out, int ifindex_a, int ifindex_b,
                 const struct rk_link_direction directions[2]){ return (int)-38; }
void rk_link_close(struct rk_link *link){}
int rk_link_run(struct rk_link *link){ return (int)-38; }
void rk_link_stop(struct rk_link *link){}
void rk_link_read(const struct rk_link *link, struct rk_link_counters out[2]){}
