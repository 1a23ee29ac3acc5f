/* Any octets as a filter program, run over any octets as frames: refused or answered, and nothing is read
 * outside the arena. The interpreter is libpcap's and not instrumented, so the arena ends where a page does. It
 * would follow a jump backwards for ever; libpcap's own programs with one end with the packet (rk.h).
 *
 * Expressions are not fuzzed here: libpcap has targets for its compiler, and would look up names it finds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "rk.h"

#define INSNS 64
#define ARENA_LEN 4096

static struct rk_pcaplib *lib;
static uint8_t *arena_end;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    static const char *const names[] = {"libpcap.so.1", "libpcap.so.0.8", "libpcap.so"};
    for (int i = 0; i < 3 && !lib; i++)
        rk_pcaplib_open(&lib, names[i]);
    uint8_t *pages = mmap(NULL, 2 * ARENA_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!lib || pages == MAP_FAILED || mprotect(pages + ARENA_LEN, ARENA_LEN, PROT_NONE) != 0) {
        fputs("fuzz_filter: needs libpcap\n", stderr);
        exit(77); /* skipped, to meson */
    }
    arena_end = pages + ARENA_LEN;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint32_t insns_n = data[0] % (INSNS + 1);
    data++, size--;
    if (size < insns_n * sizeof(struct rk_insn))
        return 0;
    struct rk_insn *insns = malloc(insns_n * sizeof *insns + 1);
    memcpy(insns, data, insns_n * sizeof *insns);
    data += insns_n * sizeof *insns, size -= insns_n * sizeof *insns;
    for (uint32_t i = 0; i < insns_n; i++)
        if (insns[i].code == 0x05 && insns[i].k >= insns_n) /* jump always, as a 32-bit sum: backwards */
            insns[i].k %= insns_n;
    uint32_t len = size < ARENA_LEN ? (uint32_t)size : ARENA_LEN;
    uint8_t *arena = arena_end - len;
    memcpy(arena, data, len);
    /* Whole, cut short, empty, and claiming to have been longer. */
    struct rk_frame frames[] = {
        {.cap_len = len, .wire_len = len},
        {.cap_len = len / 2, .wire_len = len},
        {.offset = len},
        {.offset = len - len / 2, .cap_len = len / 2, .wire_len = UINT32_MAX},
    };
    struct rk_batch batch = {.arena = arena, .frames = frames, .arena_len = len, .capacity = 4, .n = 4};
    uint8_t *keep = malloc(4);
    int matched = rk_filter_run(lib, insns, insns_n, &batch, 0, 4, keep);
    if (matched >= 0 && matched != keep[0] + keep[1] + keep[2] + keep[3])
        abort();
    /* Again, with what does not match thrown out and the rest cut to what the program returns. The outcome may
     * differ: programs may read scratch memory that they never wrote. */
    int left = rk_filter_sift(lib, insns, insns_n, &batch, 0);
    if ((left < 0) != (matched < 0) || (left >= 0 && batch.n != (uint32_t)left))
        abort();
    for (uint32_t i = 0; left > 0 && i < batch.n; i++)
        if (frames[i].cap_len > len || frames[i].offset > len - frames[i].cap_len)
            abort();
    free(keep);
    free(insns);
    return 0;
}
