#include "rk.h"
int rk_pcaplib_open(struct rk_pcaplib **out, const char *path){ return (int)-38; }
void rk_pcaplib_close(struct rk_pcaplib *lib){}
const char *rk_pcaplib_version(const struct rk_pcaplib *lib){ return 0; }
int rk_filter_compile(const struct rk_pcaplib *lib, const char *expression, int linktype, int snaplen,
                      struct rk_insn *insns, uint32_t insns_n, char *error, size_t error_len){ return (int)-38; }
int rk_filter_run(const struct rk_pcaplib *lib, const struct rk_insn *insns, uint32_t insns_n,
                  const struct rk_batch *batch, uint32_t first, uint32_t n, uint8_t *keep){ return (int)-38; }
