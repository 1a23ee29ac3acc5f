#include "rk.h"
int rk_packet_open(struct rk_packet **out, int ifindex, uint16_t protocol, uint32_t flags,
                   const struct rk_insn *insns, uint32_t insns_n, uint32_t buffer_len){ return (int)-38; }
void rk_packet_close(struct rk_packet *sock){}
int rk_packet_fd(const struct rk_packet *sock){ return (int)-38; }
int rk_packet_send(struct rk_packet *sock, const struct rk_batch *batch, uint32_t first, uint32_t n,
                   int64_t deadline_ns){ return (int)-38; }
int rk_packet_receive(struct rk_packet *sock, struct rk_batch *batch, int64_t deadline_ns){ return (int)-38; }
int rk_packet_counters(struct rk_packet *sock, struct rk_counters *out){ return (int)-38; }
