/* Packet sockets with a transmit ring (PACKET_TX_RING, Documentation/networking/packet_mmap.rst).
 *
 * Frames are copied into memory that is shared with the kernel, and one system call has it make socket buffers of
 * them. What sendmmsg(2) spends on each message is saved: the message header, its vectors, the copy of both.
 *
 * By itself the ring would be slower than that: only the link header is copied into the socket buffer, and pages of
 * the ring are attached to it, which whoever looks at the packet behind has to copy after all. But where each frame
 * has a virtio header before it (PACKET_VNET_HDR), that says how much of it is headers, and so much is copied: all
 * of it, here. (Linux 4.6 or later.)
 *
 * The kernel looks at the ring only while we are in that system call. It goes from slot to slot and stops at one that
 * it cannot send, which it does not go past; that one and those behind it are taken back. So a frame is either sent
 * or still the caller's, as with sendmmsg. */
#define _GNU_SOURCE
#include "rk_txring.h"

#include "rk_internal.h"
#include "rk_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if_arp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS 256u /* a device that is slow may hold as many */
#define SLOT_LEN 2048u
#define BLOCK_LEN 65536u
#define VIRTIO_AT (TPACKET2_HDRLEN - sizeof(struct sockaddr_ll))
#define FRAME_AT (VIRTIO_AT + sizeof(struct virtio_net_hdr))
#define FRAME_MOST (SLOT_LEN - FRAME_AT)

/* Before it makes the ring, the kernel waits until all processors are done with the socket, some 10 ms: that is for a
 * thread to wait for, and not worth it for few frames. */
#define MAKE_AFTER 4096u

enum state { WANTING, MAKING, READY, REFUSED };

struct rk_txring {
    int fd;
    int ifindex;
    uint32_t link_header_len;
    uint32_t offered; /* frames, while it was not wanted */
    _Atomic enum state state;
    pthread_t maker;
    pid_t owner;     /* of the thread, which no child process has; 0: there is none */
    uint8_t *slots;
    uint32_t next; /* where the kernel goes on */
};

/* ---- opening ---------------------------------------------------------------------------------- */

int rk_txring_open(struct rk_txring **out, int ifindex, int hardware_type)
{
    const bool ethernet = hardware_type == ARPHRD_ETHER || hardware_type == ARPHRD_LOOPBACK;
    if (!ethernet && hardware_type != ARPHRD_NONE)
        return -EOPNOTSUPP;
    struct rk_txring *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return -ENOMEM;
    ring->ifindex = ifindex;
    ring->link_header_len = ethernet ? ETH_HLEN : 0;
    /* Protocol 0: it hears nothing. */
    ring->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = ifindex};
    if (ring->fd < 0 || bind(ring->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = -errno;
        rk_txring_close(ring);
        return error;
    }
    *out = ring;
    return 0;
}

static int make(struct rk_txring *ring)
{
    struct tpacket_req request = {.tp_block_size = BLOCK_LEN,
                                  .tp_block_nr = SLOTS * SLOT_LEN / BLOCK_LEN,
                                  .tp_frame_size = SLOT_LEN,
                                  .tp_frame_nr = SLOTS};
    int error;
    if ((error = rk_io_set_option(ring->fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2)) != 0 ||
        (error = rk_io_set_option(ring->fd, SOL_PACKET, PACKET_VNET_HDR, 1)) != 0)
        return error;
    if (setsockopt(ring->fd, SOL_PACKET, PACKET_TX_RING, &request, sizeof request) != 0)
        return -errno;
    void *slots = mmap(NULL, (size_t)SLOTS * SLOT_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
    if (slots == MAP_FAILED)
        return -errno;
    ring->slots = slots;
    return 0;
}

static void *make_beside(void *argument)
{
    struct rk_txring *ring = argument;
    ring->state = make(ring) == 0 ? READY : REFUSED;
    return NULL;
}

/* Whether there is a ring by now; sets out to make one for the many that were offered. */
static bool is_ready(struct rk_txring *ring, uint32_t n)
{
    if (ring->state == WANTING && (ring->offered += n < RK_CHUNK ? n : RK_CHUNK) > MAKE_AFTER) {
        ring->state = MAKING;
        ring->owner = getpid();
        if (rk_io_start(&ring->maker, make_beside, ring) != 0) {
            ring->owner = 0;
            ring->state = REFUSED;
        }
    }
    return ring->state == READY;
}

int rk_txring_bypass(struct rk_txring *ring)
{
    return rk_io_set_option(ring->fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1);
}

void rk_txring_close(struct rk_txring *ring)
{
    if (ring == NULL)
        return;
    if (ring->owner == getpid())
        pthread_join(ring->maker, NULL);
    if (ring->slots != NULL)
        munmap(ring->slots, (size_t)SLOTS * SLOT_LEN);
    if (ring->fd >= 0)
        close(ring->fd);
    free(ring);
}

/* ---- sending ---------------------------------------------------------------------------------- */

static uint8_t *slot_at(const struct rk_txring *ring, uint32_t i)
{
    return ring->slots + (size_t)(i % SLOTS) * SLOT_LEN;
}

static uint32_t *status_of(const struct rk_txring *ring, uint32_t i)
{
    return &((struct tpacket2_hdr *)(void *)slot_at(ring, i))->tp_status;
}

/* Copy frames into free slots and ask for them to be sent. Returns how many. */
static uint32_t fill(const struct rk_txring *ring, const struct rk_batch *batch, uint32_t first, uint32_t n,
                     uint32_t longest)
{
    uint32_t filled = 0;
    for (; filled < n && filled < RK_CHUNK; filled++) {
        const struct rk_frame *frame = &batch->frames[first + filled];
        uint32_t *status = status_of(ring, ring->next + filled);
        if (__atomic_load_n(status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE || frame->cap_len > longest ||
            frame->cap_len < ring->link_header_len || frame->cap_len == 0 ||
            !rk_range_ok(frame->offset, frame->cap_len, batch->arena_len))
            break;
        uint8_t *slot = slot_at(ring, ring->next + filled);
        const struct virtio_net_hdr copied = {.hdr_len = (uint16_t)frame->cap_len};
        memcpy(slot + VIRTIO_AT, &copied, sizeof copied);
        memcpy(slot + FRAME_AT, batch->arena + frame->offset, frame->cap_len);
        ((struct tpacket2_hdr *)(void *)slot)->tp_len = frame->cap_len + (uint32_t)sizeof copied;
        __atomic_store_n(status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
    }
    return filled;
}

/* Have the kernel send `filled` slots. Returns how many it did send; the others are free again. */
static uint32_t push(struct rk_txring *ring, uint32_t filled, int *error)
{
    *error = send(ring->fd, NULL, 0, MSG_DONTWAIT) < 0 ? errno : 0;
    uint32_t sent = 0;
    for (; sent < filled; sent++) {
        const uint32_t status = __atomic_load_n(status_of(ring, ring->next + sent), __ATOMIC_ACQUIRE);
        if (status & (TP_STATUS_SEND_REQUEST | TP_STATUS_WRONG_FORMAT))
            break;
    }
    for (uint32_t i = sent; i < filled; i++)
        __atomic_store_n(status_of(ring, ring->next + i), TP_STATUS_AVAILABLE, __ATOMIC_RELEASE);
    ring->next += sent;
    return sent;
}

int rk_txring_offer(struct rk_txring *ring, const struct rk_batch *batch, uint32_t first, uint32_t *n)
{
    if (!is_ready(ring, *n))
        return 0;
    if (__atomic_load_n(status_of(ring, ring->next), __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE)
        return -ENOBUFS; /* the device still has them all */
    const uint32_t mtu = rk_io_mtu(ring->fd, ring->ifindex);
    uint32_t longest = mtu + ring->link_header_len;
    longest = mtu == 0 ? 0 : longest < FRAME_MOST ? longest : FRAME_MOST;
    const uint32_t filled = fill(ring, batch, first, *n, longest);
    if (filled == 0) {
        *n = rk_io_unfit(batch, first, *n, longest);
        return 0;
    }
    int error;
    const uint32_t sent = push(ring, filled, &error);
    if (sent > 0)
        return (int)sent;
    if (error == ENOBUFS || error == EAGAIN)
        return -ENOBUFS;
    *n = 1;
    return 0;
}
