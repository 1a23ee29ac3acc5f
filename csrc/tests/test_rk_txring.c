/* Transmit rings of packet sockets, over a veth pair in a namespace of our own. */
#include "../rk_txring.c"

#include "rk_veth.h"

enum { N = 600 };

static int offer(void *ring, const struct rk_batch *batch, uint32_t first, uint32_t *n)
{
    return rk_txring_offer(ring, batch, first, n);
}

static void check_lengths(struct rk_txring *ring, const struct rk_batch *batch, int far)
{
    const uint32_t before = ring->next;
    expect_all(offer, ring, batch, far);
    EXPECT(ring->next - before, N);
}

/* A slot that the device holds is not used; a frame that the kernel refuses is taken back, with those behind it, and
 * does not go when others do. */
static void check_taken_back(struct rk_txring *ring, const struct rk_batch *batch, int far)
{
    uint32_t n = 20;
    *status_of(ring, ring->next + 12) = TP_STATUS_SENDING;
    EXPECT(rk_txring_offer(ring, batch, 100, &n), 12);
    expect_frames(far, 100, 12);
    EXPECT(rk_txring_offer(ring, batch, 112, &n), -ENOBUFS);
    *status_of(ring, ring->next) = TP_STATUS_AVAILABLE;

    int error;
    EXPECT(fill(ring, batch, 200, 30, 1514), 30);
    ((struct tpacket2_hdr *)(void *)slot_at(ring, ring->next + 10))->tp_len = SLOT_LEN;
    EXPECT(push(ring, 30, &error), 10);
    EXPECT(error, EMSGSIZE);
    expect_frames(far, 200, 10);
    n = 8;
    EXPECT(rk_txring_offer(ring, batch, 300, &n), 8);
    expect_frames(far, 300, 8);
    expect_silence(far);
}

/* What the ring does not carry, or not now, is left to another socket. */
static void check_left(struct rk_txring *ring, const struct rk_batch *batch, int far)
{
    expect_unfit_left(offer, ring);
    set_interface("v0", false, 1500, true);
    uint32_t n = 20;
    EXPECT(rk_txring_offer(ring, batch, 0, &n), 0);
    EXPECT(n, 1);
    set_interface("v0", true, 1500, true);
    expect_again(offer, ring, batch);
    expect_frames(far, 0, 20);
}

/* It is made when much is sent, and meanwhile nothing is held up. */
static struct rk_txring *check_making(const struct rk_batch *batch)
{
    struct rk_txring *ring = NULL;
    EXPECT(rk_txring_open(&ring, (int)if_nametoindex("v0"), ARPHRD_INFINIBAND), -EOPNOTSUPP);
    EXPECT(rk_txring_open(&ring, 9999, ARPHRD_ETHER), -ENODEV);
    EXPECT(rk_txring_open(&ring, (int)if_nametoindex("v0"), ARPHRD_ETHER), 0);
    uint32_t n = N;
    for (uint32_t i = 0; i < MAKE_AFTER / RK_CHUNK; i++) {
        EXPECT(rk_txring_offer(ring, batch, 0, &n), 0);
        EXPECT(n, N);
    }
    EXPECT(ring->state, WANTING);
    EXPECT(rk_txring_offer(ring, batch, 0, &n), 0);
    for (int64_t end_ns = in_ms(20000); ring->state == MAKING && rk_monotonic_ns() < end_ns;)
        usleep(1000);
    EXPECT(ring->state, READY);
    return ring;
}

/* One that is closed while it is being made, and one that cannot be made. */
static void check_no_ring(const struct rk_batch *batch)
{
    struct rk_txring *ring = NULL;
    EXPECT(rk_txring_open(&ring, (int)if_nametoindex("v0"), ARPHRD_ETHER), 0);
    ring->offered = MAKE_AFTER;
    uint32_t n = N;
    EXPECT(rk_txring_offer(ring, batch, 0, &n), 0);
    rk_txring_close(ring);

    EXPECT(rk_txring_open(&ring, (int)if_nametoindex("v0"), ARPHRD_ETHER), 0);
    close(ring->fd);
    ring->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ring->offered = MAKE_AFTER;
    for (int64_t end_ns = in_ms(20000); ring->state != REFUSED && rk_monotonic_ns() < end_ns;) {
        EXPECT(rk_txring_offer(ring, batch, 0, &n), 0);
        usleep(1000);
    }
    EXPECT(ring->state, REFUSED);
    EXPECT(rk_txring_offer(ring, batch, 0, &n), 0);
    EXPECT(n, N);
    rk_txring_close(ring);
}

int main(void)
{
    if (!enter_private_network() || make_pair() != 0) {
        printf("skipped: no veth pair here\n");
        return 77;
    }
    set_interface("v0", true, 1500, true);
    set_interface("v1", true, 1500, true);
    struct rk_batch *batch = make_frames(N);
    struct rk_txring *ring = check_making(batch);
    if (ring->state == READY) {
        int far = listen_on("v1");
        check_lengths(ring, batch, far);
        check_taken_back(ring, batch, far);
        check_left(ring, batch, far);
        close(far);
    }
    rk_txring_close(ring);
    rk_txring_close(NULL);
    check_no_ring(batch);
    drop_batch(batch);
    return result();
}
