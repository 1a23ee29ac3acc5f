/* AF_XDP sockets for sending: over a veth pair in a namespace of our own, then with a kernel that is made up. */
#include "../rk_xsk.c"

#include "rk_veth.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { N = 600 };

static int offer(void *ring, const struct rk_batch *batch, uint32_t first, uint32_t *n)
{
    return rk_xsk_offer(ring, batch, first, n);
}

/* The kernel counts what went by the ring, too. */
static void check_lengths(struct rk_xsk *xsk, const struct rk_batch *batch, int far)
{
    const uint32_t before = xsk->next;
    expect_all(offer, xsk, batch, far);
    EXPECT(xsk->next - before, N);
    EXPECT(*number_in(xsk->tx, xsk->at.tx.consumer), xsk->next);
    struct xdp_statistics statistics;
    socklen_t len = sizeof statistics;
    EXPECT(getsockopt(xsk->fd, SOL_XDP, XDP_STATISTICS, &statistics, &len), 0);
    EXPECT(statistics.tx_invalid_descs, 0);
}

/* A frame that the kernel did not take is still the caller's: it does not go when others do. */
static void check_taken_back(struct rk_xsk *xsk, const struct rk_batch *batch, int far)
{
    int error;
    collect(xsk);
    EXPECT(xsk->free_n, xsk->slots_n);
    /* Nobody empties the completion ring, so there is no room for more than it holds. */
    uint32_t sent = 0, filled;
    do {
        xsk->free_n = xsk->slots_n;
        filled = fill(xsk, batch, sent, 60, 1514);
        EXPECT(filled, 60);
        filled = push(xsk, filled, &error);
        expect_frames(far, sent, filled);
        sent += filled;
    } while (filled == 60 && sent < N - 60);
    EXPECT(sent, xsk->slots_n);
    EXPECT(error, EAGAIN);
    EXPECT(push(xsk, 60 - filled, &error), 0);
    expect_silence(far);

    xsk->free_n = 0;
    collect(xsk);
    EXPECT(xsk->free_n, xsk->slots_n);
    EXPECT(fill(xsk, batch, 500, 8, 1514), 8);
    EXPECT(push(xsk, 8, &error), 8);
    expect_frames(far, 500, 8);
    expect_silence(far);
    for (uint32_t from = 100, n = 60; from < 220; from += 60) {
        EXPECT(rk_xsk_offer(xsk, batch, from, &n), 60);
        expect_frames(far, from, 60);
    }
    expect_silence(far);
}

/* What the ring does not carry, or not now, is left to the packet socket. */
static void check_left(struct rk_xsk *xsk, const struct rk_batch *batch)
{
    expect_unfit_left(offer, xsk);
    set_interface("v0", false, 1500, true);
    uint32_t n = 1;
    EXPECT(rk_xsk_offer(xsk, batch, 3, &n), 0);
    EXPECT(rk_xsk_works(xsk), 1);
    set_interface("v0", true, 1500, true);
    expect_again(offer, xsk, batch);
}

static struct rk_xsk *open_on(const char *name, int packet_fd, int64_t wait_ms, int *error)
{
    struct rk_xsk *xsk = NULL;
    if ((*error = rk_xsk_open(&xsk)) == 0)
        *error = rk_xsk_start(xsk, packet_fd, (int)if_nametoindex(name), in_ms(wait_ms));
    return xsk;
}

/* One queue, one socket; once it is closed the queue is free again, though not at once. */
static void check_queue(int packet_fd)
{
    int error;
    rk_xsk_close(open_on("v0", packet_fd, 20, &error));
    EXPECT(error, -EBUSY);
    rk_xsk_close(open_on("v1", packet_fd, 20000, &error));
    EXPECT(error, 0);
    rk_xsk_close(open_on("v1", packet_fd, 20000, &error));
    EXPECT(error, 0);
    struct rk_xsk *xsk = NULL;
    EXPECT(rk_xsk_open(&xsk), 0);
    EXPECT(rk_xsk_start(xsk, packet_fd, 9999, 0), -ENODEV);
    rk_xsk_close(xsk);
}

/* Without CAP_IPC_LOCK no more memory may be locked than the limit says. */
static void check_memory_limit(int packet_fd)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2], less[2];
    EXPECT(syscall(SYS_capget, &header, data), 0);
    memcpy(less, data, sizeof less);
    less[0].effective &= ~(1u << CAP_IPC_LOCK);
    EXPECT(syscall(SYS_capset, &header, less), 0);
    struct rlimit before, limit;
    EXPECT(getrlimit(RLIMIT_MEMLOCK, &before), 0);
    limit = before;
    limit.rlim_cur = SLOTS_LEAST * SLOT_LEN;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    int error;
    struct rk_xsk *xsk = open_on("v1", packet_fd, 20000, &error);
    if (error != -ENOBUFS) { /* others of this user may have locked some */
        EXPECT(error, 0);
        EXPECT(xsk->slots_n, SLOTS_LEAST);
        struct rk_batch *batch = make_frames(N);
        uint32_t n = N;
        EXPECT(rk_xsk_offer(xsk, batch, 0, &n), SLOTS_LEAST);
        drop_batch(batch);
    }
    rk_xsk_close(xsk);
    limit.rlim_cur = 0;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    rk_xsk_close(open_on("v1", packet_fd, 20000, &error));
    EXPECT(error, -ENOBUFS);
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &before), 0);
    EXPECT(syscall(SYS_capset, &header, data), 0);
}

/* The system call succeeds, and nothing becomes of the frames: the queue is there no more. */
static void check_lost_queue(int packet_fd, const struct rk_batch *batch)
{
    uint8_t tx[64 + SLOTS_LEAST * sizeof(struct xdp_desc)] = {0}, done[64 + SLOTS_LEAST * 8] = {0};
    uint8_t *memory = malloc(SLOTS_LEAST * SLOT_LEN);
    int pair[2];
    EXPECT(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
    struct rk_xsk xsk = {.fd = pair[0],
                         .asked = packet_fd,
                         .ifindex = (int)if_nametoindex("v0"),
                         .works = true,
                         .memory = memory,
                         .slots_n = SLOTS_LEAST,
                         .tx = tx,
                         .done = done,
                         .at = {.tx = {.producer = 0, .consumer = 8, .desc = 16},
                                .cr = {.producer = 0, .consumer = 8, .desc = 16}},
                         .free_n = 2,
                         .free = {0, SLOT_LEN}};
    uint32_t n = 5;
    EXPECT(rk_xsk_offer(&xsk, batch, 0, &n), 0);
    EXPECT(n, 1);
    EXPECT(rk_xsk_works(&xsk), 0);
    xsk.free_n = 0;
    EXPECT(rk_xsk_offer(&xsk, batch, 0, &n), -ENOBUFS);
    close(pair[0]);
    close(pair[1]);
    free(memory);
}

int main(void)
{
    if (!enter_private_network() || make_pair() != 0) {
        printf("skipped: no veth pair here\n");
        return 77;
    }
    set_interface("v0", true, 1500, true);
    set_interface("v1", true, 1500, true);
    int error, packet_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct rk_xsk *xsk = open_on("v0", packet_fd, 20, &error);
    if (error == -EAFNOSUPPORT || error == -EOPNOTSUPP) {
        printf("skipped: no AF_XDP here: %s\n", strerror(-error));
        return 77;
    }
    EXPECT(error, 0);
    if (error != 0)
        return result();
    struct rk_batch *batch = make_frames(N);
    int far = listen_on("v1");
    check_lengths(xsk, batch, far);
    check_taken_back(xsk, batch, far);
    check_left(xsk, batch);
    close(far);
    check_queue(packet_fd);
    check_memory_limit(packet_fd);
    check_lost_queue(packet_fd, batch);
    rk_xsk_close(xsk);
    rk_xsk_close(NULL);
    drop_batch(batch);
    close(packet_fd);
    return result();
}
