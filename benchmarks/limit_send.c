/* What the kernel allows a socket that does nothing but send: the bounds beside which benchmarks/send.py puts the
 * packet and AF_XDP backends.
 *
 *     limit_send INTERFACE FRAME_IN_HEX COUNT WAY
 *
 * The same frame COUNT times (rounded up to whole batches of 256), one system call for a batch. WAY is
 *   sendmmsg  message headers that were written once;
 *   ring      PACKET_TX_RING, version 2, as trafgen sends;
 *   copied    the same, where a virtio header before each frame says that all of it is to be copied;
 *   uring     io_uring: requests written once, no completions unless a request fails;
 *   xsk       an AF_XDP socket in copy mode: the frame lies there once, and only descriptors are written. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BATCH = 256, SLOT = 256 };

static uint8_t frame[SLOT - TPACKET2_HDRLEN - sizeof(struct virtio_net_hdr)];
static size_t len;

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void by_sendmmsg(int fd, long batches)
{
    static struct mmsghdr messages[BATCH];
    struct iovec iov = {frame, len};
    for (int i = 0; i < BATCH; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
    for (long left = batches * BATCH; left > 0;) {
        int sent = sendmmsg(fd, messages, left < BATCH ? (unsigned)left : BATCH, 0);
        if (sent < 0)
            fail("sendmmsg");
        left -= sent;
    }
}

static void by_ring(int fd, long batches, int copied)
{
    int version = TPACKET_V2;
    struct virtio_net_hdr virtio = {.hdr_len = (uint16_t)len};
    size_t virtio_len = copied ? sizeof virtio : 0;
    struct tpacket_req request = {BATCH * SLOT, 16, SLOT, 16 * BATCH};
    if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &copied, sizeof copied) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &request, sizeof request) != 0)
        fail("PACKET_TX_RING");
    size_t ring_len = (size_t)request.tp_block_size * request.tp_block_nr;
    uint8_t *ring = mmap(NULL, ring_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring == MAP_FAILED)
        fail("mmap");
    for (size_t at = 0; at < ring_len; at += SLOT) {
        uint8_t *octets = ring + at + TPACKET2_HDRLEN - sizeof(struct sockaddr_ll);
        memcpy(octets, &virtio, virtio_len);
        memcpy(octets + virtio_len, frame, len);
        ((struct tpacket2_hdr *)(ring + at))->tp_len = (uint32_t)(virtio_len + len);
    }
    size_t at = 0;
    for (long left = batches * BATCH; left > 0;) {
        for (int i = 0; i < BATCH && left > 0; i++, left--, at = (at + SLOT) % ring_len) {
            struct tpacket2_hdr *slot = (struct tpacket2_hdr *)(ring + at);
            if (__atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE)
                break;
            __atomic_store_n(&slot->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
        }
        if (send(fd, NULL, 0, 0) < 0 && errno != ENOBUFS)
            fail("send");
    }
}

static void by_uring(int fd, long batches)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER};
    int uring = (int)syscall(SYS_io_uring_setup, BATCH, &params);
    if (uring < 0)
        fail("io_uring_setup");
    size_t rings_len = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    size_t array_end = params.sq_off.array + BATCH * sizeof(uint32_t);
    rings_len = array_end > rings_len ? array_end : rings_len;
    uint8_t *rings = mmap(NULL, rings_len, PROT_READ | PROT_WRITE, MAP_SHARED, uring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *requests = mmap(
        NULL, BATCH * sizeof *requests, PROT_READ | PROT_WRITE, MAP_SHARED, uring, IORING_OFF_SQES);
    if (rings == MAP_FAILED || requests == MAP_FAILED)
        fail("mmap");
    for (uint32_t i = 0; i < BATCH; i++) {
        requests[i] = (struct io_uring_sqe){.opcode = IORING_OP_SEND, .fd = fd, .addr = (uintptr_t)frame,
            .len = (uint32_t)len, .flags = IOSQE_CQE_SKIP_SUCCESS};
        ((uint32_t *)(rings + params.sq_off.array))[i] = i;
    }
    uint32_t *tail = (uint32_t *)(rings + params.sq_off.tail);
    uint32_t *completed = (uint32_t *)(rings + params.cq_off.tail);
    for (; batches > 0; batches--) {
        __atomic_store_n(tail, *tail + BATCH, __ATOMIC_RELEASE);
        if (syscall(SYS_io_uring_enter, uring, BATCH, 0, 0, NULL, 0) != BATCH)
            fail("io_uring_enter");
    }
    if (__atomic_load_n(completed, __ATOMIC_ACQUIRE) != 0) {
        fputs("io_uring: a frame was not sent\n", stderr);
        exit(1);
    }
}

static void by_xsk(int ifindex, long batches)
{
    enum { PAGE = 4096 };
    int size = BATCH, fd = socket(AF_XDP, SOCK_RAW, 0);
    struct xdp_mmap_offsets at;
    socklen_t at_len = sizeof at;
    uint8_t *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(memory, frame, len);
    struct xdp_umem_reg region = {.addr = (uintptr_t)memory, .len = PAGE, .chunk_size = PAGE};
    struct sockaddr_xdp address = {
        .sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY, .sxdp_ifindex = (uint32_t)ifindex};
    if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &region, sizeof region) != 0 ||
        setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &size, sizeof size) != 0 ||
        setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &size, sizeof size) != 0 ||
        setsockopt(fd, SOL_XDP, XDP_TX_RING, &size, sizeof size) != 0 ||
        getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &at_len) != 0)
        fail("AF_XDP");
    uint8_t *tx = mmap(NULL, at.tx.desc + BATCH * sizeof(struct xdp_desc), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                       XDP_PGOFF_TX_RING);
    uint8_t *done = mmap(NULL, at.cr.desc + BATCH * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                         XDP_UMEM_PGOFF_COMPLETION_RING);
    if (tx == MAP_FAILED || done == MAP_FAILED || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("AF_XDP");
    uint32_t *told = (uint32_t *)(tx + at.tx.producer), *taken = (uint32_t *)(tx + at.tx.consumer);
    for (; batches > 0; batches--) {
        for (int i = 0; i < BATCH; i++)
            ((struct xdp_desc *)(tx + at.tx.desc))[i] = (struct xdp_desc){.addr = 0, .len = (uint32_t)len};
        __atomic_store_n(told, *told + BATCH, __ATOMIC_RELEASE);
        while (__atomic_load_n(taken, __ATOMIC_ACQUIRE) != *told)
            if (sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN)
                fail("AF_XDP");
        *(uint32_t *)(done + at.cr.consumer) =
            __atomic_load_n((uint32_t *)(done + at.cr.producer), __ATOMIC_ACQUIRE);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    len = strlen(argv[2]) / 2;
    if (len > sizeof frame)
        return 2;
    for (size_t i = 0; i < len; i++)
        sscanf(argv[2] + 2 * i, "%2hhx", &frame[i]);
    long batches = (atol(argv[3]) + BATCH - 1) / BATCH;
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(argv[1])};
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail(argv[1]);
    if (strcmp(argv[4], "sendmmsg") == 0)
        by_sendmmsg(fd, batches);
    else if (strcmp(argv[4], "ring") == 0 || strcmp(argv[4], "copied") == 0)
        by_ring(fd, batches, strcmp(argv[4], "copied") == 0);
    else if (strcmp(argv[4], "uring") == 0)
        by_uring(fd, batches);
    else if (strcmp(argv[4], "xsk") == 0)
        by_xsk(address.sll_ifindex, batches);
    else
        return 2;
    return 0;
}
