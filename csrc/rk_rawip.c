#include "rk.h"
int rk_rawip_open(struct rk_rawip **out, int family, int protocol, uint32_t flags, int ifindex,
                  const struct rk_insn *insns, uint32_t insns_n, uint32_t buffer_len){ return (int)-38; }
void rk_rawip_close(struct rk_rawip *sock){}
int rk_rawip_fd(const struct rk_rawip *sock){ return (int)-38; }
int rk_rawip_send(struct rk_rawip *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                  int64_t deadline_ns){ return (int)-38; }
int rk_rawip_receive(struct rk_rawip *sock, struct rk_batch *batch, int64_t deadline_ns){ return (int)-38; }
int rk_rawip_counters(struct rk_rawip *sock, struct rk_counters *out){ return (int)-38; }
int rk_rawip_icmp_id(const struct rk_rawip *sock){ return (int)-38; }
