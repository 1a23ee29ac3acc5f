/* AF_XDP sockets in copy mode, for sending only (Documentation/networking/af_xdp.rst).
 *
 * Frames are copied into memory that is locked and shared with the kernel (the UMEM), described in a ring, and one
 * system call has the kernel make socket buffers of them and give these to the driver, past queueing disciplines
 * and taps. What a packet socket spends on each message besides that is saved.
 *
 * In copy mode the kernel looks at the ring only while we are in that system call. It goes forward frame by frame
 * and stops at one that the driver does not take; that one and those behind it are not sent, and because it reads
 * descriptors no sooner than it needs them, they may be written over before the next call. So a frame is either
 * sent or still the caller's, as with sendmmsg(2). */
#define _GNU_SOURCE
#include "rk_xsk.h"

#include "rk_internal.h"
#include "rk_io.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_xdp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SLOT_LEN 2048u /* octets of the longest frame */
/* Frames that a slow device may hold at a time, and how few will do where little memory may be locked. */
#define SLOTS_MOST 256u
#define SLOTS_LEAST 32u
#define NO_FRAME UINT64_MAX /* no address in the memory: the kernel skips such a descriptor */
#define ASK_AGAIN_NS 1000000

struct rk_xsk {
    int fd;
    int asked; /* the packet socket's descriptor, for questions about the interface: this kind answers none */
    int ifindex;
    bool works;
    uint8_t *memory;
    size_t memory_len;
    uint32_t slots_n; /* a power of two; so long are the rings, too */
    uint8_t *tx, *done;
    size_t tx_len, done_len;
    struct xdp_mmap_offsets at;
    uint32_t next;    /* the descriptor that is written next: those before it were sent or are skipped */
    uint32_t written; /* descriptors that the kernel was told of */
    uint32_t empty_n; /* those before `next` that it has yet to skip, at most */
    uint32_t free_n;
    uint64_t free[SLOTS_MOST]; /* addresses of slots whose frames have left the device */
};

static uint32_t *number_in(uint8_t *ring, uint64_t offset)
{
    return (uint32_t *)(void *)(ring + offset);
}

/* ---- opening ---------------------------------------------------------------------------------- */

int rk_xsk_open(struct rk_xsk **out)
{
    struct rk_xsk *xsk = calloc(1, sizeof *xsk);
    if (xsk == NULL)
        return -ENOMEM;
    xsk->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (xsk->fd < 0) {
        int error = -errno;
        rk_xsk_close(xsk);
        return error;
    }
    *out = xsk;
    return 0;
}

/* Lock as much memory as is allowed. */
static int lock_memory(struct rk_xsk *xsk)
{
    for (xsk->slots_n = SLOTS_MOST;; xsk->slots_n /= 2) {
        size_t len = (size_t)xsk->slots_n * SLOT_LEN;
        /* Shared, so that a child process does not make the kernel's copy of a page another than ours. */
        void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return -errno;
        struct xdp_umem_reg region = {.addr = (uintptr_t)memory, .len = len, .chunk_size = SLOT_LEN};
        if (setsockopt(xsk->fd, SOL_XDP, XDP_UMEM_REG, &region, sizeof region) == 0) {
            xsk->memory = memory;
            xsk->memory_len = len;
            return 0;
        }
        int error = -errno;
        munmap(memory, len);
        if (error != -ENOBUFS || xsk->slots_n == SLOTS_LEAST)
            return error;
    }
}

static int map_ring(const struct rk_xsk *xsk, off_t which, size_t len, uint8_t **ring)
{
    void *mapped = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, xsk->fd, which);
    if (mapped == MAP_FAILED)
        return -errno;
    *ring = mapped;
    return 0;
}

static int make_rings(struct rk_xsk *xsk)
{
    int error, n = (int)xsk->slots_n;
    socklen_t len = sizeof xsk->at;
    /* The first is for receiving, but nothing works without it. */
    if ((error = rk_io_set_option(xsk->fd, SOL_XDP, XDP_UMEM_FILL_RING, 1)) != 0 ||
        (error = rk_io_set_option(xsk->fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, n)) != 0 ||
        (error = rk_io_set_option(xsk->fd, SOL_XDP, XDP_TX_RING, n)) != 0)
        return error;
    if (getsockopt(xsk->fd, SOL_XDP, XDP_MMAP_OFFSETS, &xsk->at, &len) != 0)
        return -errno;
    if (len != sizeof xsk->at)
        return -EOPNOTSUPP; /* before Linux 5.4 */
    xsk->tx_len = xsk->at.tx.desc + xsk->slots_n * sizeof(struct xdp_desc);
    xsk->done_len = xsk->at.cr.desc + xsk->slots_n * sizeof(uint64_t);
    if ((error = map_ring(xsk, XDP_PGOFF_TX_RING, xsk->tx_len, &xsk->tx)) != 0)
        return error;
    return map_ring(xsk, (off_t)XDP_UMEM_PGOFF_COMPLETION_RING, xsk->done_len, &xsk->done);
}

static int bind_to_free_queue(struct rk_xsk *xsk)
{
    bool taken = false;
    for (uint32_t queue = 0;; queue++) {
        struct sockaddr_xdp address = {.sxdp_family = AF_XDP,
                                       .sxdp_flags = XDP_COPY,
                                       .sxdp_ifindex = (uint32_t)xsk->ifindex,
                                       .sxdp_queue_id = queue};
        if (bind(xsk->fd, (struct sockaddr *)&address, sizeof address) == 0)
            return 0;
        if (errno == EBUSY)
            taken = true;
        else /* EINVAL: it has no more queues */
            return taken && errno == EINVAL ? -EBUSY : -errno;
    }
}

int rk_xsk_start(struct rk_xsk *xsk, int packet_fd, int ifindex, int64_t deadline_ns)
{
    xsk->asked = packet_fd;
    xsk->ifindex = ifindex;
    int error = lock_memory(xsk);
    if (error == 0)
        error = make_rings(xsk);
    if (error != 0)
        return error == -ENOPROTOOPT ? -EOPNOTSUPP : error;
    while ((error = bind_to_free_queue(xsk)) == -EBUSY && rk_monotonic_ns() < deadline_ns) {
        const struct timespec pause = {.tv_nsec = ASK_AGAIN_NS};
        nanosleep(&pause, NULL);
    }
    if (error != 0)
        return error;
    for (uint32_t i = 0; i < xsk->slots_n; i++)
        xsk->free[xsk->free_n++] = (uint64_t)i * SLOT_LEN;
    xsk->works = true;
    return 0;
}

void rk_xsk_close(struct rk_xsk *xsk)
{
    if (xsk == NULL)
        return;
    if (xsk->tx != NULL)
        munmap(xsk->tx, xsk->tx_len);
    if (xsk->done != NULL)
        munmap(xsk->done, xsk->done_len);
    if (xsk->fd >= 0)
        close(xsk->fd);
    if (xsk->memory != NULL)
        munmap(xsk->memory, xsk->memory_len);
    free(xsk);
}

bool rk_xsk_works(const struct rk_xsk *xsk)
{
    return xsk->works;
}

/* ---- sending ---------------------------------------------------------------------------------- */

/* The longest frame that may go this way now; the kernel does not compare it with the MTU. One that is longer by
 * a VLAN tag may be allowed, too: that is left to the packet socket. */
static uint32_t longest_frame(const struct rk_xsk *xsk)
{
    const uint32_t mtu = rk_io_mtu(xsk->asked, xsk->ifindex), longest = mtu + ETH_HLEN;
    return mtu == 0 ? 0 : longest < SLOT_LEN ? longest : SLOT_LEN;
}

/* Find the slots whose frames have left the device. */
static void collect(struct rk_xsk *xsk)
{
    uint32_t *consumer = number_in(xsk->done, xsk->at.cr.consumer);
    const uint32_t end = __atomic_load_n(number_in(xsk->done, xsk->at.cr.producer), __ATOMIC_ACQUIRE);
    const uint64_t *addresses = (const uint64_t *)(const void *)(xsk->done + xsk->at.cr.desc);
    uint32_t i = *consumer;
    for (; i != end; i++)
        if (addresses[i % xsk->slots_n] < xsk->memory_len) /* else it says so of what it skipped */
            xsk->free[xsk->free_n++] = addresses[i % xsk->slots_n];
    __atomic_store_n(consumer, i, __ATOMIC_RELEASE);
}

/* Describe frames in the ring. Returns how many; the slots that they lie in are the last free ones. */
static uint32_t fill(struct rk_xsk *xsk, const struct rk_batch *batch, uint32_t first, uint32_t n, uint32_t longest)
{
    struct xdp_desc *descriptors = (struct xdp_desc *)(void *)(xsk->tx + xsk->at.tx.desc);
    uint32_t filled = 0;
    for (; filled < n && filled < RK_CHUNK && filled < xsk->free_n; filled++) {
        const struct rk_frame *frame = &batch->frames[first + filled];
        if (frame->cap_len < ETH_HLEN || frame->cap_len > longest ||
            !rk_range_ok(frame->offset, frame->cap_len, batch->arena_len))
            break;
        uint64_t slot = xsk->free[xsk->free_n - 1 - filled];
        memcpy(xsk->memory + slot, batch->arena + frame->offset, frame->cap_len);
        descriptors[(xsk->next + filled) % xsk->slots_n] = (struct xdp_desc){.addr = slot, .len = frame->cap_len};
    }
    if (filled == 0)
        return 0;
    /* What an earlier call left there is not to be sent. */
    for (uint32_t i = xsk->next + filled; (int32_t)(xsk->written - i) > 0; i++)
        descriptors[i % xsk->slots_n] = (struct xdp_desc){.addr = NO_FRAME};
    if ((int32_t)(xsk->next + filled - xsk->written) > 0)
        xsk->written = xsk->next + filled;
    __atomic_store_n(number_in(xsk->tx, xsk->at.tx.producer), xsk->written, __ATOMIC_RELEASE);
    return filled;
}

/* Have the kernel send `filled` frames, some 32 in a call. Returns how many it did send, and in *error why not all. */
static uint32_t push(struct rk_xsk *xsk, uint32_t filled, int *error)
{
    uint32_t sent = 0, skips = xsk->empty_n;
    while (sent < filled) {
        *error = sendto(xsk->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
        const uint32_t consumer = __atomic_load_n(number_in(xsk->tx, xsk->at.tx.consumer), __ATOMIC_ACQUIRE);
        if ((int32_t)(consumer - xsk->next - sent) > 0)
            sent = consumer - xsk->next;
        else if (*error == EBUSY)
            /* The driver dropped a frame, or the link has no carrier. The interface counts it as dropped, and a
             * packet socket takes it, too. The consumer is not told of it before the next that is sent. */
            sent++;
        else if (*error != 0 || skips-- == 0) /* a call may do no more than skip one descriptor */
            break;
    }
    if (sent >= filled) {
        sent = filled; /* the consumer counts what was skipped, too */
        xsk->empty_n = xsk->written - (xsk->next + filled);
        xsk->next = xsk->written;
    } else {
        xsk->next += sent;
    }
    xsk->free_n -= sent;
    return sent;
}

int rk_xsk_offer(struct rk_xsk *xsk, const struct rk_batch *batch, uint32_t first, uint32_t *n)
{
    collect(xsk);
    if (xsk->free_n == 0)
        return -ENOBUFS; /* the device still has them all */
    const uint32_t longest = longest_frame(xsk), filled = fill(xsk, batch, first, *n, longest);
    if (filled == 0) {
        *n = rk_io_unfit(batch, first, *n, longest);
        return 0;
    }
    int error;
    const uint32_t sent = push(xsk, filled, &error);
    if (sent > 0)
        return (int)sent;
    if (error == EAGAIN)
        return -ENOBUFS;
    if (error == 0)
        xsk->works = false; /* the interface was given fewer queues */
    *n = 1;
    return 0;
}
