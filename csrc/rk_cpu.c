/* Which variant of the checksum functions runs: the best that this processor has, chosen at load. */
#include <errno.h>

#include "rk.h"
#include "rk_internal.h"

static const struct rk_cpu_functions levels[] = {
    [RK_CPU_PORTABLE] = {rk_sum_portable, rk_crc32c_portable},
#ifdef __x86_64__
    [RK_CPU_SSE42] = {rk_sum_portable, rk_crc32c_sse42},
    [RK_CPU_AVX2] = {rk_sum_avx2, rk_crc32c_sse42},
#endif
};

const struct rk_cpu_functions *rk_cpu = &levels[RK_CPU_PORTABLE];

/* Levels are inclusive: a processor counts as AVX2 only if it has the CRC32c instruction too. */
static int best_level(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2"))
        return __builtin_cpu_supports("avx2") ? RK_CPU_AVX2 : RK_CPU_SSE42;
#endif
    return RK_CPU_PORTABLE;
}

__attribute__((constructor)) static void choose_level(void)
{
    rk_cpu = &levels[best_level()];
}

int rk_cpu_level(void)
{
    return (int)(rk_cpu - levels);
}

int rk_cpu_set_level(int level)
{
    if (level < RK_CPU_PORTABLE || level > best_level())
        return -ENOTSUP;
    rk_cpu = &levels[level];
    return 0;
}
