/* Filters: tcpdump expressions, compiled by libpcap to classic BPF (pcap-filter(7)), and run over batches.
 *
 * libpcap is loaded when a filter is wanted and only its compiler, checker and interpreter are used, so
 * any version from the last twenty years does and no header of it is needed. */
#define _GNU_SOURCE
#include "rk.h"

#include "rk_internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define NETMASK_UNKNOWN 0xffffffffu

_Static_assert(sizeof(struct rk_insn) == 8, "libpcap's struct bpf_insn and the kernel's sock_filter");

struct bpf_program { /* pcap/bpf.h */
    unsigned n;
    struct rk_insn *insns;
};

struct rk_pcaplib {
    void *library;
    void *(*open_dead)(int linktype, int snaplen);
    void (*close)(void *handle);
    char *(*geterr)(void *handle);
    int (*compile)(void *handle, struct bpf_program *program, const char *expression, int optimize,
                   uint32_t netmask);
    void (*freecode)(struct bpf_program *program);
    const char *(*lib_version)(void);
    int (*validate)(const struct rk_insn *insns, int n);
    unsigned (*filter)(const struct rk_insn *insns, const uint8_t *octets, unsigned wire_len, unsigned cap_len);
    char *(*image)(const struct rk_insn *insn, int n);
};

/* The compiler before 1.8, and the printer of instructions, keep their state in variables of the library,
 * shared by all who load it. */
static pthread_mutex_t compiler_lock = PTHREAD_MUTEX_INITIALIZER;

int rk_pcaplib_open(struct rk_pcaplib **out, const char *path)
{
    struct rk_pcaplib *lib = calloc(1, sizeof *lib);
    if (!lib)
        return -ENOMEM;
    lib->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct {
        void *function; /* a pointer to a member of lib */
        const char *name;
    } wanted[] = {
        {&lib->open_dead, "pcap_open_dead"}, {&lib->close, "pcap_close"},
        {&lib->geterr, "pcap_geterr"},       {&lib->compile, "pcap_compile"},
        {&lib->freecode, "pcap_freecode"},   {&lib->lib_version, "pcap_lib_version"},
        {&lib->validate, "bpf_validate"},    {&lib->filter, "bpf_filter"},
        {&lib->image, "bpf_image"},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        void *symbol = lib->library ? dlsym(lib->library, wanted[i].name) : NULL;
        if (!symbol) {
            rk_pcaplib_close(lib);
            return -ENOENT;
        }
        memcpy(wanted[i].function, &symbol, sizeof symbol); /* ISO C has no cast for this; dlsym(3) */
    }
    *out = lib;
    return 0;
}

void rk_pcaplib_close(struct rk_pcaplib *lib)
{
    if (lib && lib->library)
        dlclose(lib->library);
    free(lib);
}

const char *rk_pcaplib_version(const struct rk_pcaplib *lib)
{
    return lib->lib_version();
}

/* libpcap numbers a few link types differently inside (DLT_) than in files (LINKTYPE_). */
static int dlt_of(int linktype)
{
    switch (linktype) {
    case 100: /* ATM_RFC1483 */
        return 11;
    case 101: /* RAW */
        return 12;
    default:
        return linktype;
    }
}

int rk_filter_compile(const struct rk_pcaplib *lib, const char *expression, int linktype, int snaplen,
                      struct rk_insn *insns, uint32_t insns_n, char *error, size_t error_len)
{
    void *handle = lib->open_dead(dlt_of(linktype), snaplen);
    if (!handle)
        return -ENOMEM;
    struct bpf_program program = {0};
    int result;
    pthread_mutex_lock(&compiler_lock);
    if (lib->compile(handle, &program, expression, 1, NETMASK_UNKNOWN) != 0) {
        if (error_len > 0)
            snprintf(error, error_len, "%s", lib->geterr(handle));
        result = -EINVAL;
    } else {
        result = -ENOSPC;
        if (program.n <= insns_n) {
            memcpy(insns, program.insns, program.n * sizeof *insns);
            result = (int)program.n;
        }
        lib->freecode(&program);
    }
    pthread_mutex_unlock(&compiler_lock);
    lib->close(handle);
    return result;
}

/* Whether libpcap's interpreter knows all instructions: its checker passes some at which it aborts. */
static bool codes_ok(const struct rk_insn *insns, uint32_t insns_n)
{
    static const uint8_t known[] = {
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14, 0x15, 0x16, 0x1c, 0x1d, 0x20, 0x24, 0x25,
        0x28, 0x2c, 0x2d, 0x30, 0x34, 0x35, 0x3c, 0x3d, 0x40, 0x44, 0x45, 0x48, 0x4c, 0x4d, 0x50, 0x54, 0x5c,
        0x60, 0x61, 0x64, 0x6c, 0x74, 0x7c, 0x80, 0x81, 0x84, 0x87, 0x94, 0x9c, 0xa4, 0xac, 0xb1,
    };
    for (uint32_t i = 0; i < insns_n; i++)
        if (insns[i].code > 0xff || !memchr(known, insns[i].code, sizeof known))
            return false;
    return true;
}

/* Whether the program may run and frames [first, first + n) lie where their records say. */
static bool may_run(const struct rk_pcaplib *lib, const struct rk_insn *insns, uint32_t insns_n,
                    const struct rk_batch *batch, uint32_t first, uint32_t n)
{
    if (!rk_range_ok(first, n, batch->n) || insns_n > INT32_MAX || !codes_ok(insns, insns_n) ||
        !lib->validate(insns, (int)insns_n))
        return false;
    for (uint32_t i = first; i < first + n; i++)
        if (!rk_range_ok(batch->frames[i].offset, batch->frames[i].cap_len, batch->arena_len))
            return false;
    return true;
}

/* How many octets of a frame the program wants, 0 for none of it. */
static uint32_t judge(const struct rk_pcaplib *lib, const struct rk_insn *insns,
                      const struct rk_batch *batch, const struct rk_frame *frame)
{
    return lib->filter(insns, batch->arena + frame->offset, frame->wire_len, frame->cap_len);
}

int rk_filter_run(const struct rk_pcaplib *lib, const struct rk_insn *insns, uint32_t insns_n,
                  const struct rk_batch *batch, uint32_t first, uint32_t n, uint8_t *keep)
{
    if (!may_run(lib, insns, insns_n, batch, first, n))
        return -EINVAL;
    int matched = 0;
    for (uint32_t i = 0; i < n; i++) {
        keep[i] = judge(lib, insns, batch, &batch->frames[first + i]) != 0;
        matched += keep[i];
    }
    return matched;
}

int rk_filter_sift(const struct rk_pcaplib *lib, const struct rk_insn *insns, uint32_t insns_n,
                   struct rk_batch *batch, uint32_t flags)
{
    uint32_t any = 0;
    for (uint32_t i = 0; i < batch->n; i++)
        any |= batch->frames[i].flags;
    if (flags != 0 && !(any & flags))
        return (int)batch->n;
    if (!may_run(lib, insns, insns_n, batch, 0, batch->n))
        return -EINVAL;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < batch->n; i++) {
        struct rk_frame frame = batch->frames[i];
        if (flags == 0 || frame.flags & flags) {
            uint32_t wanted = judge(lib, insns, batch, &frame);
            if (wanted == 0)
                continue;
            if (wanted < frame.cap_len)
                frame.cap_len = wanted;
        }
        batch->frames[kept++] = frame;
    }
    batch->n = kept;
    return (int)kept;
}

int rk_filter_image(const struct rk_pcaplib *lib, const struct rk_insn *insns, uint32_t insns_n, uint32_t i,
                    char *text, size_t text_len)
{
    if (i >= insns_n || text_len == 0 || !codes_ok(insns + i, 1))
        return -EINVAL;
    pthread_mutex_lock(&compiler_lock); /* it writes to one place for all callers */
    snprintf(text, text_len, "%s", lib->image(&insns[i], (int)i));
    pthread_mutex_unlock(&compiler_lock);
    return 0;
}
