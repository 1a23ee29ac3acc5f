#include "rk.h"
int rk_batch_append(struct rk_batch *batch, const uint8_t *octets, size_t octets_len,
                    const uint32_t *lens, uint32_t n, int64_t time_ns){ return (int)-38; }
