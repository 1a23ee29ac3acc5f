#include "rk.h"
int64_t rk_monotonic_ns(void){ return (int64_t)-38; }
int64_t rk_realtime_ns(void){ return (int64_t)-38; }
int rk_pace_wait(int64_t due_ns, int64_t spin_ns){ return (int)-38; }
int rk_pace_send(struct rk_packet *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                 const int64_t *due_ns, int64_t *sent_ns, int64_t spin_ns, int64_t deadline_ns){ return (int)-38; }
