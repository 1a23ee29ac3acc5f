/* XDP live frames: sending without a socket buffer for each frame.
 *
 * BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18; Documentation/bpf/bpf_prog_run.rst) runs an
 * XDP program over pages of the kernel's own and carries out what it returns.  The program here, 40 or so
 * instructions assembled below, takes the next frame from a map that is shared with this process, copies
 * it into the page, cuts the page to its length, and redirects it to the interface.
 *
 * The device sits in a device map and not in bpf_redirect(): that would look its number up in the network
 * namespace of whichever thread sends, the map holds the device itself and forgets it when it goes.
 *
 * The program is also attached to an interface, though not to this one: the loopback of a network namespace
 * made for it, where nothing ever arrives. The kernel calls XDP programs through a dispatcher, code that it
 * rewrites whenever a program comes or goes, and then waits for all processors. A test run of a program that
 * is attached nowhere does both, which took 28 ms a call (measured, Linux 6.18); of ours neither.
 *
 * What a driver does with redirected frames, the redirect does not tell.  Two tracepoints do: xdp_devmap_xmit how
 * many of a bulk the driver took and how many it refused, xdp_redirect_err that a frame was not even offered.
 * Programs there note that until the interface has shown that it takes frames. */
#define _GNU_SOURCE
#include "rk.h"

#include "rk_internal.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Frames of one system call, which costs some 15 us of its own, and room for their octets: few enough for the
 * processor's cache. */
#define ROWS 4096u
#define ARENA_LEN (512u << 10)
/* Frames in flight in one round of the kernel's loop.  A veth pair's ring has 256 places and loses frames
 * when it is filled in one go (measured); this is what its receiver empties at once. */
#define AT_ONCE 64
#define ETHERNET_LEN 14
#define TAG_LEN 4
#define HEADER_ROOM (ETHERNET_LEN + TAG_LEN) /* what the kernel allows above the MTU */

struct row {
    uint32_t offset;
    uint32_t len;
};

/* The value of the array map, seen by the program and by us. */
struct shared {
    uint32_t next;     /* row for the next run of the program */
    uint32_t page_len; /* octets of frame in a page before the program cuts it */
    uint64_t redirected;
    uint64_t taken, refused; /* of the redirected, while it is watched */
    uint64_t cpu; /* where frames are redirected, and nothing else before each was taken or refused */
    struct row rows[ROWS];
    uint8_t arena[ARENA_LEN];
};

struct rk_xdp {
    int ifindex;
    int socket; /* in the interface's namespace, for questions about it */
    int devices;
    int values;
    int program;
    int watching[2]; /* programs at tracepoints, or -1 */
    int attachment; /* of the program to the loopback of a namespace of its own, which ends with ... */
    int resident;   /* ... this socket, the only thing in there */
    struct shared *shared;
    uint8_t page[RK_XDP_FRAME_LEN]; /* what pages start as */
};

static int bpf(int command, union bpf_attr *attr)
{
    long result = syscall(SYS_bpf, command, attr, sizeof *attr);
    return result < 0 ? -errno : (int)result;
}

/* ---- the program ------------------------------------------------------------------------------ */

#define INSN(c, d, s, o, i) \
    ((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (int16_t)(o), .imm = (int32_t)(i)})
#define SET(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define COPY(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define ADD_NUMBER(d, i) INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define ADD(d, s) INSN(BPF_ALU64 | BPF_ADD | BPF_X, d, s, 0, 0)
#define SUBTRACT(d, s) INSN(BPF_ALU64 | BPF_SUB | BPF_X, d, s, 0, 0)
#define SHIFT_LEFT(d, i) INSN(BPF_ALU64 | BPF_LSH | BPF_K, d, 0, 0, i)
#define LOAD(size, d, s, o) INSN(BPF_LDX | BPF_MEM | (size), d, s, o, 0)
#define STORE(size, d, s, o) INSN(BPF_STX | BPF_MEM | (size), d, s, o, 0)
#define MAP(d, kind, fd) INSN(BPF_LD | BPF_DW | BPF_IMM, d, kind, 0, fd), INSN(0, 0, 0, 0, 0)
#define CALL(function) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, function)
#define END INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
/* Jumps whose distance load() fills in: to the last but one, which drops the frame, or over the next `over`. */
#define TO_DROP INT16_MAX
#define DROP_IF(op, d, i) INSN(BPF_JMP | (op) | BPF_K, d, 0, TO_DROP, i)
#define SKIP_IF(op, d, i, over) INSN(BPF_JMP | (op) | BPF_K, d, 0, over, i)

static int load(uint32_t type, const char *name, struct bpf_insn *insns, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (insns[i].off == TO_DROP)
            insns[i].off = (int16_t)(n - 2 - (i + 1));
    union bpf_attr attr = {
        .prog_type = type, .insn_cnt = n, .insns = (uintptr_t)insns, .license = (uintptr_t) "MIT"};
    memcpy(attr.prog_name, name, strlen(name));
    return bpf(BPF_PROG_LOAD, &attr);
}

static int load_program(const struct rk_xdp *xdp)
{
    struct bpf_insn insns[] = {
        /* r6: context; r7: the shared value; r8: row, then offset; r9: length.  All bounds are checked
         * here although rk_xdp_send keeps to them: the verifier wants to see it. */
        COPY(6, 1),
        MAP(7, BPF_PSEUDO_MAP_VALUE, xdp->values),
        LOAD(BPF_W, 8, 7, offsetof(struct shared, next)),
        SKIP_IF(BPF_JNE, 8, 0, 2),
        CALL(BPF_FUNC_get_smp_processor_id),
        STORE(BPF_DW, 7, 0, offsetof(struct shared, cpu)),
        COPY(1, 8),
        ADD_NUMBER(1, 1),
        STORE(BPF_W, 7, 1, offsetof(struct shared, next)),
        DROP_IF(BPF_JGE, 8, ROWS),
        SHIFT_LEFT(8, 3),
        ADD(8, 7),
        LOAD(BPF_W, 9, 8, offsetof(struct shared, rows) + offsetof(struct row, len)),
        LOAD(BPF_W, 8, 8, offsetof(struct shared, rows) + offsetof(struct row, offset)),
        DROP_IF(BPF_JLT, 9, ETHERNET_LEN),
        DROP_IF(BPF_JGT, 9, RK_XDP_FRAME_LEN),
        DROP_IF(BPF_JGT, 8, ARENA_LEN - RK_XDP_FRAME_LEN),
        LOAD(BPF_W, 3, 7, offsetof(struct shared, page_len)),
        COPY(2, 9),
        SUBTRACT(2, 3),
        SKIP_IF(BPF_JEQ, 2, 0, 3),
        COPY(1, 6),
        CALL(BPF_FUNC_xdp_adjust_tail),
        DROP_IF(BPF_JNE, 0, 0),
        /* A page comes back as the receiver left it, so every octet is written every time. */
        COPY(1, 6),
        SET(2, 0),
        COPY(3, 7),
        ADD(3, 8),
        ADD_NUMBER(3, offsetof(struct shared, arena)),
        COPY(4, 9),
        CALL(BPF_FUNC_xdp_store_bytes),
        DROP_IF(BPF_JNE, 0, 0),
        MAP(1, BPF_PSEUDO_MAP_FD, xdp->devices),
        SET(2, 0),
        SET(3, XDP_DROP), /* the answer when the device is gone */
        CALL(BPF_FUNC_redirect_map),
        SKIP_IF(BPF_JNE, 0, XDP_REDIRECT, 3),
        LOAD(BPF_DW, 1, 7, offsetof(struct shared, redirected)),
        ADD_NUMBER(1, 1),
        STORE(BPF_DW, 7, 1, offsetof(struct shared, redirected)),
        END,
        SET(0, XDP_DROP),
        END,
    };
    return load(BPF_PROG_TYPE_XDP, "rawkit_send", insns, sizeof insns / sizeof *insns);
}

/* A program for xdp_devmap_xmit(from_dev, to_dev, sent, drops, err), whose arguments are 8 octets each, or for
 * xdp_redirect_err, which is about one frame.  What happens on our processor while a frame is redirected and not yet
 * taken or refused happens to that frame: the kernel lets nothing come between there. */
static int load_watcher(const struct rk_xdp *xdp, int of_bulk)
{
    struct bpf_insn insns[] = {
        COPY(6, 1),
        MAP(7, BPF_PSEUDO_MAP_VALUE, xdp->values),
        LOAD(BPF_DW, 8, 7, offsetof(struct shared, taken)),
        LOAD(BPF_DW, 9, 7, offsetof(struct shared, refused)),
        LOAD(BPF_DW, 1, 7, offsetof(struct shared, redirected)),
        SUBTRACT(1, 8),
        SUBTRACT(1, 9),
        DROP_IF(BPF_JEQ, 1, 0),
        CALL(BPF_FUNC_get_smp_processor_id),
        LOAD(BPF_DW, 1, 7, offsetof(struct shared, cpu)),
        SUBTRACT(1, 0),
        DROP_IF(BPF_JNE, 1, 0),
        of_bulk ? LOAD(BPF_DW, 1, 6, 2 * sizeof(uint64_t)) : SET(1, 0),
        ADD(8, 1),
        STORE(BPF_DW, 7, 8, offsetof(struct shared, taken)),
        of_bulk ? LOAD(BPF_DW, 1, 6, 3 * sizeof(uint64_t)) : SET(1, 1),
        ADD(9, 1),
        STORE(BPF_DW, 7, 9, offsetof(struct shared, refused)),
        SET(0, 0),
        END,
    };
    return load(BPF_PROG_TYPE_RAW_TRACEPOINT, "rawkit_watch", insns, sizeof insns / sizeof *insns);
}

/* ---- opening ---------------------------------------------------------------------------------- */

static int make_map(uint32_t type, uint32_t value_len, uint32_t flags)
{
    union bpf_attr attr = {
        .map_type = type, .key_size = 4, .value_size = value_len, .max_entries = 1, .map_flags = flags};
    return bpf(BPF_MAP_CREATE, &attr);
}

/* A thread's work, so that only this thread goes to the new namespace. */
static void *attach_elsewhere(void *argument)
{
    struct rk_xdp *xdp = argument;
    union bpf_attr attr = {.link_create = {.prog_fd = (uint32_t)xdp->program,
                                           .target_ifindex = 1, /* the loopback: always the first */
                                           .attach_type = BPF_XDP,
                                           .flags = XDP_FLAGS_SKB_MODE}};
    if (unshare(CLONE_NEWNET) != 0 || (xdp->resident = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
        xdp->attachment = -errno;
    else
        xdp->attachment = bpf(BPF_LINK_CREATE, &attr);
    return NULL;
}

static int put_into_dispatcher(struct rk_xdp *xdp)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, attach_elsewhere, xdp);
    if (error != 0)
        return -error;
    pthread_join(thread, NULL);
    return xdp->attachment < 0 ? xdp->attachment : 0;
}

static int set_up(struct rk_xdp *xdp)
{
    if ((xdp->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
        return -errno;
    struct ifreq request = {.ifr_ifindex = xdp->ifindex};
    if (ioctl(xdp->socket, SIOCGIFNAME, &request) != 0)
        return -errno;
    if ((xdp->values = make_map(BPF_MAP_TYPE_ARRAY, sizeof(struct shared), BPF_F_MMAPABLE)) < 0)
        return xdp->values;
    void *mapped = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, xdp->values, 0);
    if (mapped == MAP_FAILED)
        return -errno;
    xdp->shared = mapped;
    if ((xdp->devices = make_map(BPF_MAP_TYPE_DEVMAP, sizeof(uint32_t), 0)) < 0)
        return xdp->devices;
    const uint32_t key = 0, device = (uint32_t)xdp->ifindex;
    union bpf_attr update = {
        .map_fd = (uint32_t)xdp->devices, .key = (uintptr_t)&key, .value = (uintptr_t)&device};
    int error = bpf(BPF_MAP_UPDATE_ELEM, &update);
    if (error != 0)
        return error == -EINVAL ? -ENODEV : error;
    xdp->program = load_program(xdp);
    return xdp->program < 0 ? xdp->program : put_into_dispatcher(xdp);
}

int rk_xdp_open(struct rk_xdp **out, int ifindex)
{
    struct rk_xdp *xdp = calloc(1, sizeof *xdp);
    if (xdp == NULL)
        return -ENOMEM;
    xdp->ifindex = ifindex;
    xdp->socket = xdp->devices = xdp->values = xdp->program = xdp->attachment = xdp->resident = -1;
    xdp->watching[0] = xdp->watching[1] = -1;
    int error = set_up(xdp);
    if (error != 0) {
        rk_xdp_close(xdp);
        return error;
    }
    *out = xdp;
    return 0;
}

void rk_xdp_close(struct rk_xdp *xdp)
{
    if (xdp == NULL)
        return;
    rk_xdp_trust(xdp);
    if (xdp->shared != NULL)
        munmap(xdp->shared, sizeof *xdp->shared);
    const int fds[] = {xdp->attachment, xdp->resident, xdp->program, xdp->devices, xdp->values, xdp->socket};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(xdp);
}

/* ---- sending ---------------------------------------------------------------------------------- */

/* The longest frame that the interface takes now, or -ENETDOWN, -ENXIO: a redirect that fails says nothing. */
static int longest_frame(const struct rk_xdp *xdp)
{
    struct ifreq request = {.ifr_ifindex = xdp->ifindex};
    if (ioctl(xdp->socket, SIOCGIFNAME, &request) != 0 || ioctl(xdp->socket, SIOCGIFFLAGS, &request) != 0)
        return errno == ENODEV ? -ENXIO : -errno;
    if (!(request.ifr_flags & IFF_UP))
        return -ENETDOWN;
    if (ioctl(xdp->socket, SIOCGIFMTU, &request) != 0)
        return errno == ENODEV ? -ENXIO : -errno;
    return request.ifr_mtu + HEADER_ROOM;
}

static int refusal(const struct rk_batch *batch, const struct rk_frame *frame, uint32_t longest)
{
    if (frame->cap_len < ETHERNET_LEN || !rk_range_ok(frame->offset, frame->cap_len, batch->arena_len))
        return -EINVAL;
    if (frame->cap_len > longest)
        return -EMSGSIZE;
    return frame->cap_len > RK_XDP_FRAME_LEN ? -EFBIG : 0;
}

/* Copy as many frames as there is room for into the map.  Returns how many, or why not the first. */
static int fill(struct rk_xdp *xdp, const struct rk_batch *batch, uint32_t first, uint32_t n, uint32_t longest)
{
    struct shared *shared = xdp->shared;
    uint32_t used = 0, done = 0, page_len = 0;
    while (done < n && done < ROWS && used <= ARENA_LEN - RK_XDP_FRAME_LEN) {
        const struct rk_frame *frame = &batch->frames[first + done];
        int error = refusal(batch, frame, longest);
        if (error != 0 && done == 0)
            return error;
        if (error != 0)
            break; /* the next call meets it first */
        memcpy(shared->arena + used, batch->arena + frame->offset, frame->cap_len);
        shared->rows[done++] = (struct row){.offset = used, .len = frame->cap_len};
        used += frame->cap_len;
        if (frame->cap_len > page_len)
            page_len = frame->cap_len;
    }
    shared->page_len = page_len;
    shared->next = 0;
    shared->redirected = shared->taken = shared->refused = 0;
    return (int)done;
}

static int run(struct rk_xdp *xdp, uint32_t n)
{
    struct xdp_md context = {.data_end = xdp->shared->page_len};
    union bpf_attr attr = {.test = {.prog_fd = (uint32_t)xdp->program,
                                    .data_in = (uintptr_t)xdp->page,
                                    .data_size_in = xdp->shared->page_len,
                                    .ctx_in = (uintptr_t)&context,
                                    .ctx_size_in = sizeof context,
                                    .repeat = n,
                                    .batch_size = n < AT_ONCE ? n : AT_ONCE,
                                    .flags = BPF_F_TEST_XDP_LIVE_FRAMES}};
    return bpf(BPF_PROG_TEST_RUN, &attr);
}

int rk_xdp_send(struct rk_xdp *xdp, const struct rk_batch *batch, uint32_t first, uint32_t n,
                int64_t deadline_ns)
{
    if (!rk_range_ok(first, n, batch->n) || n > INT32_MAX)
        return -EINVAL;
    int done = 0;
    while ((uint32_t)done < n) {
        if (done > 0 && rk_monotonic_ns() >= deadline_ns)
            break;
        int longest = longest_frame(xdp);
        int error = longest;
        if (longest >= 0)
            error = fill(xdp, batch, first + (uint32_t)done, n - (uint32_t)done, (uint32_t)longest);
        if (error < 0)
            return done > 0 ? done : error;
        const int filled = error;
        error = run(xdp, (uint32_t)filled);
        /* Written by the program; a system call lies between, so no compiler keeps an old value. */
        const int redirected = (int)xdp->shared->redirected;
        done += redirected;
        if (error == 0 && redirected < filled)
            error = -ENXIO; /* only the device map refuses: its device went away */
        if (error == -EINVAL)
            error = -EOPNOTSUPP; /* the flag is newer than this kernel */
        if (error != 0)
            return done > 0 ? done : error;
    }
    return done;
}

static int watch(struct rk_xdp *xdp)
{
    const char *const tracepoints[2] = {"xdp_devmap_xmit", "xdp_redirect_err"};
    for (int i = 0; i < 2; i++) {
        int program = load_watcher(xdp, i == 0);
        if (program < 0)
            return program;
        union bpf_attr attr = {
            .raw_tracepoint = {.name = (uintptr_t)tracepoints[i], .prog_fd = (uint32_t)program}};
        xdp->watching[i] = bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);
        close(program);
        if (xdp->watching[i] < 0)
            return xdp->watching[i];
    }
    return 0;
}

int rk_xdp_prove(struct rk_xdp *xdp, const struct rk_batch *batch, uint32_t first, uint32_t n)
{
    if (!rk_range_ok(first, n, batch->n))
        return -EINVAL;
    if (n > RK_XDP_PROOF_N)
        n = RK_XDP_PROOF_N;
    if (xdp->watching[0] < 0 && watch(xdp) < 0) {
        rk_xdp_trust(xdp);
        return -ENOSYS;
    }
    int longest = longest_frame(xdp);
    int filled = longest < 0 ? longest : fill(xdp, batch, first, n, (uint32_t)longest);
    if (filled < 0)
        return filled;
    int error = run(xdp, (uint32_t)filled);
    if (error < 0)
        return error == -EINVAL ? -EOPNOTSUPP : error;
    return (int)xdp->shared->taken;
}

void rk_xdp_trust(struct rk_xdp *xdp)
{
    for (int i = 0; i < 2; i++) {
        if (xdp->watching[i] >= 0)
            close(xdp->watching[i]);
        xdp->watching[i] = -1;
    }
}
